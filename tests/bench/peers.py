"""What pgguard is measured beside: PgBouncer, a bare relay, a scripted server.

Each is a context manager that yields where it listens and its process id, on a free loopback
port, and is ended by that process id. What they are loaded with is here too: pgbench, and a
Postgres that lets in by password or without.
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

import psycopg

from tests.conformance import fetching, harness

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONFIGURATION = """
[databases]
{database} = host={host} port={port} user={user} password={password} dbname={database}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = {method}
auth_file = {directory}/users
pool_mode = {mode}
max_client_conn = 200
default_pool_size = 50
{prepares}server_reset_query =
ignore_startup_parameters = extra_float_digits
logfile = {directory}/log
pidfile = {directory}/pid
"""
ONCE = "server_lifetime = 0\n"
"""A server connection is for one client and then closed, as the guard's are."""

ENCRYPTED = """\
client_tls_sslmode = require
client_tls_key_file = {directory}/key.pem
client_tls_cert_file = {directory}/cert.pem
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """Something that listens; `pid` is 0 where its time is not ours to measure."""

    name: str
    address: harness.Address
    pid: int
    encrypts: bool = False
    """Its clients use TLS."""


@contextlib.contextmanager
def postgres(settings: Mapping[str, str], *, trust: bool) -> Iterator[harness.Postgres]:
    """A Postgres that asks for SCRAM, or lets everybody on this machine in."""
    with tempfile.TemporaryDirectory(prefix="pgguard-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        rules = directory / "pg_hba.conf"
        rules.write_text(f"host all all 127.0.0.1/32 {'trust' if trust else 'scram-sha-256'}\n")
        with harness.postgres(settings={**settings, "hba_file": str(rules)}) as server:
            yield server


def verifier(address: harness.Address) -> str:
    """What Postgres keeps of the password: who has it derives nothing at a login."""
    with psycopg.connect(**address.libpq()) as connection:  # type: ignore[arg-type]
        query = "SELECT rolpassword FROM pg_authid WHERE rolname = %s"
        row = connection.execute(query, (address.user,)).fetchone()
    assert row is not None
    return str(row[0])


@contextlib.contextmanager
def certificate() -> Iterator[Path]:
    """A directory with `cert.pem` and `key.pem` for 127.0.0.1."""
    fetching.python_module("trustme")
    import trustme

    with tempfile.TemporaryDirectory(prefix="pgguard-bench-") as name:
        issued = trustme.CA().issue_cert("127.0.0.1", "localhost")
        issued.private_key_pem.write_to_path(str(Path(name) / "key.pem"))
        (Path(name) / "cert.pem").write_bytes(issued.cert_chain_pems[0].bytes())
        yield Path(name)


def guard_settings(files: Path | None) -> dict[str, str]:
    """The settings of a guard that takes its clients in TLS, where there is a certificate."""
    if files is None:
        return {}
    return {
        "listen.tls": "require",
        "listen.cert": str(files / "cert.pem"),
        "listen.key": str(files / "key.pem"),
    }


def pgbench(
    command: list[str], address: harness.Address, arguments: list[str], *, tls: bool = False
) -> float:
    """Run pgbench; its transactions per second, 0 for an initialisation."""
    environment = harness.clean_environment() | address.environment()
    done = subprocess.run(
        [*command, *arguments],
        env=environment | ({"PGSSLMODE": "require"} if tls else {}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        raise AssertionError(f"pgbench {' '.join(arguments)}: {done.stderr.strip()[-500:]}")
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    return float(found.group(1)) if found else 0.0


@contextlib.contextmanager
def pgbouncer(
    target: harness.Address,
    verifier: str = "",
    *,
    once: bool = False,
    certificate: Path | None = None,
    program: Path | None = None,
    mode: str = "session",
) -> Iterator[Peer]:
    """PgBouncer; its server connections use SCRAM where Postgres asks for it.

    Its clients are trusted, or with a `verifier` use SCRAM, and TLS with a `certificate`. `once`:
    no server connection serves a second client.
    """
    program = program or fetching.program("pgbouncer", "pgbouncer")
    said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"[\d.]+", said)
    directory = Path(tempfile.mkdtemp(prefix="pgguard-bench-"))
    address = target.at("127.0.0.1", _free_port())
    try:
        (directory / "users").write_text(f'"{target.user}" "{verifier}"\n')
        settings = CONFIGURATION.format(
            database=target.database,
            host=target.host,
            port=target.port,
            user=target.user,
            password=target.password,
            listen=address.port,
            method="scram-sha-256" if verifier else "trust",
            directory=directory,
            mode=mode,
            prepares="max_prepared_statements = 200\n" if mode == "transaction" else "",
        )
        if once:
            settings += ONCE
        if certificate is not None:
            for file in certificate.iterdir():
                shutil.copy(file, directory)
            settings += ENCRYPTED.format(directory=directory)
        (directory / "ini").write_text(settings)
        name = f"PgBouncer {found.group() if found else '?'}{', a server each' if once else ''}"
        command = [str(program), "-q", str(directory / "ini")]
        with _process(command, **_unprivileged(directory)) as process:
            _wait_for(address)
            yield Peer(name, address, process.pid, encrypts=certificate is not None)
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
