"""Types `pgguard …` as a user does: another process, an environment without our own database."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_OWN = ("PG", "DATABASE_URL", "PYTEST_", "COVERAGE_", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG")
WITHIN = 60.0


def environment(**more: str) -> dict[str, str]:
    """The environment of this process without what names a database or is pytest's own.

    The loop stays. Python's debugging does not: it writes of slow machines to stderr.
    """
    kept = {
        name: text
        for name, text in os.environ.items()
        if name == "PGGUARD_LOOP" or not name.startswith(_OWN)
    }
    return kept | more


def pgguard(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; both streams as text."""
    return subprocess.run(
        [sys.executable, "-m", "pgguard", *arguments],
        cwd=cwd,
        env=environment() if env is None else dict(env),
        stdin=subprocess.DEVNULL if "input" not in options else None,
        capture_output=True,
        text=True,
        timeout=WITHIN,
        **options,
    )


def start_pgguard(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[str]:
    """Start a command; stdout and stderr are pipes of text unless the options say otherwise."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-m", "pgguard", *arguments],
        cwd=cwd,
        env=environment() if env is None else dict(env),
        text=True,
        **{**streams, **options},
    )
