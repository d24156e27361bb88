"""Bug class: each side waits for the other to read (reliability R8)."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from guard import WITHIN, until
from rawsession import RawSession
from tls import files

from pgguard.wire import codes, frontend
from pgguard.wire.codes import BACKEND_LIMIT
from pgguard.wire.scan import Framer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from guard import RunningGuard

    Start = Callable[..., RunningGuard]

pytestmark = pytest.mark.slow

VALUE = bytes(range(256)) * 1_600
RECEIVED = 64 * 1024
TIMES = 120
"""48 MB each way: more than what the sockets on the way hold."""
ONE = (
    frontend.parse_message(b"", b"SELECT $1::bytea")
    + frontend.bind_message(b"", b"", [VALUE], [1], [1])
    + frontend.execute_message(b"")
    + frontend.sync()
)


@pytest.mark.session_mode
def test_large_messages_stood_still_both_ways_for_ever(start_guard: Start, database: Any) -> None:
    """odyssey#1475, autopg#14: who has sent until nothing moves any more reads, and it moves on.

    Postgres waits for its answers to be taken, pgguard for both, the client for pgguard.
    """
    guard = start_guard(database.url)
    for listening in guard.guard._doors.sockets:
        # Inherited: the system may let a receiver hold more than all that is asked here.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED)
    asked = memoryview(ONE * TIMES)
    with (
        psycopg.connect(database.url, autocommit=True) as admin,
        RawSession.open(guard) as session,
    ):
        session.socket.setblocking(False)
        sent = 0
        query = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"

        def stands_still() -> bool:
            nonlocal sent
            before = sent
            while sent < len(asked) and select.select([], [session.socket], [], 0.05)[1]:
                sent += session.socket.send(asked[sent:])
            waiting = admin.execute(query, [session.pid]).fetchone() == ("ClientWrite",)
            return (waiting and sent == before) or sent == len(asked)

        until(stands_still, "two full directions")
        assert sent < len(asked)
        framer, answers = Framer(BACKEND_LIMIT, "server"), 0
        while answers < TIMES:
            writing = [session.socket] if sent < len(asked) else []
            readable, writable, _ = select.select([session.socket], writing, [], WITHIN)
            assert readable or writable, (sent, answers)
            if writable:
                sent += session.socket.send(asked[sent:])
            if readable:
                framer.push(session.socket.recv(1 << 20))
            while (message := framer.take()) is not None:
                if message[0] == codes.DATA_ROW:
                    assert message[1].endswith(VALUE)
                    answers += 1
    guard.idle()


def test_a_driver_sent_a_pipeline_of_large_values_in_tls(
    start_guard: Start, database: Any, tmp_path: Path
) -> None:
    """The same as psycopg does it, which reads while it writes."""
    pem = files(tmp_path / "guard")
    guard = start_guard(database.url, listen__cert=str(pem.cert), listen__key=str(pem.key))
    with guard.connect("one", sslmode="require") as session:
        with session.pipeline():
            cursors = [session.execute("SELECT %b::bytea", [VALUE]) for _ in range(20)]
        assert all(cursor.fetchone() == (VALUE,) for cursor in cursors)
    guard.idle()
