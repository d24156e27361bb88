"""What every conformance run and benchmark stands on: claims, tables, a Postgres, a guard.

Laws: a claim is printed once, with its figure and its bar, as PASS or FAIL, and a run that
claimed nothing has failed. Servers listen on 127.0.0.1 only; every wait has an end; only
processes that were started here are ended, by their process id. What is missing on the machine
raises `Missing`, which is a FAIL that says how to get it, never a skip.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from pgguard.errors import LaunchError
from pgguard.launch.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pgguard.launch.binaries import Binaries

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""

PARTED = ("suites",)
"""Runs that take names of their own parts."""

EVERYWHERE: dict[str, str] = {"pool.mode": "session"}
"""Settings of every guard that is started, by key; those of the run itself win. What both modes
promise is shown where nothing is shared; runs about sharing say so, and `--mode` wins."""

FORCED: dict[str, str] = {}
"""The same, but they win."""

READY_WITHIN = 30.0
"""Seconds that a guard has to become ready."""


FORCING = {"--mode": "pool.mode", "--cap": "limits.connection_limit", "--restless": "pool.restless"}
"""Options that make every guard of any run another one."""

OPTIONS: dict[str, Callable[[str], Any]] = {
    "--seconds": float,
    "--scripts": int,
    "--seed": int,
    "--count": int,
    "--replay": str,
}
"""Options with a value; each is given to a `run` that takes it by this name."""


class Missing(Exception):
    """Something that this run needs is not on the machine; the text says how to get it."""


class Checks:
    """Collects the claims of one run and prints each as it is decided."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.passed = 0
        self.failed = 0
        self._started = time.monotonic()
        print(f"== {title}", flush=True)

    def note(self, text: str) -> None:
        """Print a figure or a remark that decides nothing."""
        print(f"   {text}", flush=True)

    def claim(self, ok: bool, what: str, figure: object = "", bar: str = "") -> bool:
        """Print one line `PASS|FAIL what: figure (bar: …)` and count it."""
        if ok:
            self.passed += 1
        else:
            self.failed += 1
        line = f"{'PASS' if ok else 'FAIL'} {what}"
        if figure != "":
            line += f": {figure}"
        if bar:
            line += f" (bar: {bar})"
        print(line, flush=True)
        return ok

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print rows in aligned columns, the first one to the left, the others to the right."""
        lines = [list(head), *([str(cell) for cell in row] for row in rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        for line in lines:
            first, *others = (
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            print("   " + "  ".join([first, *others]), flush=True)

    def end(self) -> bool:
        """Print the closing line; true when something was claimed and nothing failed."""
        took = time.monotonic() - self._started
        if not self.passed and not self.failed:
            self.claim(False, "something was claimed")
        print(f"   {self.title}: {self.passed} passed, {self.failed} failed, {took:.0f} s\n")
        return self.failed == 0


def main(package: str, runs: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Run what the command line names (`all`: every one); returns the exit code.

    `runs` maps names to modules, whose `run(checks, short)` makes the claims. An option of
    OPTIONS is for a run whose `run` takes it; `--set KEY=VALUE` is a setting of every guard, and so
    are `--mode MODE`, `--cap N` and `--restless true`, whatever the run itself sets (the last one
    means transparent mode, too). Those
    of PARTED take the words behind their name, too: the parts that are wanted.
    """
    names = list(arguments)
    short = "--short" in names
    names = [name for name in names if name != "--short"]
    more: dict[str, Any] = {}
    for option, kind in OPTIONS.items():
        if option in names[:-1]:
            at = names.index(option)
            more[option.removeprefix("--")] = kind(names[at + 1])
            del names[at : at + 2]
    while "--set" in names[:-1]:
        at = names.index("--set")
        key, _, value = names[at + 1].partition("=")
        EVERYWHERE[key] = value
        del names[at : at + 2]
    for option, key in FORCING.items():
        if option in names[:-1]:
            at = names.index(option)
            FORCED[key] = names[at + 1]
            del names[at : at + 2]
    if "pool.restless" in FORCED:
        FORCED.setdefault("pool.mode", "transparent")
    if names and names[0] in PARTED:
        more["parts"], names = names[1:], names[:1]
    if names == ["all"]:
        names = list(runs)
    unknown = [name for name in names if name not in runs]
    if unknown or not names:
        print(f"usage: python -m {package} {'|'.join([*runs, 'all'])} [--short]", file=sys.stderr)
        return 2
    held = True
    for name in names:
        checks = Checks(f"{name} (short form)" if short else name)
        try:
            importlib.import_module(runs[name]).run(checks, short, **more)
        except (Missing, LaunchError) as missing:
            checks.claim(False, f"{name} can run", str(missing))
        except ModuleNotFoundError as missing:
            checks.claim(False, f"{name} can run", f"{missing}: pip install -e '.[dev]'")
        except Exception:
            traceback.print_exc(file=sys.stdout)
            checks.claim(False, f"{name} came to its end")
        held = checks.end() and held
    return 0 if held else 1


