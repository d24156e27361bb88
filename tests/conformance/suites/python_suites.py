"""Suites that pytest runs: sdists by pip or Debian's sources by apt, each in its own environment.

Laws: everything lives in a directory below the system's temporary one whose name holds the pins
and the Python; the driver is installed from its wheel, only its tests come from the source. Each
run works in a copy of them. A test may hang or kill its process: it has failed, and the rest goes
on in a new process.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conformance import fetching, harness
from tests.conformance.harness import Missing
from tests.conformance.regress import apt
from tests.conformance.suites.model import Outcome, Suite, Target, cache

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

PYTEST = ("pytest==9.2.0", "pytest-timeout==2.4.0")
PLUGIN = Path(__file__).parent / "plugin"
TEST_WITHIN = 240
"""Seconds that one test may take; pytest-timeout ends the process then."""
RUN_WITHIN = 3600.0
"""Seconds that one run of a suite may take."""
DEATHS = 20
"""Tests of one run that may take the process with them before the run is given up."""


@dataclass(frozen=True, slots=True)
class PythonSuite:
    """A pinned sdist and how its tests are run."""

    sdist: str
    """The pin of the sdist, or the name of Debian's source package alone."""
    installs: tuple[str, ...]
    """`{version}` in a pin is that of the source package."""
    keep: tuple[str, ...]
    """What of the sdist is unpacked: its tests, and what they read."""
    tests: tuple[str, ...]
    variables: Callable[[Target], dict[str, str]]
    short: tuple[str, ...]
    """What the short form runs instead of `tests`."""
    arguments: Callable[[Target], list[str]] = lambda _target: []
    to_build: tuple[tuple[str, str], ...] = ()
    """Programs that pip needs to read the sdist's metadata, each with its Debian package."""

    def __call__(self) -> PreparedPython:
        pins = " ".join((self.sdist, *self.installs, *PYTEST, sys.version))
        name = f"{self.sdist.split('==')[0]}-{hashlib.sha256(pins.encode()).hexdigest()[:12]}"
        directory = cache() / name
        if not (directory / "complete").exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            if "==" in self.sdist:
                make_environment(directory / "venv", (*self.installs, *PYTEST))
                self._unpack(directory)
            else:
                version = self._unpack_source(directory)
                pins = tuple(pin.format(version=version) for pin in self.installs)
                make_environment(directory / "venv", (*pins, *PYTEST))
            (directory / "work" / "pytest.ini").write_text("[pytest]\n")
            (directory / "complete").touch()
        return PreparedPython(self, directory)

    def _unpack(self, directory: Path) -> None:
        paths = [fetching.program(*needed).parent for needed in self.to_build]
        command = [str(directory / "venv" / "bin" / "pip"), "download", "-q", "--no-deps"]
        command += ["--no-binary", ":all:", "-d", str(directory), self.sdist]
        pip(command, self.sdist, paths)
        work = directory / "work"
        work.mkdir()
        with tarfile.open(next(directory.glob("*.tar.gz"))) as archive:
            for member in archive.getmembers():
                _root, _, path = member.name.partition("/")
                if self._kept(path):
                    member.name = path
                    archive.extract(member, work, filter="data")

    def _unpack_source(self, directory: Path) -> str:
        """The upstream's version of Debian's newest source package."""
        archive, version = apt.any_source(self.sdist, directory / "source", newest=True)
        apt.unpack_source(archive, directory / "work", self._kept)
        return version.rpartition("-")[0].partition("+")[0]

    def _kept(self, path: str) -> bool:
        return any(path == kept or path.startswith(f"{kept}/") for kept in self.keep)


