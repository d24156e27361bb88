"""Debian packages and their sources without touching the system: apt with directories of its own.

Laws: the sources, keys and proxies are the system's, asked for source packages as well, and for
the distribution's newest ones from the same mirrors; lists, archives and what is unpacked live
below one directory of the system's temporary directory, which belongs to us alone; nothing is
installed, so that no root is needed; what cannot be had raises `Missing` with apt's own words.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conformance.harness import Missing
from tests.conformance.regress import sources

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ETC = Path("/etc/apt")
TIMEOUT = 300.0


def workshop() -> Path:
    """Our directory, which keeps downloads and builds between runs; others may read it."""
    place = Path(tempfile.gettempdir()).resolve() / f"pgguard-suites-{os.geteuid()}"
    place.mkdir(mode=0o755, exist_ok=True)
    status = place.lstat()
    if status.st_uid != os.geteuid() or place.is_symlink():
        raise Missing(f"{place} belongs to somebody else: remove it, or set TMPDIR")
    place.chmod(0o755)
    return place


class Apt:
    """The system's package sources, read into a directory of our own."""

    def __init__(self, *, newest: bool = False) -> None:
        """`newest` asks the same mirrors for what the next release will hold, too."""
        for program in ("apt-get", "dpkg-deb"):
            if shutil.which(program) is None:
                raise Missing(f"{program} is not on this machine: a Debian or Ubuntu is needed")
        text = system_sources(newest=newest)
        self._home = workshop() / ("apt-newest" if newest else "apt")
        self.archives = self._home / "cache" / "archives"
        for part in ("lists/partial", "cache/archives/partial", "etc/sources.list.d"):
            (self._home / part).mkdir(parents=True, exist_ok=True)
        (self._home / "etc" / "sources.list.d" / "system.sources").write_text(text)

    def update(self) -> None:
        """Read the lists anew. A source that fails is reported by what is then not found."""
        self._run("apt-get", ["update", "-q"], must=False)

    def show(self, package: str) -> dict[str, str]:
        """The fields of the newest version, empty when there is none."""
        said = self._run("apt-cache", ["show", "--no-all-versions", package], must=False)
        return dict(re.findall(r"^([A-Z][\w-]*): (.*)$", said, re.MULTILINE))

    def source_versions(self, source: str) -> list[str]:
        """Versions of a source package, as the lists have them."""
        said = self._run("apt-cache", ["showsrc", "--only-source", source], must=False)
        return re.findall(r"^Version: (\S+)$", said, re.MULTILINE)

    def download(self, packages: Sequence[str], into: Path) -> None:
        """The packages themselves (`name=version`), into a directory."""
        into.mkdir(parents=True, exist_ok=True)
        self._run("apt-get", ["download", "-q", *packages], cwd=into)

    def download_needs(self, packages: Sequence[str]) -> None:
        """What an installation would bring, into `archives`; nothing is installed."""
        options = ["--download-only", "-y", "-q", "--no-install-recommends"]
        self._run("apt-get", ["install", *options, *packages])

    def download_source(self, source: str, version: str, into: Path) -> Path:
        """The upstream's archive of a source package, as the lists have its sum.

        apt-get wants all parts of a package; a mirror may lack one that is not wanted here.
        """
        into.mkdir(parents=True, exist_ok=True)
        exact = f"{source}={version}"
        said = self._run("apt-cache", ["showsrc", "--only-source", source], must=False)
        entry = next((e for e in said.split("\n\n") if f"\nVersion: {version}\n" in e), "")
        listed = re.findall(rf"^ ([0-9a-f]{{64}}) \d+ ({_archive(source)})$", entry, re.MULTILINE)
        command = ["source", "--download-only", "--only-source", "-q", exact]
        reason = self._run("apt-get", command, cwd=into, must=False, errors=True)
        for total, name in listed:
            file = into / name
            if file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == total:
                return file
        raise Missing(f"apt-get {' '.join(command)} failed: {reason.strip()[-400:]}")

    def _run(
        self,
        program: str,
        arguments: Sequence[str],
        *,
        cwd: Path | None = None,
        must: bool = True,
        errors: bool = False,
    ) -> str:
        """What it says, or what it says of errors; Missing when it must not fail and does."""
        home = self._home
        options = {
            "Dir::State::lists": home / "lists",
            "Dir::Cache": home / "cache",
            "Dir::Etc::sourcelist": home / "etc" / "sources.list",
            "Dir::Etc::sourceparts": home / "etc" / "sources.list.d",
            # Our directories are not for apt's own user; without a sandbox it does not mind.
            "APT::Sandbox::User": "root",
            # Nothing of the system is changed, and its lock is not for ordinary users.
            "Debug::NoLocking": "true",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        done = subprocess.run(
            [program, *words, *arguments],
            cwd=cwd or home,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        if done.returncode and must:
            said = done.stderr.strip()[-400:]
            raise Missing(f"{program} {' '.join(arguments)} failed: {said}")
        return done.stderr if errors else done.stdout


def newest_source(sources: Apt, name: str, into: Path) -> tuple[Path, str]:
    """The newest source package that can be had: mirrors list some that they do not hold."""
    reason = "its sources do not list it"
    for version in sorted(sources.source_versions(name), key=_natural, reverse=True):
        try:
            return sources.download_source(name, version, into), version
        except Missing as missing:
            reason = str(missing)
    raise Missing(f"apt has no source package {name}: {reason}")


def any_source(name: str, into: Path, *, newest: bool = False) -> tuple[Path, str]:
    """From the system's release, else from what its mirrors have for the next, or that one first.

    Raises Missing with the last reason.
    """
    reason = Missing(f"apt has no source package {name}")
    for first in (newest, not newest):
        try:
            system = Apt(newest=first)
            system.update()
            return newest_source(system, name, into)
        except Missing as missing:
            reason = missing
    raise reason


def unpack(package: Path, root: Path) -> None:
    """The files of one binary package below `root`."""
    subprocess.run(["dpkg-deb", "-x", package, root], check=True, capture_output=True)


def unpack_source(archive: Path, into: Path, wanted: Callable[[str], bool]) -> None:
    """The regular files whose path inside of the archive's one directory is wanted."""
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            path = member.name.partition("/")[2]
            if not member.isfile() or ".." in path.split("/") or not wanted(path):
                continue
            content = tar.extractfile(member)
            assert content is not None
            target = into / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read())


def system_sources(etc: Path = ETC, *, newest: bool = False) -> str:
    """The system's sources in the deb822 format, of each the source packages, too.

    Raises Missing when there are none, or none of the distribution's own archive for `newest`.
    """
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    found = [
        source
        for file in files
        if file.suffix in (".list", ".sources") and file.exists()
        for source in sources.read(
            file.read_text(errors="replace"), deb822=file.suffix == ".sources"
        )
    ]
    if not found:
        raise Missing(f"apt has no package sources ({etc}/sources.list, {etc}/sources.list.d)")
    stanzas = [source.stanza("deb deb-src") for source in found]
    if newest:
        system = platform.freedesktop_os_release()
        name, codename = system["ID"], system.get("VERSION_CODENAME", "")
        suite = sources.NEWEST.get(name, "newer packages")
        more = sources.newest(found, codename, name)
        if not more:
            raise Missing(
                f"apt's sources in {etc} name no archive with {codename or name}"
                f" {sources.COMPONENT} that could be asked for {suite}: add the distribution's own"
            )
        stanzas += [source.stanza("deb-src") for source in more]
    return "\n".join(stanzas)


def _archive(source: str) -> str:
    """What the upstream's archive of a source package is called, without further components."""
    return rf"{re.escape(source)}_[^_\s]+\.orig\.tar\.(?:gz|bz2|xz)"


def _natural(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
