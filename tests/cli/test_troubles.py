"""Errors of an upstream and of a port: the server named, nothing twice, no number, a remedy."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from pgguard.cli.troubles import cause, remedy, taken, unavailable
from pgguard.errors import ServerUnavailable, SettingsError
from pgguard.net.listener import bind
from pgguard.settings import Address

PLACE = Address("127.0.0.1", 5778)


def refused(sqlstate: str, message: str) -> ServerUnavailable:
    return ServerUnavailable(message, fields={"C": sqlstate, "M": message}, temporary=False)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ServerUnavailable("cannot connect to 127.0.0.1:5778: Refused"), "Refused"),
        (ServerUnavailable("cannot connect to db:5778: Refused"), "cannot connect to db:5778: R"),
        (ServerUnavailable("service connection: [Errno 104] Reset by peer"), "Reset by peer"),
        (ServerUnavailable("cannot resolve 'x': [Errno -2] Not known"), "cannot resolve 'x': Not"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
        (OSError("odd"), "odd"),
    ],
)
def test_a_cause_has_neither_the_address_nor_a_number(error: Exception, said: str) -> None:
    assert cause(error, PLACE).startswith(said)


def test_the_line_names_server_source_cause_and_remedy_once() -> None:
    error = refused("28P01", 'password authentication failed for user "app"')
    assert str(unavailable(error, PLACE, "DATABASE_URL", "10s")) == (
        '127.0.0.1:5778 (from DATABASE_URL): password authentication failed for user "app"; CMD not'
        " started (correct user and password of DATABASE_URL)"
    )
    down = ServerUnavailable("cannot connect to 127.0.0.1:5778: Connection refused")
    assert str(unavailable(down, PLACE, "--upstream", "3s")) == (
        "127.0.0.1:5778 (from --upstream): Connection refused, tried for 3s (upstream.wait); CMD"
        " not started (start Postgres, or correct host and port of --upstream)"
    )


def test_a_time_that_has_been_said_is_not_said_again() -> None:
    silent = ServerUnavailable("Postgres did not answer within 3 s (upstream.wait)")
    text = str(unavailable(silent, PLACE, "PGHOST", "3s"))
    assert text.count("upstream.wait") == 1
    assert text.startswith("127.0.0.1:5778 (from PGHOST): Postgres did not answer within 3 s")


@pytest.mark.parametrize(
    ("sqlstate", "words"),
    [("28P01", "password"), ("3D000", "create"), ("53300", "close"), ("XX000", "start Postgres")],
)
def test_what_postgres_refuses_has_a_remedy_of_its_own(sqlstate: str, words: str) -> None:
    assert words in remedy(refused(sqlstate, "no"))


def test_a_name_that_is_not_known_is_not_cured_by_starting_postgres() -> None:
    error = ServerUnavailable("cannot resolve 'x': Name or service not known")
    assert remedy(error, "DATABASE_URL") == "correct the host in DATABASE_URL"


def test_a_port_that_is_taken_is_named_with_its_holder_where_that_can_be_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(SettingsError) as caught:
            bind("127.0.0.1", port, what="--listen")
        told = taken(caught.value, Address("127.0.0.1", port))
    assert f"127.0.0.1:{port}" in told.message
    assert told.where == "--listen"
    assert "choose another with --listen HOST:PORT" in told.hint
    if Path("/proc/net/tcp").exists():
        assert f" (pid {os.getpid()}) has that port" in told.message


def test_another_error_of_a_port_stays_as_it_is() -> None:
    error = SettingsError("cannot listen", where="--listen")
    assert taken(error, PLACE) is error
