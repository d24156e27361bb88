"""PgBouncer newer than the system's: built from the source that Debian's archive keeps.

Transaction mode carries prepared statements since 1.21, and Debian 12 has 1.18. The source is taken
from the archive that apt is set up with, checked by its digest, and built once into a cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from pathlib import Path

from tests.conformance import fetching
from tests.conformance.harness import Missing

SOURCES = {
    (1, 24, 1): "da72a3aba13072876d055a3e58dd4aba4a5de4ed6148e73033185245598fd3e0",
}
"""Version → SHA-256 of its release, newest first: what Debian's stable releases keep."""

PREPARES = (1, 21)
"""The first version that carries prepared statements in transaction mode."""

_POOL = "pool/main/p/pgbouncer/pgbouncer_{}.orig.tar.gz"


def pgbouncer() -> Path:
    """The newest PgBouncer to be had; Missing if none carries prepared statements."""
    own = fetching.program("pgbouncer", "pgbouncer")
    if _version(own) >= max(SOURCES):
        return own
    for version, digest in SOURCES.items():
        built = _cache() / f"pgbouncer-{_words(version)}"
        if built.exists():
            return built
        source = _download(version, digest)
        if source is not None:
            return _build(source, version, built)
    if _version(own) >= PREPARES:
        return own
    raise Missing(f"PgBouncer {_words(PREPARES)} or newer, or an archive with its source")


def _words(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _version(program: Path) -> tuple[int, ...]:
    said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"[\d.]+", said)
    return tuple(int(word) for word in found.group().strip(".").split(".")) if found else (0,)


def _cache() -> Path:
    # Not below the home directory: nobody else may enter that of root.
    directory = Path(tempfile.gettempdir()) / f"pgguard-bench-{os.geteuid()}"
    directory.mkdir(mode=0o755, exist_ok=True)
    if directory.lstat().st_uid != os.geteuid() or directory.is_symlink():
        raise Missing(f"{directory} belongs to somebody else: remove it, or set TMPDIR")
    return directory


def _download(version: tuple[int, ...], digest: str) -> bytes | None:
    """The release, from whichever archive apt knows; None if none has it."""
    listing = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    if not shutil.which("apt-get"):
        return None
    archives = subprocess.run(listing, capture_output=True, text=True).stdout.split()
    for archive in dict.fromkeys(archives):
        url = f"{archive.rstrip('/')}/{_POOL.format(_words(version))}"
        if not url.startswith(("http://", "https://")):
            continue
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                content: bytes = answer.read()
        except OSError:
            continue
        if hashlib.sha256(content).hexdigest() == digest:
            return content
    return None


def _build(source: bytes, version: tuple[int, ...], built: Path) -> Path:
    fetching.compiler()
    fetching.program("make", "make")
    fetching.program("pkg-config", "pkg-config")
    for header, package in (("event2/event.h", "libevent-dev"), ("openssl/ssl.h", "libssl-dev")):
        fetching.header(header, package)
    with tempfile.TemporaryDirectory(prefix="pgguard-bench-") as directory:
        archive = Path(directory) / "source.tar.gz"
        archive.write_bytes(source)
        with tarfile.open(archive) as files:
            files.extractall(directory, filter="data")
        tree = Path(directory) / f"pgbouncer-{_words(version)}"
        configure = ["./configure", "--without-cares", "--without-pam", "--without-systemd"]
        for command in (configure, ["make", "-j2", "pgbouncer"]):
            done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=300)
            if done.returncode:
                said = (done.stderr or done.stdout).strip()[-300:]
                raise Missing(f"PgBouncer could not be built: {' '.join(command)}: {said}")
        # Whole or not at all: another run may look for it meanwhile.
        new = built.with_suffix(f".{os.getpid()}")
        shutil.copy(tree / "pgbouncer", new)
        new.chmod(0o755)
        new.replace(built)
    return built
