"""node-postgres's own tests of its client, each file a program that ends with 0 when all is well.

npm's releases hold none of them, the upstream's archive in Debian's source package does; they run
against npm's newest release. Laws: each file has a process of its own; it may hang: it has failed.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.conformance import fetching, harness
from tests.conformance.harness import Missing
from tests.conformance.regress import apt
from tests.conformance.suites.model import Outcome, Suite, Target, cache
from tests.conformance.suites.node_suites import npm

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

VERSION = "8.23.1"
INSTALLS = (
    f"pg@{VERSION}",
    "async@2.6.4",
    "bluebird@3.7.2",
    "co@4.6.0",
    "pg-copy-streams@0.3.0",
)
"""The package under test and what its tests use."""

SOURCE = "node-postgres"
PLACE = "packages/pg/"
"""Where the package is in the upstream's archive."""

WANTED = (f"{PLACE}test/integration/", f"{PLACE}script/create-test-tables.js")
HELPERS = ("cli.js", "suite.js", "test-buffers.js", "test-helper.js", "buffer-list.js")
"""Files of `test` itself; what is below `test/unit` and `test/native` needs no server, or libpq."""

FILE_WITHIN = 120.0
"""Seconds that one file may take; each of its tests has 5 by the suite's own rule."""


@dataclass(frozen=True, slots=True)
class PreparedClient:
    """The package with its tests in it."""

    node: Path
    place: Path

    def run(
        self, target: Target, scratch: Path, *, short: bool, only: Collection[str] | None = None
    ) -> dict[str, Outcome]:
        """Outcomes by file, in the order of their names; the short form has none of them."""
        if short:
            return {}
        tables = self._file("script/create-test-tables.js", target, scratch)
        if tables.outcome != "passed":
            raise Missing(f"the tests' tables cannot be made: {tables.why}")
        files = sorted((self.place / "test" / "integration").rglob("*-tests.js"))
        names = [str(file.relative_to(self.place)) for file in files]
        return {
            name: self._file(name, target, scratch)
            for name in names
            if only is None or name in only
        }

    def _file(self, name: str, target: Target, scratch: Path) -> Outcome:
        before = target.received()
        with (scratch / "output").open("wb") as output:
            try:
                ended = subprocess.run(
                    [self.node, name],
                    cwd=self.place,
                    env=harness.clean_environment() | target.address.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=FILE_WITHIN,
                ).returncode
            except subprocess.TimeoutExpired:
                return Outcome("failed", f"no end in {FILE_WITHIN:.0f} s")
        received = target.received() - before
        if ended:
            said = (scratch / "output").read_text(errors="replace")
            return Outcome("failed", f"ended with {ended}: {said.strip()[-400:]}", received)
        return Outcome("passed", "", received)


def bring() -> PreparedClient:
    """node, the package from npm, its tests from apt. Raises Missing."""
    node = fetching.program("node", "nodejs")
    digest = hashlib.sha256(" ".join(INSTALLS).encode()).hexdigest()[:12]
    directory = cache() / f"node-client-{digest}"
    place = directory / "node_modules" / "pg"
    if not (directory / "complete").exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        archive, version = apt.any_source(SOURCE, directory / "source", newest=True)
        npm(directory, "install", "--ignore-scripts", "--no-audit", "--no-fund", *INSTALLS)
        apt.unpack_source(archive, directory / "source", _wanted)
        for part in ("test", "script"):
            shutil.copytree(directory / "source" / PLACE / part, place / part)
        (directory / "complete").write_text(version)
    return PreparedClient(node, place)


def _wanted(path: str) -> bool:
    return path.startswith(WANTED) or path in [f"{PLACE}test/{name}" for name in HELPERS]


NODE_CLIENT = Suite("node-postgres-client", VERSION, bring)