@dataclass(frozen=True, slots=True)
class PreparedPython:
    """A suite that was fetched, with its virtual environment."""

    suite: PythonSuite
    directory: Path

    def run(
        self, target: Target, scratch: Path, *, short: bool, only: Collection[str] | None = None
    ) -> dict[str, Outcome]:
        record = Path(tempfile.mkstemp(dir=scratch, suffix=".jsonl")[1])
        variables = {
            **self.suite.variables(target),
            "SUITE_RECORD": str(record),
            "SUITE_METRICS": target.metrics,
            "PYTHONPATH": str(PLUGIN),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONNOUSERSITE": "1",
        }
        if only is not None:
            chosen = scratch / "only"
            chosen.write_text("\n".join(only))
            variables["SUITE_ONLY"] = str(chosen)
        work = scratch / f"{record.stem}-work"
        shutil.copytree(self.directory / "work", work, symlinks=True)
        tests = self.suite.short if short else self.suite.tests
        command = [str(self.directory / "venv" / "bin" / "python"), "-m", "pytest", "-q"]
        command += ["-p", "suite_recorder", "-p", "no:cacheprovider", "--tb=line", "--color=no"]
        command += [f"--timeout={TEST_WITHIN}", "--timeout-method=thread"]
        command += [*self.suite.arguments(target), *tests]
        for _ in range(DEATHS):
            ended = self._once(command, variables, work)
            outcomes, dead = read(record)
            if dead is None and ended in (0, 1, 5):
                return outcomes
            if dead is None:
                said = (scratch / "output").read_text(errors="replace")[-1500:]
                raise Missing(f"pytest ended with {ended}: {said}")
            line = {"test": dead, "outcome": "failed", "why": "it hung or took the process along"}
            with record.open("a") as file:
                file.write(json.dumps(line) + "\n")
        raise Missing(f"{DEATHS} tests took their process along, the last one {dead}")

    def _once(self, command: list[str], variables: dict[str, str], work: Path) -> int:
        with (work.parent / "output").open("wb") as output:
            return subprocess.run(
                command,
                cwd=work,
                env=harness.clean_environment() | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=RUN_WITHIN,
            ).returncode


def read(record: Path) -> tuple[dict[str, Outcome], str | None]:
    """Outcomes by test, and the test that was begun and never ended, if there is one."""
    outcomes: dict[str, Outcome] = {}
    begun = None
    for line in map(json.loads, record.read_text().splitlines()):
        test = line.pop("test")
        begun = None if line else test
        if line:
            outcomes[test] = Outcome(**line)
    return outcomes, begun


def make_environment(directory: Path, installs: tuple[str, ...]) -> None:
    """A virtual environment that holds these pins. Raises Missing."""
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    pip([str(directory / "bin" / "pip"), "install", "-q", *installs], " ".join(installs))


def pip(command: list[str], what: str, paths: Collection[Path] = ()) -> None:
    """Run pip without the project's constraints. Raises Missing with its last words."""
    environment = harness.clean_environment() | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment.pop("PIP_CONSTRAINT", None)
    environment["PATH"] = os.pathsep.join([*map(str, paths), environment.get("PATH", "")])
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise Missing(f"pip cannot bring {what}: {done.stderr.strip()[-400:]}")


def _pg(target: Target) -> dict[str, str]:
    return target.address.environment()


def _psycopg2(target: Target) -> dict[str, str]:
    names = {"PSYCOPG2_TESTDB": target.address.database, "PSYCOPG2_TEST_REPL_DSN": ""}
    return _pg(target) | names


def _psycopg3(target: Target) -> dict[str, str]:
    words = " ".join(f"{name}={value}" for name, value in target.address.libpq().items())
    return _pg(target) | {"PSYCOPG_TEST_DSN": words}


def _psycopg3_choice(_target: Target) -> list[str]:
    """Its conftest needs pytest's cache; left out is what wants CockroachDB, mypy or the pool.

    What its marker calls slow, too: hundreds of searches for leaks in the driver's own memory.
    """
    left_out = ("crdb", "pool", "scripts", "test_typing.py", "test_windows.py")
    ignored = [f"--ignore=tests/{name}" for name in left_out]
    return ["-p", "cacheprovider", "-m", "not slow", *ignored]


