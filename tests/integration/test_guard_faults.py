"""A bad network on either side, servers that lie after login, clients that vanish in any state."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from faults import HANG, RESET, At, Relay, Toxics
from guard import until
from rawsession import RawSession
from scripted import GREETING, KEY, READY, TRUSTING, Hear, ScriptedServer, Step
from scripted import HANG as SILENT

from pgguard.wire import backend, codes, frontend

if TYPE_CHECKING:
    from collections.abc import Callable

    from guard import RunningGuard

    Start = Callable[..., RunningGuard]

pytestmark = pytest.mark.slow

ROW = backend.message(codes.DATA_ROW, b"\0\1\0\0\0\1x")
ANSWER = ROW + backend.message(codes.COMMAND_COMPLETE, b"SELECT 1\0") + READY
NOTICE = backend.notice_response(severity="NOTICE", sqlstate="00000", message="n" * 100)
STATUS = backend.parameter_status("client_encoding", "UTF8")
FATAL = backend.error_response(severity="FATAL", sqlstate="57P01", message="over")


def through(database: Any, relay: Relay) -> str:
    url = f"postgresql://{database.user}:{database.password}@127.0.0.1:{relay.port}"
    return f"{url}/{database.name}?sslmode=disable"


# The network


@pytest.mark.parametrize("size", [1, 7])
def test_a_network_that_slices_changes_nothing(
    start_guard: Start, database: Any, size: int
) -> None:
    sliced = Toxics(slice=size)
    with Relay(database.host, database.port, up=sliced, down=sliced) as far:
        guard = start_guard(through(database, far))
        with Relay(*guard.guard.listen, up=sliced, down=sliced) as near:
            url = through(database, near)
            with psycopg.connect(url, autocommit=True) as connection:
                for number in range(20):
                    text = f"{number}" * 30
                    assert connection.execute("SELECT %s::text", [text]).fetchone() == (text,)
        guard.idle()


@pytest.mark.parametrize("leg", ["near", "far"])
@pytest.mark.parametrize("toxics", [Toxics(slice=1), Toxics(delay=0.02), Toxics(slice=5)])
def test_a_query_before_leaving_commits_wherever_the_network_cuts(
    start_guard: Start, database: Any, leg: str, toxics: Toxics
) -> None:
    """Query, Terminate and the end of the connection come together, apart, and in pieces."""
    ends = [frontend.terminate(), frontend.terminate()[:-2], b""]
    with (
        psycopg.connect(database.url, autocommit=True) as admin,
        Relay(database.host, database.port) as far,
    ):
        admin.execute("CREATE TABLE t (a int)")
        guard = start_guard(through(database, far))
        with Relay(*guard.guard.listen) as near:
            relay = near if leg == "near" else far
            relay.up, relay.down = toxics, toxics
            for number, goodbye in enumerate(ends):
                via = ("127.0.0.1", near.port) if leg == "near" else None
                with RawSession.open(guard, via=via) as session:
                    query = f"SELECT pg_sleep(0.02); INSERT INTO t VALUES ({number})"
                    session.send(frontend.query(query.encode()) + goodbye)
                come = partial(admin.execute, "SELECT 1 FROM t WHERE a = %s", [number])
                until(lambda come=come: come().fetchone(), "the row")
            guard.idle()


def test_a_server_that_is_reset_within_a_message_ends_one_session_only(
    start_guard: Start, database: Any
) -> None:
    with Relay(database.host, database.port) as far:
        guard = start_guard(through(database, far))
        with RawSession.open(guard) as victim, RawSession.open(guard) as other:
            port = victim.query("SELECT inet_client_port()")[1][1][6:].decode()
            (link,) = [link for link in far.alive if link.port == int(port)]
            link.down = Toxics(at=At(link.received.messages + 1, 4, RESET))
            victim.send(frontend.query(b"SELECT 1"))
            with pytest.raises(EOFError):
                victim.until_ready()
            assert other.query("SELECT 2")
        until(lambda: guard.guard.hub.admission.held == 0, "the slots")


@pytest.mark.parametrize("messages", [0, 1, 2])
def test_a_server_that_goes_deaf_at_login_is_given_up_in_time(
    start_guard: Start, database: Any, messages: int
) -> None:
    deaf = Toxics(at=At(messages, 1, HANG))
    with Relay(database.host, database.port, up=deaf) as far:
        guard = start_guard(
            through(database, far),
            limits__total=5,
            limits__pool_timeout="400ms",
            upstream__connect_timeout="300ms",
        )
        with pytest.raises(psycopg.OperationalError, match="Postgres is not ready"):
            psycopg.connect(guard.url())
        until(lambda: guard.guard.hub.admission.held == 0, "the slots")


# Servers that lie


@pytest.mark.parametrize(
    ("told", "heard"),
    [
        (READY + ANSWER, codes.READY_FOR_QUERY),
        (backend.message(0x7F, b"what is this") + ANSWER, 0x7F),
        (NOTICE * 2000 + ANSWER, codes.NOTICE_RESPONSE),
        (STATUS * 2000 + ANSWER, codes.PARAMETER_STATUS),
        (KEY + ANSWER, codes.BACKEND_KEY_DATA),
        (backend.message(codes.PARAMETER_STATUS, b"no end") + ANSWER, codes.PARAMETER_STATUS),
    ],
    ids=["ready twice", "unknown type", "notices", "settings", "key", "no terminator"],
)
@pytest.mark.session_mode
def test_what_a_server_says_out_of_turn_reaches_its_own_session_and_nobody_else(
    start_guard: Start, told: bytes, heard: int
) -> None:
    script: list[Step] = [Hear(), TRUSTING, Hear(), told]
    with ScriptedServer([Hear(), TRUSTING], script) as server:
        guard = start_guard(server.url, limits__total=5)
        with RawSession.open(guard) as session:
            session.send(frontend.query(b"SELECT 1"))
            assert session.message()[0] == heard
        guard.idle()


@pytest.mark.parametrize("key", [b"", KEY + backend.backend_key_data(7, b"else")])
def test_a_server_without_a_key_or_with_two_serves_all_the_same(
    start_guard: Start, key: bytes
) -> None:
    trusting = backend.authentication_ok() + GREETING + key + READY
    script: list[Step] = [Hear(), trusting, Hear(), ANSWER]
    with ScriptedServer(script) as server:
        guard = start_guard(server.url, limits__total=5)
        with RawSession.open(guard) as session:
            assert session.query("SELECT 1")[-1] == (codes.READY_FOR_QUERY, b"I")
        guard.idle()


def test_a_server_that_goes_on_after_a_fatal_is_heard_no_more(start_guard: Start) -> None:
    script: list[Step] = [Hear(), TRUSTING, Hear(), FATAL, FATAL + ANSWER, SILENT]
    with ScriptedServer(script) as server:
        guard = start_guard(server.url, limits__total=5)
        with RawSession.open(guard) as session:
            session.send(frontend.query(b"SELECT 1"))
            assert session.error()["C"] == "57P01"
            assert session.ended()


# Clients that vanish (transparency T30)

STATES: dict[str, bytes] = {
    "idle": b"",
    "in a transaction": frontend.query(b"BEGIN; SELECT 1"),
    "running": frontend.query(b"SELECT pg_sleep(0.3)"),
    "copying in": frontend.query(b"COPY t FROM STDIN"),
    "copying out": frontend.query(b"COPY (SELECT generate_series(1, 200000)) TO STDOUT"),
    "without a sync": frontend.parse_message(b"", b"SELECT 1") + frontend.flush(),
    "half a header": frontend.query(b"SELECT 1")[:3],
    "half a message": frontend.query(b"INSERT INTO t VALUES (9)")[:-4],
}


@pytest.mark.parametrize("state", STATES)
def test_a_client_that_vanishes_leaves_nothing(guard: RunningGuard, state: str) -> None:
    for leave in ("close", "reset", "terminate"):
        session = RawSession.open(guard)
        if STATES[state]:
            session.send(STATES[state])
        if leave == "terminate":
            session.send(frontend.terminate())
        if leave == "reset":
            session.reset()
        else:
            session.socket.close()
    guard.idle()
    assert guard.guard.hub.admission.held == 0


@pytest.mark.parametrize("messages", [0, 1, 2])
def test_a_client_that_vanishes_at_login_leaves_nothing(
    guard: RunningGuard, database: Any, messages: int
) -> None:
    for how in (RESET, "close"):
        for more in (0, 3):
            up = Toxics(at=At(messages, more, how))
            with (
                Relay(*guard.guard.listen, up=up) as near,
                pytest.raises(psycopg.OperationalError),
            ):
                psycopg.connect(through(database, near))
    guard.idle()
