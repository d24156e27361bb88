"""The demo's test suite as something to run: its command line, its environment, its outcomes.

Laws: the suite's files are data, nothing of them is imported here; pytest gets nothing of the
user's own configuration, plugins or database.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pgguard.errors import LaunchError
from pgguard.launch.binaries import install_line

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = Path(__file__).resolve().parents[1] / "demo"
SETTINGS = FOLDER / "pgguard.toml"
WORKERS = 10
MAX_CONNECTIONS = 30
WANTED = 200
"""Connections that the suite keeps open at once: ten files, a pool of twenty each."""
PLANTED = (("packages", "test_catalog.py"), ("bookings", "test_cancellations.py"))
"""Table and file of the statements that the suite was given without a tenant."""

_NEEDED = {
    "pytest": "pytest",
    "xdist": "pytest-xdist",
    "sqlalchemy": "SQLAlchemy",
    "psycopg": "psycopg",
}
"""Module → the distribution that brings it."""
_TEST = re.compile(r"^def test_", re.MULTILINE)
_REFUSED = re.compile(
    r"FATAL: +[^\n]*(?:too many clients|remaining connection slots"
    r"|already uses its|server connections are in use)[^\n]*"
)
"""What Postgres says to whom it has no connection for, and what pgguard says."""


@dataclass(slots=True)
class FileOutcome:
    """What one test file came to so far."""

    passed: int = 0
    failed: int = 0
    refusal: str = ""
    """What it was told when there was no connection for it."""


@dataclass(slots=True)
class Outcomes:
    """Reads what the suite's conftest appends to a file, as far as it has come."""

    path: Path
    files: dict[str, FileOutcome] = field(default_factory=dict)
    _offset: int = 0

    def read(self) -> list[str]:
        """Take in what is new; the files that failed for the first time."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            return []
        whole, _, _ = new.rpartition(b"\n")
        self._offset += len(whole) + 1 if whole else 0
        return [name for line in whole.splitlines() if (name := self._take(json.loads(line)))]

    def _take(self, line: Mapping[str, str]) -> str:
        outcome = self.files.setdefault(line["file"], FileOutcome())
        if line["outcome"] != "failed":
            outcome.passed += 1
            return ""
        outcome.failed += 1
        refusal = _REFUSED.search(line["message"])
        outcome.refusal = outcome.refusal or (refusal[0] if refusal else "")
        return line["file"] if outcome.failed == 1 else ""


def files() -> list[str]:
    """Names of the suite's test files."""
    return sorted(path.name for path in (FOLDER / "tests").glob("test_*.py"))


def tests() -> dict[str, int]:
    """How many tests each test file has."""
    texts = {name: (FOLDER / "tests" / name).read_text("utf-8") for name in files()}
    return {name: len(_TEST.findall(text)) for name, text in texts.items()}


def require_extra() -> None:
    """LaunchError with the line to type when what the suite needs is not installed."""
    missing = [package for name, package in _NEEDED.items() if find_spec(name) is None]
    if missing:
        raise LaunchError(
            f"the demo needs {', '.join(missing)}: {install_line('demo')}, then `pgguard demo`"
        )


def seed_command() -> list[str]:
    """Makes the tables and their rows in the database of DATABASE_URL."""
    return [sys.executable, str(FOLDER / "seed.py")]


def pytest_command() -> list[str]:
    """Ten files at once, each in one process."""
    return [
        *(sys.executable, "-P", "-m", "pytest", "-p", "xdist"),
        *("-n", str(WORKERS), "--dist", "loadfile", "-q", "--tb=short"),
        *("-c", str(FOLDER / "pytest.ini"), "--rootdir", str(FOLDER), str(FOLDER / "tests")),
    ]


def suite_env(env: Mapping[str, str], url: str, outcomes: Path) -> dict[str, str]:
    """The suite's environment: the user's, without what would lead it elsewhere."""
    kept = {name: text for name, text in env.items() if not name.startswith(("PG", "PYTEST_"))}
    return kept | {
        "DATABASE_URL": url,
        "PGGUARD_DEMO_OUTCOMES": str(outcomes),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        # The package's own directory may belong to somebody else.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
