"""Peers that mean harm: what they must not get, and what they must not cost the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from guard import until
from rawsession import RawSession
from scripted import HANG, TRUSTING, Hear, ScriptedServer, Step

from pgguard.net.dialer import PROBES
from pgguard.wire import backend
from pgguard.wire.codes import PROTOCOL_3_0
from pgguard.wire.startup import build_startup

if TYPE_CHECKING:
    from collections.abc import Callable

    from guard import RunningGuard

    Start = Callable[..., RunningGuard]

pytestmark = pytest.mark.slow


def test_our_password_opens_no_door_to_whom_postgres_trusts_no_more(start_guard: Start) -> None:
    trusts: list[Step] = [Hear(), TRUSTING]
    wants_password: list[Step] = [Hear(), backend.authentication_cleartext(), Hear(), TRUSTING]
    with ScriptedServer(trusts, trusts, wants_password) as server:
        guard = start_guard(server.url, limits__total=5, secrets={"app": "s3cret"})
        until(lambda: server.heard, "the service connection; what asks for app's method is next")
        with RawSession.log_in(guard, user="app") as session:
            error = session.error()
            assert (error["S"], error["C"]) == ("FATAL", "28P01")
            assert session.ended()
        guard.idle()
        assert not any(b"s3cret" in heard for heard in server.heard)


def test_a_crowd_of_unknown_users_takes_few_connections_of_postgres(start_guard: Start) -> None:
    with ScriptedServer([Hear(), HANG]) as server:
        guard = start_guard(
            server.url,
            limits__total=5,
            upstream__connect_timeout="300ms",
            limits__pool_timeout="1s",
        )
        crowd = [RawSession(guard.guard.listen) for _ in range(50)]
        for number, session in enumerate(crowd):
            session.send(build_startup(PROTOCOL_3_0, {"user": f"nobody{number}"}))
        until(lambda: len(guard.guard.hub.places) == len(crowd), "all of them")
        until(lambda: len(of_crowd(server)) >= PROBES, "the first probes")
        assert len(of_crowd(server)) == PROBES
        for session in crowd:
            session.socket.close()
        guard.idle()
        # Of whom nobody waits any more nothing is asked.
        until(lambda: not guard.guard.hub.upstream.methods.probing, "the end of the probes")
        assert len(of_crowd(server)) <= 3 * PROBES


def of_crowd(server: ScriptedServer) -> list[bytes]:
    return [heard for heard in server.heard if b"nobody" in heard]
