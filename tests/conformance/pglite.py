"""`pglite`: a server with one backend for all is recognised, and its sessions come one by one.

The real npm packages, `@electric-sql/pglite-socket` in its default form: a second connection is
closed without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from tests.conformance import harness
from tests.conformance.fetching import program

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = ("@electric-sql/pglite@0.5.14", "@electric-sql/pglite-socket@0.2.17")
SERVER = "node_modules/@electric-sql/pglite-socket/dist/scripts/server.js"
CLIENTS = 4


def run(checks: harness.Checks, short: bool) -> None:
    """Parallel sessions, directly and through a guard; the short form has fewer of them."""
    sessions = 10 if short else 50
    with _pglite() as address:
        direct = asyncio.run(_sessions(address, sessions, 3.0))
        checks.note(f"directly {len(direct)} of {CLIENTS * sessions} sessions fail")
    with _pglite() as address:
        settings = {"limits.total": "20", "limits.pool_timeout": "60s"}
        with harness.Guard(address, settings) as guard:
            said = "PGlite 0.5.14 serves one connection at a time"
            checks.claim(said in guard.log, "recognised, and said at start", said)
            limit = guard.metrics().total("server_connections_limit")
            checks.claim(limit == 1, "server connections at once", f"{limit:.0f}", "1")
            started = time.monotonic()
            errors = asyncio.run(_sessions(guard.address, sessions))
            took = f"{time.monotonic() - started:.1f} s"
            served = f"{CLIENTS * sessions} sessions in {took}"
            checks.claim(not errors, f"{served} through pgguard, errors", len(errors), "0")
            for error in errors[:3]:
                checks.note(error)
            waiting = guard.metrics().total("client_waiting")
            checks.claim(waiting == 0, "left in the queue", f"{waiting:.0f}", "0")
            checks.claim(guard.running, "the guard lives")


async def _sessions(address: harness.Address, sessions: int, within: float = 120.0) -> list[str]:
    """Errors of sessions that come at the same time, each with a transaction of its own."""
    errors: list[str] = []

    async def use(client: int, number: int) -> None:
        try:
            connection = await psycopg.AsyncConnection.connect(
                address.url, application_name=f"client {client}", sslmode="disable"
            )
            async with connection:
                await connection.execute(
                    "CREATE TABLE IF NOT EXISTS booking (id int, tenant_id int)"
                )
                await connection.execute(f"INSERT INTO booking VALUES ({number}, {client})")
                await connection.execute("SELECT * FROM booking WHERE id > 3")
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    work = [asyncio.create_task(use(c, n)) for c in range(CLIENTS) for n in range(sessions)]
    _, hanging = await asyncio.wait(work, timeout=within)
    for task in hanging:
        task.cancel()
    return errors + ["no answer"] * len(hanging)


@contextlib.contextmanager
def _pglite() -> Iterator[harness.Address]:
    """A PGlite of our own on a free port."""
    node = program("node", "nodejs")
    directory = _installed()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [node, directory / SERVER, f"--port={port}", "--host=127.0.0.1"]
    log = Path(tempfile.mkdtemp(prefix="pgguard-pglite-"))
    with (log / "log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        listening = lambda: "listening" in (log / "log").read_text()  # noqa: E731
        if not asyncio.run(harness.eventually(listening, 60)):
            raise harness.Missing(f"PGlite did not start: {(log / 'log').read_text()[-300:]}")
        yield harness.Address("127.0.0.1", port, "postgres", "postgres", "postgres")
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(log, ignore_errors=True)


def _installed() -> Path:
    """The directory that holds the pinned packages."""
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    names = "-".join(name.rpartition("/")[2].replace("@", "-") for name in PACKAGES)
    directory = Path(home) / "pgguard-conformance" / names
    if not (directory / "complete").exists():
        npm = program("npm", "npm")
        directory.mkdir(parents=True, exist_ok=True)
        install = [npm, "install", "--prefix", directory, "--ignore-scripts", "--no-audit"]
        done = subprocess.run([*install, *PACKAGES], cwd=directory, capture_output=True, text=True)
        if done.returncode:
            raise harness.Missing(f"npm install {' '.join(PACKAGES)}: {done.stderr.strip()[-300:]}")
        (directory / "complete").touch()
    return directory
