"""Bug class: small segments wait for acknowledgements that wait, too (reliability R35)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from rawsession import RawSession

if TYPE_CHECKING:
    from guard import RunningGuard

    from pgguard.app import Guard

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("side", ["session", "server"])
def test_a_statement_took_forty_milliseconds(guard: RunningGuard, side: str) -> None:
    """pgcat#749: TCP_NODELAY is set on both sides of a session, once it runs."""

    def answers_at_once(guard: Guard) -> bool:
        (place,) = guard.hub.places if side == "session" else guard.hub.servers
        sock = place.out._transport.get_extra_info("socket")
        return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    with RawSession.open(guard) as session:
        session.query("SELECT 1")
        assert guard.ask(answers_at_once)
    guard.idle()
