"""The tests of SQLAlchemy and of Django on few servers: who is pinned, and how often.

Laws: directly and through the guard the same tests pass; the share is of all transactions that
ended, whoever asked for them, and counts every reason, also one that a check would have found to
be none. SQLAlchemy's tests of the dialect make temporary tables and keep them over hundreds of
transactions to read them out of the catalogue: where one is alive there is no other server to go
to. Of these tests alone such transactions are told apart, and the bar is for the others.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from tests.conformance import harness, known
from tests.conformance.harness import Missing
from tests.conformance.suites import matrix, python_suites
from tests.conformance.suites.model import Target, cache

PINS = (
    "sqlalchemy[asyncio]==2.1.9",
    "psycopg[binary]==3.3.9",
    "asyncpg==0.32.0",
    "django==5.2.19",
)
SHARE = 0.05
"""Of transactions that may be pinned."""
CAP = "4"

SQLALCHEMY = (
    "test/dialect/postgresql/test_query.py",
    "test/dialect/test_suite.py",
    "test/engine/test_transaction.py",
    "test/sql/test_returning.py",
)
ORM = (
    "test/orm/test_cascade.py",
    "test/orm/test_session.py",
    "test/orm/test_transaction.py",
    "test/orm/test_unitofwork.py",
)
"""Of its ORM those about units of work."""
DJANGO = (
    "basic",
    "transactions",
    "transaction_hooks",
    "get_or_create",
    "bulk_create",
    "select_for_update",
    "queries",
    "aggregation",
    "lookup",
    "many_to_many",
    "update",
    "delete",
)
"""Of its tests those of the database layer that take a minute."""

DJANGO_SETTINGS = """
import os
_there = {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": os.environ["PGHOST"],
    "PORT": os.environ["PGPORT"],
    "USER": os.environ["PGUSER"],
    "PASSWORD": os.environ["PGPASSWORD"],
}
DATABASES = {
    "default": {**_there, "NAME": "django", "OPTIONS": {"application_name": "django"}},
    "other": {**_there, "NAME": "django_other", "OPTIONS": {"application_name": "django"}},
}
SECRET_KEY = "for tests"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
"""


def environment() -> Path:
    """The directory with the pinned packages and Django's tests. Raises Missing."""
    name = f"frameworks-{hashlib.sha256(' '.join(PINS).encode()).hexdigest()[:12]}"
    directory = cache() / name
    if not (directory / "complete").exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        python_suites.make_environment(directory / "venv", PINS)
        command = [str(directory / "venv" / "bin" / "pip"), "download", "-q", "--no-deps"]
        command += ["--no-binary", ":all:", "-d", str(directory), PINS[-1]]
        python_suites.pip(command, PINS[-1])
        with tarfile.open(next(directory.glob("django-*.tar.gz"))) as archive:
            for member in archive.getmembers():
                member.name = member.name.partition("/")[2]
                if member.name.startswith("tests/"):
                    archive.extract(member, directory / "django", filter="data")
        (directory / "django" / "tests" / "guarded.py").write_text(DJANGO_SETTINGS)
        (directory / "complete").touch()
    return directory


def python() -> Path:
    """A Python that has them all. Raises Missing."""
    return environment() / "venv" / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Share:
    """How many transactions ended, and behind how many of them the session was pinned."""

    transactions: int
    pinned: dict[str, int]
    """By reason."""

    @classmethod
    def of(cls, guard: harness.Guard) -> Share:
        metrics = guard.metrics()
        by_reason = metrics.by("pinned_transactions_total", "reason")
        pinned = {reason: int(number) for reason, number in by_reason.items()}
        return cls(int(metrics.total("transactions_total")), pinned)

    def claim(self, checks: harness.Checks, name: str, *, temporary: bool = False) -> None:
        """`temporary`: those with a temporary table are told apart."""
        total = max(1, self.transactions)
        kept = self.pinned.get("temporary", 0) if temporary else 0
        pinned = sum(self.pinned.values()) - kept
        told = ", ".join(f"{by} {number}" for by, number in sorted(self.pinned.items()))
        figure = f"{pinned / total:.1%}: {pinned} of {total} ({told or 'no pins'})"
        what = f"{name}: pinned"
        if temporary:
            checks.note(f"{name}: {kept / total:.1%} with a temporary table")
            what += " without a temporary table"
        held = self.transactions > 0 and pinned <= SHARE * total
        checks.claim(held, what, figure, f"{SHARE:.0%}")


