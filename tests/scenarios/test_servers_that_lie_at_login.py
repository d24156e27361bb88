"""Bug class: a server that says at login what no Postgres says, or ends it at any step (R27, R28).

Laws of each lie: who comes gets one FATAL that says what happened, pgguard holds nothing for it,
and the same server, once it is honest, serves. Lies in SCRAM itself are of tests/core.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import pytest
from rawsession import RawSession
from scripted import CLOSE, GREETING, HANG, KEY, READY, RESET, TRUSTING, Hear, ScriptedServer, Step

from pgguard.wire import backend, codes
from pgguard.wire.startup import build_startup

if TYPE_CHECKING:
    from collections.abc import Callable

    from guard import RunningGuard

    Start = Callable[..., RunningGuard]

pytestmark = pytest.mark.slow

OK = backend.authentication_ok()
MESSAGES = [OK, GREETING, KEY, READY]
NOTICE = backend.notice_response(sqlstate="00000", message="n" * 1000)
STATUS = backend.parameter_status("name", "x" * 1000)
WRONG = backend.error_response(severity="FATAL", sqlstate="28000", message="not you")
SCRAM = backend.authentication_sasl([b"SCRAM-SHA-256"])
FLOOD = 1_200


def asks(request: int) -> bytes:
    return backend.message(codes.AUTHENTICATION, request.to_bytes(4, "big"))


def guarded(start: Start, server: ScriptedServer, password: str = "") -> RunningGuard:
    url = server.url.replace("user@", f"user:{password}@") if password else server.url
    times = {"limits__pool_timeout": "150ms", "upstream__connect_timeout": "300ms"}
    return start(url, limits__total=5, **times)


def refused(guard: RunningGuard) -> dict[str, str]:
    """The one error that a session gets, with nothing left behind it."""
    with RawSession.open_until_error(guard) as (session, error):
        assert error["S"] == "FATAL"
        assert error["M"]
        assert session.ended()
    guard.idle()
    assert guard.guard.hub.admission.held == 0
    return error


def serves_once_it_is_honest(guard: RunningGuard, server: ScriptedServer) -> None:
    server.scripts = [[Hear(), TRUSTING]]
    with RawSession.open(guard):
        assert [one.pid for one in guard.guard.hub.servers] == [4242]
    guard.idle()


def test_a_server_closed_at_each_step_of_a_login(start_guard: Start) -> None:
    """Between any two messages with a FIN, within each of them with a RST."""
    ends = [0, *accumulate(len(message) for message in MESSAGES[:-1])]
    with ScriptedServer([Hear(), TRUSTING]) as server:
        guard = guarded(start_guard, server)
        for end in ends:
            for how, more in ((CLOSE, 0), (RESET, 3)):
                server.scripts = [[Hear(), TRUSTING[: end + more], how]]
                assert refused(guard)["C"] == "57P03"
        serves_once_it_is_honest(guard, server)


@pytest.mark.parametrize(
    "told",
    [
        asks(2),
        asks(7),
        asks(9),
        asks(99),
        asks(codes.AUTH_SASL_CONTINUE),
        asks(codes.AUTH_SASL_FINAL),
        backend.message(codes.AUTHENTICATION, b"\0"),
    ],
    ids=["kerberos", "gss", "sspi", "unknown", "continue", "final", "short"],
)
def test_a_server_asked_for_a_proof_that_nobody_knows(start_guard: Start, told: bytes) -> None:
    with ScriptedServer([Hear(), told, HANG]) as server:
        guard = guarded(start_guard, server, "secret")
        with RawSession(guard.guard.listen) as session:
            session.send(build_startup(codes.PROTOCOL_3_0, {"user": "user", "database": "db"}))
            kind, body = session.message()
            if kind == codes.AUTHENTICATION:
                # Relayed as it came (T2): a client may know of what we do not.
                assert backend.message(kind, body) == told
            else:
                assert backend.decode_fields(body)["S"] == "FATAL"
                assert session.ended()
        guard.idle()
        assert guard.guard.hub.admission.held == 0
        assert all(b"secret" not in heard for heard in server.heard)


ELSEWHERE = {
    "ok twice": OK + OK + GREETING + KEY + READY,
    "asks on": OK + asks(codes.AUTH_CLEARTEXT) + READY,
    "early": GREETING + OK + KEY + READY,
    "ready first": READY + TRUSTING,
    "row": OK + backend.message(codes.DATA_ROW, b"\0\0") + GREETING + KEY + READY,
    "copy": OK + backend.message(codes.COPY_IN_RESPONSE, b"\0\0\0") + KEY + READY,
    "complete": OK + backend.message(codes.COMMAND_COMPLETE, b"SELECT 1\0") + READY,
}


@pytest.mark.session_mode
def test_a_server_said_at_login_what_belongs_elsewhere(start_guard: Start) -> None:
    """Nothing of it is shown to the client, who would take it for an answer."""
    with ScriptedServer([Hear(), TRUSTING]) as server:
        guard = guarded(start_guard, server)
        serves_once_it_is_honest(guard, server)
        for what, told in ELSEWHERE.items():
            server.scripts = [[Hear(), told]]
            assert "server " in refused(guard)["M"], what
        serves_once_it_is_honest(guard, server)


@pytest.mark.session_mode
def test_a_server_never_came_to_an_end(start_guard: Start) -> None:
    """Over a MiB of greeting is not kept, and not waited for."""
    with ScriptedServer([Hear(), TRUSTING]) as server:
        guard = guarded(start_guard, server)
        serves_once_it_is_honest(guard, server)
        for told in (STATUS, NOTICE):
            server.scripts = [[Hear(), OK + told * FLOOD, HANG]]
            assert "more than 1 MiB" in refused(guard)["M"]
        serves_once_it_is_honest(guard, server)


def test_a_server_let_us_in_in_the_middle_of_scram(start_guard: Start) -> None:
    """R28: without its signature it may be anybody; the client is not let in by it."""
    early: list[Step] = [Hear(), SCRAM, Hear(), TRUSTING, HANG]
    with ScriptedServer(early) as server:
        guard = guarded(start_guard, server, "secret")
        with RawSession.log_in(guard) as session:
            assert "server did not prove that it knows us" in session.error()["M"]
            assert session.ended()
        guard.idle()
        assert all(b"secret" not in heard for heard in server.heard)


def test_a_server_went_on_after_its_fatal(start_guard: Start) -> None:
    """R24: the FATAL is passed on as it is; a welcome behind it lets nobody in."""
    with ScriptedServer([Hear(), TRUSTING], [Hear(), WRONG + TRUSTING, HANG]) as server:
        guard = guarded(start_guard, server)
        error = refused(guard)
        assert (error["C"], error["M"]) == ("28000", "not you")
        serves_once_it_is_honest(guard, server)


def test_a_server_was_ready_twice(start_guard: Start) -> None:
    """The second one belongs to this session, and to nobody who comes after it."""
    with ScriptedServer([Hear(), TRUSTING], [Hear(), TRUSTING + READY]) as server:
        guard = guarded(start_guard, server)
        with RawSession.open(guard) as session:
            session.socket.close()
        guard.idle()
        serves_once_it_is_honest(guard, server)
