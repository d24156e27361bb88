"""End a throw-away Postgres in any of its ways, and start the same cluster on the same port again.

Laws: `stop` returns when the postmaster has ended, `start` when connections are accepted; what the
old one left behind, be it after a SIGKILL, is recovered from, as a user's Postgres would.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, cast

import psycopg

from pgguard.launch.embedded import unprivileged_account

if TYPE_CHECKING:
    from pgguard.launch.embedded import EmbeddedPostgres

FAST, IMMEDIATE, KILL = signal.SIGINT, signal.SIGQUIT, signal.SIGKILL
WITHIN = 30.0


def stop(server: EmbeddedPostgres, how: signal.Signals) -> None:
    """FAST ends sessions with 57P01, IMMEDIATE with 57P02, KILL leaves them to find out."""
    process = server._process
    assert process is not None
    process.send_signal(how)
    process.wait(WITHIN)


def start(server: EmbeddedPostgres) -> None:
    """The same command once more; the orphans of a killed postmaster may keep it from starting."""
    before = server._process
    assert before is not None
    account = unprivileged_account() if os.geteuid() == 0 else None
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        with (server.directory / "postgres.log").open("ab") as log:
            server._process = subprocess.Popen(
                cast("list[str]", before.args),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **server._process_options(account),
            )
        while server._process.poll() is None and time.monotonic() < deadline:
            if is_ready(server):
                return
            time.sleep(0.02)
        time.sleep(0.05)
    raise AssertionError(f"Postgres did not start again: {server.directory / 'postgres.log'}")


def is_ready(server: EmbeddedPostgres) -> bool:
    try:
        psycopg.connect(server.url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
