"""Bug class: SIGTERM waits for clients that have no thought of leaving (reliability R42)."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from commands import environment, start_pgguard
from guard import WITHIN, until
from rawsession import RawSession

from pgguard.wire import codes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from guard import RunningGuard

    Start = Callable[..., RunningGuard]

pytestmark = pytest.mark.slow

FREE = ("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ready-json")


def test_a_stop_waited_for_idle_clients_until_docker_killed_it(
    tmp_path: Path, database: Any
) -> None:
    """pgbouncer#834, #902: a pool of idle connections, one that says nothing, one half a start-up.

    Each idle session is told 57P01, the process ends with 0, and Postgres has none of it left.
    """
    command = ("serve", *FREE, "--upstream", database.url)
    process = start_pgguard(*command, cwd=tmp_path, env=environment())
    assert process.stdout is not None
    try:
        told = json.loads(process.stdout.readline())
        with ExitStack() as stack:
            pool = [stack.enter_context(psycopg.connect(told["url"])) for _ in range(5)]
            for half in (b"", b"\0\0"):
                silent = socket.create_connection((told["host"], told["port"]))
                stack.enter_context(silent).sendall(half)
            process.terminate()
            _, said = process.communicate(timeout=30)
            assert process.returncode == 0, said
            for session in pool:
                with pytest.raises(psycopg.errors.AdminShutdown):
                    session.execute("SELECT 1")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    with psycopg.connect(database.url) as admin:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        assert admin.execute(query, [database.name]).fetchone() == (1,)


def test_new_clients_were_let_in_while_a_stop_went_on(start_guard: Start, database: Any) -> None:
    """pgcat#157, odyssey: the loop that accepts looks at the stop; who runs a statement ends it."""
    guard = start_guard(database.url)
    with RawSession.open(guard) as running, RawSession.open(guard) as idle:
        running.query("BEGIN")
        stopping = threading.Thread(target=guard.stop, args=(WITHIN,))
        stopping.start()
        until(lambda: refused(guard.guard.listen), "a closed door")
        # It is told at once, and not after the time that others get.
        assert idle.error()["C"] == "57P01"
        assert running.query("COMMIT")[-1] == (codes.READY_FOR_QUERY, b"I")
        assert running.error()["C"] == "57P01"
        assert running.ended()
        stopping.join(WITHIN)
    assert not stopping.is_alive()


def refused(address: tuple[str, int]) -> bool:
    """Whether nobody listens there; at the stop itself one may still be told so in words."""
    try:
        with socket.create_connection(address):
            return False
    except ConnectionRefusedError:
        return True