def run(checks: harness.Checks) -> None:
    """SQLAlchemy's dialect suite on both drivers, its ORM's and Django's tests."""
    for name, driver, tests in (
        ("SQLAlchemy's tests of the dialect on psycopg", "psycopg", SQLALCHEMY),
        ("SQLAlchemy's tests of the dialect on asyncpg", "asyncpg", SQLALCHEMY),
        ("The tests of SQLAlchemy's ORM", "psycopg", ORM),
    ):
        try:
            _sqlalchemy(checks, name, driver, tests)
        except Missing as missing:
            checks.claim(False, f"{name} can run", str(missing))
    try:
        _django(checks)
    except Missing as missing:
        checks.claim(False, "Django's tests can run", str(missing))


def _sqlalchemy(checks: harness.Checks, name: str, driver: str, tests: tuple[str, ...]) -> None:
    suite = python_suites.SQLALCHEMY
    bring = suite.bring
    assert isinstance(bring, python_suites.PythonSuite)

    def arguments(target: Target) -> list[str]:
        return ["--dburi", target.address.url.replace("postgresql:", f"postgresql+{driver}:")]

    pins = (*bring.installs, *(["asyncpg==0.32.0"] if driver == "asyncpg" else []))
    ready = replace(bring, installs=pins, tests=tests, arguments=arguments)()
    guard = {"pool.mode": "transparent", "limits.connection_limit": CAP}
    share: list[Share] = []
    direct = matrix.once(suite, ready, short=False, guard=None)
    guarded = matrix.once(
        suite, ready, short=False, guard=guard, look=lambda it: share.append(Share.of(it))
    )
    only = direct.passed() - guarded.passed()
    again = matrix.once(suite, ready, short=False, guard=guard, only=only) if only else guarded
    only -= again.passed()
    for test in known.unexplained("sqlalchemy", only):
        checks.note(f"only guarded: {test}: {guarded.outcomes[test].why[:200]}")
    checks.claim(
        not known.unexplained("sqlalchemy", only) and bool(guarded.passed()),
        f"{name}, {CAP} servers: fail only there",
        f"{len(only)} of {len(guarded.outcomes)}, {len(guarded.passed())} pass",
        "0",
    )
    share[0].claim(checks, name, temporary=tests is SQLALCHEMY)


def _django(checks: harness.Checks) -> None:
    directory = environment()
    with harness.postgres(max_connections=40) as server:
        direct, said = _runtests(directory, server.address)
        checks.note(f"Django directly: {said}")
    with harness.postgres(max_connections=40) as server:
        wanted = {"pool.mode": "transparent", "limits.connection_limit": CAP}
        with harness.Guard(server.address, wanted) as guard:
            guarded, said = _runtests(directory, guard.address)
            only = sorted(guarded - direct)
            checks.claim(
                not only and "Ran" in said,
                f"Django's tests, {CAP} servers: fail only there",
                f"{only or 0} ({said})",
                "0",
            )
            Share.of(guard).claim(checks, "Django's tests")


def _runtests(directory: Path, address: harness.Address) -> tuple[set[str], str]:
    """The tests that fail, and what the runner says of all of them."""
    with tempfile.TemporaryDirectory(prefix="pgguard-django-") as scratch:
        work = Path(scratch) / "tests"
        shutil.copytree(directory / "django" / "tests", work)
        command = [str(python()), "runtests.py", "--settings=guarded", "--parallel=1", "--noinput"]
        done = subprocess.run(
            [*command, *DJANGO],
            cwd=work,
            env=harness.clean_environment() | address.environment() | {"PYTHONPATH": str(work)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
        )
    said = done.stdout + done.stderr
    failed = set(re.findall(r"^(?:FAIL|ERROR): (.+)$", said, re.MULTILINE))
    ran = re.search(r"Ran \d+ tests in .*", said)
    if ran is None:
        raise Missing(f"Django's runner ended with {done.returncode}: {said[-800:]}")
    return failed, f"{ran[0]}, {said.strip().splitlines()[-1][:100]}"
