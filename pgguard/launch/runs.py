"""`.pgguard/`: a directory per run, the newest few kept, `last` pointing at the newest.

Laws: the directory ignores itself for git; only entries named as runs are ever removed; a run's
name sorts by its time.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from pathlib import Path

from pgguard.errors import LaunchError

FOLDER = ".pgguard"
LAST = "last"
FINDINGS = "findings.json"
SUMMARY = "summary.txt"

_NAME = re.compile(r"\d{8}T\d{6}Z-\d+(-\d+)?")


def run_name(now: float, pid: int) -> str:
    """Name of a run that starts at `now` (seconds since 1970) in process `pid`."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}-{pid}"


def create_run(cwd: Path, name: str, keep: int) -> Path:
    """Make the run's directory, remove all but the newest `keep`, turn `last` to it.

    Raises LaunchError where nothing can be written.
    """
    folder = cwd / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        directory = _make(folder, name)
        _point(folder / LAST, directory.name)
    except OSError as error:
        raise LaunchError(f"no report: {folder}: {error.strerror or error}") from error
    runs = sorted(entry for entry in folder.iterdir() if _NAME.fullmatch(entry.name))
    for old in runs[:-keep]:
        if old != directory and not old.is_symlink():
            shutil.rmtree(old, ignore_errors=True)
    return directory


def write_file(path: Path, text: str) -> None:
    """Write a report as a whole: a reader never sees half of one. Raises LaunchError."""
    special = path.is_symlink() or (path.exists() and not path.is_file())
    # /dev/stdout and the like are written to, never replaced.
    new = path if special else path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(text, encoding="utf-8", errors="backslashreplace")
        if not special:
            new.replace(path)
    except OSError as error:
        if not special:
            with contextlib.suppress(OSError):
                new.unlink()
        raise LaunchError(f"no report: {path}: {error.strerror or error}") from error


def shown(path: Path) -> str:
    """The path as it is told: from here where it is below here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _make(folder: Path, name: str) -> Path:
    directory, number = folder / name, 1
    while True:
        try:
            directory.mkdir()
        except FileExistsError:
            number += 1
            directory = folder / f"{name}-{number}"
        else:
            return directory


def _point(link: Path, target: str) -> None:
    if link.exists() and not link.is_symlink():
        return
    new = link.with_name(f"{LAST}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)
