"""Corners of the protocol: keys of every length, versions to come, cancels, errors without a code.

Laws: what Postgres would say to a startup packet is asked of a Postgres; what no Postgres does yet
is done by a scripted server.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from guard import WITHIN, until
from rawsession import RawSession
from scripted import GREETING, READY, Hear, ScriptedServer, Step
from tls import client_context, files

from pgguard.wire import backend, codes, frontend
from pgguard.wire.startup import build_cancel, build_startup

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from guard import RunningGuard

    Start = Callable[..., RunningGuard]

pytestmark = [pytest.mark.slow, pytest.mark.session_mode]

ANSWER = backend.message(codes.COMMAND_COMPLETE, b"SELECT 1\0") + READY
LONG_SLEEP = frontend.query(b"SELECT pg_sleep(30)")
SLEEP = frontend.query(b"SELECT pg_sleep(0.3), 'mine'")


def cancel(guard: RunningGuard, pid: int, secret: bytes) -> None:
    """As libpq does: returns when the guard has closed the connection, without a word."""
    with socket.create_connection(guard.guard.listen, WITHIN) as sock:
        sock.sendall(build_cancel(pid, secret))
        assert sock.recv(1) == b""


# Keys


@pytest.mark.parametrize(("protocol", "ours"), [(0x30000, 4), (0x30002, 32)])
@pytest.mark.parametrize("theirs", [4, 5, 32, 256])
def test_a_server_is_told_its_own_key_and_a_client_has_ours(
    start_guard: Start, protocol: int, ours: int, theirs: int
) -> None:
    key = bytes(range(theirs))
    told = backend.authentication_ok() + GREETING + backend.backend_key_data(4242, key) + READY
    script: list[Step] = [Hear(), told, Hear()]
    with ScriptedServer(script) as server:
        guard = start_guard(server.url, limits__total=5)
        with RawSession.log_in(guard, protocol=protocol) as session:
            session.until_ready()
            assert (session.pid, len(session.secret)) == (4242, ours)
            session.send(SLEEP)
            until(lambda: SLEEP in b"".join(server.heard), "the query")
            for length in {1, 4, 32, 256} - {ours}:
                cancel(guard, 4242, (session.secret * 64)[:length])
            assert guard.guard.hub.counters.cancels == 0
            # This server never closes what a cancel came on: nobody but the cancel waits for it.
            with socket.create_connection(guard.guard.listen, WITHIN) as asking:
                asking.sendall(build_cancel(4242, session.secret))
                until(lambda: build_cancel(4242, key) in server.heard, "the cancel")
            assert guard.guard.hub.counters.cancels == 1
        guard.idle()


def test_a_key_of_a_length_that_there_is_not_is_a_server_that_lies(start_guard: Start) -> None:
    head = backend.authentication_ok() + GREETING
    for length in (3, 257):
        told = head + backend.backend_key_data(4242, bytes(length)) + READY
        with ScriptedServer([Hear(), told]) as server:
            guard = start_guard(server.url, limits__total=5, limits__pool_timeout="100ms")
            with RawSession.log_in(guard) as session:
                assert session.error()["S"] == "FATAL"
                assert session.ended()
            guard.idle()


# Versions and options


@pytest.mark.parametrize(
    ("version", "options"),
    [
        (0x3270F, {}),
        (0x3270F, {"_pq_.test_protocol_negotiation": ""}),
        (0x30003, {"_pq_.a": "1", "_pq_.b": "2"}),
        (0x30002, {}),
        (0x30002, {"_pq_.a": "1"}),
        (0x30001, {}),
        (0x30000, {"_pq_.": "1", "_pq_.a": "1"}),
        (0x30000, {}),
    ],
)
def test_versions_and_options_to_come_are_answered_as_by_postgres(
    guard: RunningGuard, database: Any, version: int, options: dict[str, str]
) -> None:
    """Once, or not at all; 3.2 is spoken by us whatever the server speaks, and by Postgres 18."""
    with RawSession.open(guard) as session:
        newest = (
            0x30002 if int(session.parameters["server_version"].split(".")[0]) >= 18 else 0x30000
        )
    words = {"user": database.user, "database": database.name, **options}
    directly = answers((database.host, database.port), words, version)
    expected = [(min(version, 0x30002), list(options))] if version > 0x30002 or options else []
    assert answers(guard.guard.listen, words, version) == expected
    if newest == 0x30002 or version == 0x30000:
        assert directly == expected
    else:
        assert directly == [(newest, list(options))]


def answers(
    address: tuple[str, int], words: dict[str, str], version: int
) -> list[tuple[int, list[str]]]:
    """The version and the names of each NegotiateProtocolVersion before the server asks who."""
    told = []
    with RawSession(address) as session:
        session.send(build_startup(version, words))
        while (message := session.message())[0] == codes.NEGOTIATE_PROTOCOL_VERSION:
            told.append(backend.decode_negotiate(message[1]))
        assert message[0] == codes.AUTHENTICATION
    return told


# Cancels


def until_asleep(database: Any, sessions: int) -> None:
    """A cancel that overtakes its statement ends nothing, as directly."""
    asleep = (
        "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )
    with psycopg.connect(database.url, autocommit=True) as looker:
        until(lambda: len(looker.execute(asleep).fetchall()) == sessions, "the statements")


def test_a_cancel_ends_the_statement_of_its_own_session_alone(
    guard: RunningGuard, database: Any
) -> None:
    with (
        RawSession.open(guard, application_name="one") as first,
        RawSession.open(guard, application_name="one") as second,
    ):
        first.send(LONG_SLEEP)
        second.send(LONG_SLEEP)
        until_asleep(database, 2)
        cancel(guard, first.pid, second.secret)
        cancel(guard, first.pid, first.secret)
        assert first.error()["C"] == "57014"
        until_asleep(database, 1)
        cancel(guard, second.pid, second.secret)
        assert second.error()["C"] == "57014"


def test_who_waits_in_the_queue_has_no_key(start_guard: Start, database: Any) -> None:
    guard = start_guard(database.url, limits__connection_limit=1)
    with (
        RawSession.open(guard, application_name="one") as first,
        RawSession.log_in(guard, application_name="one") as waiting,
    ):
        until(lambda: guard.client("one").share.waiting == 1, "the queue")
        first.send(SLEEP)
        for pid in (first.pid, 0):
            cancel(guard, pid, bytes(4))
        assert codes.DATA_ROW in [kind for kind, _ in first.until_ready()]
        first.send(frontend.terminate())
        waiting.until_ready()
        assert waiting.query("SELECT 1")[-1] == (codes.READY_FOR_QUERY, b"I")


def test_a_cancel_may_come_in_tls_from_the_first_byte(
    start_guard: Start, database: Any, tmp_path: Path
) -> None:
    pem = files(tmp_path / "ours")
    guard = start_guard(database.url, listen__cert=str(pem.cert), listen__key=str(pem.key))
    with RawSession.open(guard) as session:
        session.send(LONG_SLEEP)
        until_asleep(database, 1)
        sock = socket.create_connection(guard.guard.listen, WITHIN)
        with client_context(pem).wrap_socket(sock, server_hostname="localhost") as tls:
            tls.sendall(build_cancel(session.pid, session.secret))
            assert tls.recv(1) == b""
        assert session.error()["C"] == "57014"


# Calls


def test_a_function_is_called_by_its_number(guard: RunningGuard) -> None:
    """int4pl(2, 3), in binary; then a number that is none, and the session lives."""
    two, three = struct.pack(">ii", 4, 2), struct.pack(">ii", 4, 3)
    with RawSession.open(guard) as session:
        for number, kind in ((177, 0x56), (1, codes.ERROR_RESPONSE), (177, 0x56)):
            head = struct.pack(">Ihhh", number, 1, 1, 2)
            session.send(backend.message(0x46, head + two + three + struct.pack(">h", 1)))
            got = session.until_ready()
            assert [kind for kind, _ in got] == [kind, codes.READY_FOR_QUERY]
        assert got[0][1] == struct.pack(">ii", 4, 5)


# Errors without a code


@pytest.mark.parametrize(
    "fields", [b"\0", b"Mno code\0\0", b"SFATAL\0Mno code\0\0", b"SERROR\0C\0M\0\0", b"M"]
)
def test_an_error_without_a_code_passes_as_it_came(start_guard: Start, fields: bytes) -> None:
    told = backend.authentication_ok() + GREETING + READY
    error = backend.message(codes.ERROR_RESPONSE, fields)
    with ScriptedServer([Hear(), told, Hear(), error + ANSWER]) as server:
        guard = start_guard(server.url, limits__total=5)
        with RawSession.open(guard) as session:
            session.send(frontend.query(b"SELECT 1"))
            assert session.message() == (codes.ERROR_RESPONSE, fields)
        guard.idle()


@pytest.mark.parametrize("asked", [b"", backend.authentication_ok()], ids=["at once", "later"])
@pytest.mark.parametrize("fields", [b"\0", b"Mno code\0\0"])
def test_a_login_that_is_refused_without_a_code_ends_in_an_error(
    start_guard: Start, asked: bytes, fields: bytes
) -> None:
    error = backend.message(codes.ERROR_RESPONSE, fields)
    with ScriptedServer([Hear(), asked + error, "close"]) as server:
        guard = start_guard(server.url, limits__total=5, limits__pool_timeout="200ms")
        with RawSession(guard.guard.listen) as session:
            session.send(build_startup(codes.PROTOCOL_3_0, {"user": "user", "database": "db"}))
            said = session.error()
            assert "no code" in said.get("M", "") or fields == b"\0"
            assert session.ended()
        guard.idle()