def _sqlalchemy(target: Target) -> list[str]:
    return ["--dburi", target.address.url.replace("postgresql:", "postgresql+psycopg:")]


ASYNCPG = Suite(
    "asyncpg",
    "0.32.0",
    PythonSuite(
        sdist="asyncpg==0.32.0",
        installs=("asyncpg==0.32.0", "uvloop==0.23.0", "distro==1.9.0"),
        keep=("tests",),
        tests=("tests",),
        variables=_pg,
        short=("tests/test_cursor.py", "tests/test_copy.py"),
    ),
)
PSYCOPG3 = Suite(
    "psycopg3",
    "of Debian's newest source package",
    PythonSuite(
        sdist="psycopg3",
        installs=(
            "psycopg[binary]=={version}",
            "anyio==4.16.0",
            "pproxy==2.7.9",
            "dnspython==2.9.2",
        ),
        keep=("tests", "tools/pproxy_fix.py"),
        tests=("tests",),
        variables=_psycopg3,
        short=("tests/test_cursor.py", "tests/test_pipeline.py"),
        arguments=_psycopg3_choice,
    ),
    sql=("CREATE EXTENSION hstore",),
    settings={"max_prepared_transactions": "10", "wal_level": "logical"},
    stand_in=(
        "its tests are in no package of pip's or npm's, only in Debian's source package psycopg3; "
        "SQLAlchemy's own run on psycopg 3 and stand in"
    ),
)
PSYCOPG2 = Suite(
    "psycopg2",
    "2.9.13",
    PythonSuite(
        sdist="psycopg2==2.9.13",
        installs=("psycopg2-binary==2.9.13",),
        keep=("tests",),
        tests=("tests",),
        variables=_psycopg2,
        short=("tests/test_cursor.py",),
        to_build=(("pg_config", "libpq-dev"),),
    ),
    sql=("CREATE EXTENSION hstore",),
    settings={"max_prepared_transactions": "10", "wal_level": "logical"},
    small_cap=5,
)
PG8000 = Suite(
    "pg8000",
    "1.31.6",
    PythonSuite(
        sdist="pg8000==1.31.6",
        installs=("pg8000==1.31.6", "pytz", "pytest-mock", "pytest-benchmark"),
        keep=("test", "README.md"),
        tests=("test",),
        variables=_pg,
        short=("test/native/test_copy.py", "test/native/test_prepared_statement.py"),
        # Each of its benchmarks once, as a test.
        arguments=lambda _target: ["--benchmark-disable"],
    ),
    sql=("CREATE EXTENSION hstore",),
    settings={"max_prepared_transactions": "10"},
    small_cap=2,
)
SQLALCHEMY = Suite(
    "sqlalchemy",
    "2.1.9 with psycopg 3.3.9",
    PythonSuite(
        sdist="sqlalchemy==2.1.9",
        installs=("sqlalchemy[asyncio]==2.1.9", "psycopg[binary]==3.3.9"),
        keep=("test", "setup.cfg", "lib/sqlalchemy/testing/plugin"),
        tests=(
            "test/dialect/postgresql/test_dialect.py",
            "test/dialect/postgresql/test_on_conflict.py",
            "test/dialect/postgresql/test_query.py",
            "test/dialect/postgresql/test_reflection.py",
            "test/dialect/test_suite.py",
            "test/engine/test_execute.py",
            "test/engine/test_transaction.py",
            "test/engine/test_reconnect.py",
            "test/sql/test_insert_exec.py",
            "test/sql/test_resultset.py",
            "test/sql/test_returning.py",
        ),
        variables=_pg,
        short=("test/dialect/postgresql/test_query.py",),
        arguments=_sqlalchemy,
    ),
    sql=(
        "CREATE EXTENSION hstore",
        "CREATE EXTENSION citext",
        "CREATE SCHEMA test_schema",
        "CREATE SCHEMA test_schema_2",
    ),
    settings={"max_prepared_transactions": "10"},
)
"""Its dialect goes through psycopg 3."""
