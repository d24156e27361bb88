"""What pgguard is measured beside: PgBouncer in session mode, a bare relay, a scripted server.

Each is a context manager that yields where it listens and its process id, on a free loopback
port, and is ended by that process id.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conformance import fetching, harness

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGURATION = """
[databases]
{database} = host={host} port={port} user={user} password={password} dbname={database}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = trust
auth_file = {directory}/users
pool_mode = session
max_client_conn = 200
default_pool_size = 50
server_reset_query =
ignore_startup_parameters = extra_float_digits
logfile = {directory}/log
pidfile = {directory}/pid
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """Something that listens; `pid` is 0 where its time is not ours to measure."""

    name: str
    address: harness.Address
    pid: int


@contextlib.contextmanager
def pgbouncer(target: harness.Address) -> Iterator[Peer]:
    """PgBouncer, session mode; its clients are trusted, its server connections use SCRAM."""
    program = fetching.program("pgbouncer", "pgbouncer")
    said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"[\d.]+", said)
    directory = Path(tempfile.mkdtemp(prefix="pgguard-bench-"))
    address = target.at("127.0.0.1", _free_port())
    try:
        (directory / "users").write_text(f'"{target.user}" ""\n')
        settings = CONFIGURATION.format(
            database=target.database,
            host=target.host,
            port=target.port,
            user=target.user,
            password=target.password,
            listen=address.port,
            directory=directory,
        )
        (directory / "ini").write_text(settings)
        name = f"PgBouncer {found.group() if found else '?'}"
        command = [str(program), "-q", str(directory / "ini")]
        with _process(command, **_unprivileged(directory)) as process:
            _wait_for(address)
            yield Peer(name, address, process.pid)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def relay(target: harness.Address) -> Iterator[Peer]:
    """A bare uvloop relay."""
    fetching.python_module("uvloop")
    command = [sys.executable, "-m", "tests.bench.relay", target.host, str(target.port)]
    with _process(command, stdout=subprocess.PIPE) as process:
        yield Peer("uvloop relay", target.at("127.0.0.1", _told_port(process)), process.pid)


@contextlib.contextmanager
def scripted_server() -> Iterator[Peer]:
    """A server that lets everybody in; nobody needs a password."""
    command = [sys.executable, "-m", "tests.bench.scripted"]
    with _process(command, stdout=subprocess.PIPE) as process:
        address = harness.Address("127.0.0.1", _told_port(process), "bench", "", "bench")
        yield Peer("scripted server", address, process.pid)


def _unprivileged(directory: Path) -> dict[str, object]:
    """PgBouncer refuses to run as root: a user that exists, who then owns its directory."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("nobody")
    for path in (directory, *directory.iterdir()):
        os.chown(path, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def _process(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    process: subprocess.Popen[bytes] = subprocess.Popen(
        command,
        cwd=harness.ROOT,
        env=harness.clean_environment(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **options,  # type: ignore[call-overload]
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def _told_port(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def _free_port() -> int:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])


def _wait_for(address: harness.Address) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection((address.host, address.port), timeout=1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return
