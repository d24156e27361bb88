"""A throw-away Postgres: made, started, stopped and removed by us, whoever we run as.

`EmbeddedPostgres` is a context manager, plain and asynchronous. Its directory, below the system's
temporary directory, holds `owner.json` (who started it), `data`, the log and, where an unprivileged
user could not reach the programs, a copy of them. As root everything of the server belongs to an
existing unprivileged user and runs as that user.

Laws: TCP on a free loopback port, SCRAM, a random password that no file keeps; no user is created
and no permission changed outside the directory; a server outlives nothing but a SIGKILL of its
owner, and then `sweep` (called at every start) ends it; a clean-up that has begun is not cut short.
`sweep` touches only directories that are named, owned and filled as ours are, and only processes
that `owner.json` proves to be theirs.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pgguard.errors import LaunchError
from pgguard.launch.binaries import Binaries, find_binaries, may_execute
from pgguard.launch.processes import Process, alive, pid_namespace, this_process

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping
    from types import TracebackType

PREFIX = "pgguard-pg-"
OWNER_FILE = "owner.json"
HOST = "127.0.0.1"
USER = "pgguard"

_ACCOUNTS = ("postgres", "nobody", "daemon")
_POLL = 0.01
_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 5.0
_PORT_ATTEMPTS = 5
_SPEED = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Account(NamedTuple):
    """The user that a server started by root runs as."""

    name: str
    uid: int
    gid: int


class EmbeddedPostgres:
    """One server in a directory of its own.

    `settings` are further server settings (`{"shared_buffers": "16MB"}`). Raises LaunchError when
    there is no Postgres, no unprivileged user, or when it does not start; the message then ends
    with the server's own last lines.
    """

    __slots__ = (
        "_directory",
        "_env",
        "_process",
        "binaries",
        "max_connections",
        "password",
        "port",
        "settings",
    )

    def __init__(
        self,
        *,
        max_connections: int = 100,
        settings: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        binaries: Binaries | None = None,
    ) -> None:
        self.max_connections = max_connections
        self.settings = dict(settings or {})
        self.binaries = binaries
        self.password = secrets.token_hex(16)
        self.port = 0
        self._env = dict(os.environ if env is None else env)
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    host = HOST
    user = USER

    @property
    def pid(self) -> int:
        """Process id of the postmaster; 0 before the start."""
        return self._process.pid if self._process else 0

    @property
    def directory(self) -> Path:
        if self._directory is None:
            raise LaunchError("the embedded Postgres is not running")
        return self._directory

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://{USER}:{self.password}@{HOST}:{self.port}/{database}"

    def start(self) -> None:
        """Sweep what dead owners left, make a cluster and start it; returns when it is ready."""
        sweep()
        binaries = self.binaries = self.binaries or find_binaries(self._env)
        account = unprivileged_account() if os.geteuid() == 0 else None
        copy = account is not None and not binaries.runnable_by(account.uid, account.gid)
        try:
            self._directory = _make_directory(account, executable=copy)
            _write_owner(self._directory, None)
            programs = binaries.copy_to(self._directory / "install") if copy else binaries.directory
            self._initdb(programs, account)
            self._start_server(programs, account)
        except OSError as error:
            self.stop()
            raise LaunchError(f"the embedded Postgres did not start: {error}") from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server, wait for it and remove its directory. Calling it again does nothing."""
        process, self._process = self._process, None
        directory, self._directory = self._directory, None
        try:
            if process is not None:
                _end(process)
        finally:
            if directory is not None:
                _remove(directory)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await _to_the_end(self._undo(starting))
            raise
        return self

    async def _undo(self, starting: asyncio.Future[None]) -> None:
        """A thread cannot be interrupted: let it finish, then undo what it did."""
        await asyncio.wait([starting])
        await asyncio.to_thread(self.stop)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await _to_the_end(asyncio.to_thread(self.stop))

    def _initdb(self, programs: Path, account: Account | None) -> None:
        data = self.directory / "data"
        data.mkdir(mode=0o700)
        secret = self.directory / "password"
        with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self.password)
        if account is not None:
            os.chown(data, account.uid, account.gid)
            os.chown(secret, account.uid, account.gid)
        command = [
            str(programs / "initdb"),
            *("-D", str(data), "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}"),
            *("--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"),
        ]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                **self._process_options(account),
            )
        finally:
            secret.unlink()
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise LaunchError(f"initdb of Postgres in {programs} failed: {said[-800:]}")

    def _start_server(self, programs: Path, account: Account | None) -> None:
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self.port = _free_port()
            settings = {
                "listen_addresses": HOST,
                "port": str(self.port),
                "unix_socket_directories": "",
                "max_connections": str(self.max_connections),
                "logging_collector": "off",
                **_SPEED,
                **self.settings,
            }
            arguments = [
                part for key, value in settings.items() for part in ("-c", f"{key}={value}")
            ]
            log = self.directory / "postgres.log"
            with log.open("wb") as output:
                self._process = subprocess.Popen(
                    [programs / "postgres", "-D", self.directory / "data", *arguments],
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    # A Ctrl-C at the terminal is for us to act on, not for the server.
                    start_new_session=True,
                    **self._process_options(account),
                )
            _write_owner(self.directory, self._process.pid)
            if self._wait_until_ready(self._process):
                return
            _end(self._process)
            said = log.read_text(errors="replace").strip()
            if "could not bind" not in said or attempt == _PORT_ATTEMPTS:
                raise LaunchError(f"the embedded Postgres did not start: {said[-800:]}")

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """True once Postgres says `ready` in its lock file; False when it ended or is too slow."""
        lock = self.directory / "data" / "postmaster.pid"
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline and process.poll() is None:
            lines = lock.read_text().splitlines() if lock.exists() else []
            if len(lines) >= 8 and lines[7].strip() == "ready":
                return True
            time.sleep(_POLL)
        return False

    def _process_options(self, account: Account | None) -> dict[str, Any]:
        # PGDATA, PGPORT and the like of the user's environment would change what is made.
        env = {key: value for key, value in self._env.items() if not key.startswith("PG")}
        options: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "cwd": self.directory,
            "env": {**env, "LC_ALL": "C"},
            "umask": 0o077,
        }
        if account is not None:
            options |= {"user": account.uid, "group": account.gid, "extra_groups": []}
        return options


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Wait for all of `work`, however often we are cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