def clean_environment() -> dict[str, str]:
    """This process's environment without what could redirect a guard or a libpq.

    PGGUARD_LOOP stays, so that any run can be had on either loop. Bytecode is written, as for any
    user: without it every start would compile the package anew.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name == "PGGUARD_LOOP"
        or not name.startswith(("PG", "DATABASE_URL", "PYTHONDONTWRITEBYTECODE"))
    } | {"PYTHONPATH": str(ROOT)}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database can be reached, and as whom; `host` may be a directory of sockets."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str

    @classmethod
    def of(cls, url: str) -> Self:
        parts = urlsplit(url)
        return cls(
            parts.hostname or "127.0.0.1",
            parts.port or 5432,
            parts.username or "postgres",
            parts.password or "",
            parts.path.lstrip("/") or "postgres",
        )

    @property
    def url(self) -> str:
        who = f"{self.user}:{self.password}" if self.password else self.user
        if self.host.startswith("/"):
            return f"postgresql://{who}@/{self.database}?host={self.host}&port={self.port}"
        return f"postgresql://{who}@{self.host}:{self.port}/{self.database}"

    def at(self, host: str, port: int) -> Address:
        """The same database and user behind another address."""
        return Address(host, port, self.user, self.password, self.database)

    def libpq(self, application_name: str = "", **options: str) -> dict[str, str]:
        """Keyword arguments of psycopg and psycopg2."""
        words = {
            "host": self.host,
            "port": str(self.port),
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
            **options,
        }
        return words | ({"application_name": application_name} if application_name else {})

    def environment(self) -> dict[str, str]:
        """The PG* variables that libpq's programs read."""
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.database,
            "PGSSLMODE": "disable",
            "PGGSSENCMODE": "disable",
        }


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running throw-away Postgres."""

    address: Address
    pid: int
    version: str
    log: Path
    embedded: EmbeddedPostgres


@contextlib.contextmanager
def postgres(
    max_connections: int = 100,
    settings: Mapping[str, str] | None = None,
    *,
    binaries: Binaries | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Postgres]:
    """A Postgres of our own for the length of the block, started as `--embedded` starts one.

    `binaries` chooses another Postgres than the one that is found, `variables` go into its
    environment.
    """
    with EmbeddedPostgres(
        max_connections=max_connections,
        settings=settings,
        binaries=binaries,
        env=os.environ | dict(variables or {}),
    ) as server:
        version = server.binaries.version if server.binaries else ""
        log = server.directory / "postgres.log"
        yield Postgres(Address.of(server.url), server.pid, version, log, server)


class Guard:
    """A `pgguard serve` as its own process; a context manager.

    `settings` maps setting keys (`limits.total`) to their text; `upstream` may be any address;
    `descriptors` is the limit of the process, 0 that of this one.
    Without `ready` it is not waited for that Postgres answers, only that the guard listens.
    """

    def __init__(
        self,
        upstream: Address,
        settings: Mapping[str, str] | None = None,
        *,
        descriptors: int = 0,
        ready: bool = True,
    ) -> None:
        self._descriptors = descriptors
        self._upstream = upstream
        self._ready = ready
        self._settings = EVERYWHERE | dict(settings or {}) | FORCED
        self._directory = Path(tempfile.mkdtemp(prefix="pgguard-conformance-"))
        self.address = upstream
        self.http = ""
        self.pid = 0

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    @property
    def log(self) -> str:
        """What the guard wrote to stderr so far."""
        return (self._directory / "log").read_text(errors="replace")

    def __enter__(self) -> Self:
        environment = clean_environment()
        for key, value in self._settings.items():
            environment["PGGUARD_" + key.upper().replace(".", "__")] = value
        command = [sys.executable, "-m", "pgguard", "serve"]
        wire, http = ("127.0.0.1:0",) * 2 if self._ready else map(_free_address, range(2))
        command += ["--upstream", self._upstream.url, "--listen", wire]
        command += ["--http", http, *(["--ready-json"] if self._ready else [])]
        if self._descriptors:
            command = ["sh", "-c", f'ulimit -n {self._descriptors}; exec "$@"', "sh", *command]
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.pid = self._process.pid
        if not self._ready:
            host, _, port = wire.partition(":")
            self.address, self.http = self._upstream.at(host, int(port)), f"http://{http}"
            self._wait_for("stop with")
            return self
        try:
            ready = json.loads(self._first_line())
        except ValueError as error:
            said = self.log
            self.stop()
            raise AssertionError(f"the guard did not become ready: {said[-2000:]}") from error
        self.address = self._upstream.at(str(ready["host"]), int(ready["port"]))
        self.http = str(ready["http"]).rstrip("/")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_for(self, text: str) -> None:
        end = time.monotonic() + READY_WITHIN
        while text not in self.log:
            assert time.monotonic() < end, self.log
            time.sleep(0.02)

    def _first_line(self) -> bytes:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(READY_WITHIN):
                return b""
        return self._process.stdout.readline()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, within: float = 15.0) -> int | None:
        """The exit code, or None if it has not ended in time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(within)
        return None

    def stop(self) -> None:
        """End the guard (SIGTERM, after 15 s SIGKILL) and remove its directory."""
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
            if self.wait() is None:
                self._process.kill()
                self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def metrics(self) -> Metrics:
        """The metrics page now."""
        return Metrics(fetch(f"{self.http}/metrics"))

    def api(self, name: str) -> Any:
        """`/api/v1/NAME`, decoded."""
        return json.loads(fetch(f"{self.http}/api/v1/{name}"))


class Metrics:
    """A scraped metrics page."""

    def __init__(self, page: str) -> None:
        self.samples = [
            sample for family in text_string_to_metric_families(page) for sample in family.samples
        ]

    def by(self, name: str, label: str) -> dict[str, float]:
        """Values of one metric (name without the prefix), summed by one label."""
        values: dict[str, float] = {}
        for sample in self.samples:
            if sample.name == f"pgguard_{name}":
                key = sample.labels.get(label, "")
                values[key] = values.get(key, 0.0) + sample.value
        return values

    def total(self, name: str, **labels: str) -> float:
        """The sum of one metric over all series that carry these labels."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == f"pgguard_{name}" and labels.items() <= sample.labels.items()
        )


def fetch(url: str) -> str:
    """The body of a page on this machine."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def resident(pid: int) -> int:
    """Resident memory of one process in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _free_address(_: object = None) -> str:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"127.0.0.1:{sock.getsockname()[1]}"


def descriptors(pid: int) -> int:
    """Open descriptors of one process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def eventually(condition: Callable[[], bool], within: float = 10.0) -> bool:
    """Whether the condition, which may block for a page of metrics, holds in time."""
    end = time.monotonic() + within
    while not await asyncio.to_thread(condition):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.02)
    return True
