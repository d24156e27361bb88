"""Where sessions come in: all of it or nothing."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from pgguard.errors import SettingsError
from pgguard.net.doors import DEFAULT_PORT, Doors
from pgguard.settings.values import Address

if TYPE_CHECKING:
    from pathlib import Path

ANY = Address("127.0.0.1", 0)


def test_a_socket_beside_a_port_has_its_number(sockets: Path) -> None:
    doors = Doors(ANY, str(sockets))
    assert doors.tcp is not None
    assert doors.main == doors.tcp
    assert doors.unix == Address(str(sockets), doors.tcp.port)
    assert len(doors.sockets) == 2
    assert (sockets / f".s.PGSQL.{doors.tcp.port}").is_socket()
    doors.close()
    assert list(sockets.iterdir()) == []


def test_a_socket_alone_has_the_usual_number(sockets: Path) -> None:
    doors = Doors(None, str(sockets))
    assert doors.main == doors.unix == Address(str(sockets), DEFAULT_PORT)
    assert doors.tcp is None
    assert [sock.family for sock in doors.sockets] == [socket.AF_UNIX]
    doors.close()


def test_what_is_open_already_is_closed_when_the_rest_cannot_be_had(sockets: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(SettingsError, match="No such file or directory"):
        Doors(Address("127.0.0.1", port), str(sockets / "none"))
    socket.create_server(("127.0.0.1", port)).close()


def test_no_door_at_all_is_an_error() -> None:
    with pytest.raises(SettingsError, match="nothing to listen on"):
        Doors(None, None)