def unprivileged_account() -> Account:
    """An existing user for a server that root starts. LaunchError when there is none."""
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise LaunchError(
        "Postgres refuses to run as root and none of the users "
        f"{', '.join(_ACCOUNTS)} exists; run pgguard as an ordinary user"
    )


def sweep() -> list[Path]:
    """End servers and remove directories whose owner is dead; the directories removed."""
    removed = []
    for directory in _our_directories():
        owner, server = _read_owner(directory)
        if owner is None or owner.namespace != pid_namespace() or alive(owner):
            continue
        if server is not None:
            _end_orphan(server)
        if _remove(directory):
            removed.append(directory)
    return removed


def _places() -> list[Path]:
    places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    return list(dict.fromkeys(place.resolve() for place in places if place.is_dir()))


def _make_directory(account: Account | None, *, executable: bool) -> Path:
    for place in _places():
        if account is not None and not may_execute(place, account.uid, account.gid):
            continue
        if executable and os.statvfs(place).f_flag & os.ST_NOEXEC:
            continue
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        if account is not None:
            directory.chmod(0o711)
        return directory
    raise LaunchError(
        "no temporary directory that an unprivileged user can enter; set TMPDIR to one"
    )


def _our_directories() -> Iterator[Path]:
    for place in _places():
        for entry in place.glob(f"{PREFIX}*"):
            try:
                status = entry.lstat()
            except OSError:
                continue
            writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not writable:
                yield entry


def _write_owner(directory: Path, server: int | None) -> None:
    content = {
        "owner": this_process()._asdict(),
        "server": Process.of(server)._asdict() if server else None,
    }
    new = directory / f"{OWNER_FILE}.new"
    new.write_text(json.dumps(content))
    new.replace(directory / OWNER_FILE)


def _read_owner(directory: Path) -> tuple[Process | None, Process | None]:
    try:
        content = json.loads((directory / OWNER_FILE).read_text())
        server = content["server"]
        return Process(**content["owner"]), Process(**server) if server else None
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


def _remove(directory: Path) -> bool:
    """Remove it, the owner file last: what could not be removed is still ours for a later sweep."""
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != OWNER_FILE:
            entry.unlink(missing_ok=True)
    try:
        if {entry.name for entry in directory.iterdir()} <= {OWNER_FILE}:
            directory.joinpath(OWNER_FILE).unlink(missing_ok=True)
            directory.rmdir()
    except OSError:
        pass
    return not directory.exists()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Fast shutdown, then immediate, then the hard way; waits, so that no zombie stays."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        process.send_signal(number)
        try:
            process.wait(_STOP_TIMEOUT)
            return
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    process.wait()


def _end_orphan(server: Process) -> None:
    for number in (signal.SIGQUIT, signal.SIGKILL):
        deadline = time.monotonic() + _STOP_TIMEOUT
        if not alive(server):
            return
        os.kill(server.pid, number)
        while alive(server) and time.monotonic() < deadline:
            time.sleep(_POLL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
