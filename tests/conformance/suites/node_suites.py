"""Suites that mocha runs: the tests of node-postgres's own packages, against its newest release.

node-postgres and postgres.js publish no tests through npm; the cursor, stream and pool packages,
which stand on node-postgres's client, did until the releases that are pinned here. Their tests run
against today's releases of the same packages. Laws: as in `python_suites`; mocha writes its record
itself.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.conformance import fetching, harness
from tests.conformance.harness import Missing
from tests.conformance.suites.model import Outcome, Suite, Target, cache

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

INSTALLS = (
    "pg@8.23.1",
    "pg-cursor@2.22.1",
    "pg-pool@3.14.0",
    "pg-query-stream@4.17.0",
    "mocha@11.7.0",
    "JSONStream@0.7.4",
    "bluebird@3.4.1",
    "co@4.6.0",
    "concat-stream@1.0.1",
    "expect.js@0.3.1",
    "lodash@4.17.21",
    "through@2.3.8",
)
"""The packages under test and what their tests use."""

TESTS = ("pg-cursor@2.3.0", "pg-pool@3.3.0", "pg-query-stream@3.3.1")
"""The releases whose tarballs hold tests."""

LEFT_OUT = ("test/pauses.js", "test/stream-tester.js", "test/stream-tester-timestamp.js")
"""Tests that stand on stream-tester, which npm cannot bring: it hangs on a source outside of it."""

TEST_WITHIN = 30_000
"""Milliseconds that one test may take."""

FILE_WITHIN = 300.0
"""Seconds that the tests of one file may take."""


@dataclass(frozen=True, slots=True)
class PreparedNode:
    """The packages with the tests in them."""

    node: Path
    directory: Path

    def run(
        self, target: Target, scratch: Path, *, short: bool, only: Collection[str] | None = None
    ) -> dict[str, Outcome]:
        """Each file in a process of its own, bytes are those of the file; `only` chooses files."""
        outcomes: dict[str, Outcome] = {}
        for release in TESTS[:1] if short else TESTS:
            package = release.rpartition("@")[0]
            place = self.directory / "node_modules" / package
            for file in sorted((place / "test").glob("*.js")):
                name = f"{package}/{file.stem}"
                if only is None or any(test.startswith(f"{name}: ") for test in only):
                    outcomes |= self._file(name, place, target, scratch)
        return outcomes

    def _file(self, name: str, place: Path, target: Target, scratch: Path) -> dict[str, Outcome]:
        record = scratch / f"{name.replace('/', '-')}.json"
        mocha = self.directory / "node_modules" / "mocha" / "bin" / "mocha.js"
        command = [self.node, mocha, "--exit", "--timeout", str(TEST_WITHIN), "--reporter", "json"]
        command += ["--reporter-option", f"output={record}", f"test/{name.partition('/')[2]}.js"]
        before = target.received()
        with (scratch / "output").open("wb") as output:
            try:
                subprocess.run(
                    command,
                    cwd=place,
                    env=harness.clean_environment() | target.address.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=FILE_WITHIN,
                )
            except subprocess.TimeoutExpired:
                return {f"{name}: all of it": Outcome("failed", f"no end in {FILE_WITHIN:.0f} s")}
        if not record.exists():
            said = (scratch / "output").read_text(errors="replace")[-500:]
            return {f"{name}: all of it": Outcome("failed", said)}
        return read(name, record, target.received() - before)


def read(file: str, record: Path, received: int) -> dict[str, Outcome]:
    """Outcomes of mocha's record; tests of one title get numbers."""
    told = json.loads(record.read_text())
    pending = {json.dumps(test, sort_keys=True) for test in told["pending"]}
    outcomes: dict[str, Outcome] = {}
    for test in told["tests"]:
        name = title = f"{file}: {test['fullTitle']}"
        number = 1
        while name in outcomes:
            number += 1
            name = f"{title} ({number})"
        if json.dumps(test, sort_keys=True) in pending:
            outcomes[name] = Outcome("skipped")
        elif test["err"]:
            outcomes[name] = Outcome("failed", str(test["err"].get("message", "")), received)
        else:
            outcomes[name] = Outcome("passed", "", received)
    for test in told["failures"]:
        name = f"{file}: {test['fullTitle']}"
        if name not in outcomes:
            outcomes[name] = Outcome("failed", str(test["err"].get("message", "")), received)
    return outcomes


def bring() -> PreparedNode:
    """node, the packages, and their tests beside them. Raises Missing."""
    node = fetching.program("node", "nodejs")
    digest = hashlib.sha256(" ".join((*INSTALLS, *TESTS)).encode()).hexdigest()[:12]
    directory = cache() / f"node-{digest}"
    if not (directory / "complete").exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        npm(directory, "install", "--ignore-scripts", "--no-audit", "--no-fund", *INSTALLS)
        npm(directory, "pack", *TESTS)
        for release in TESTS:
            package, _, version = release.rpartition("@")
            place = directory / "node_modules" / package
            with tarfile.open(directory / f"{package}-{version}.tgz") as archive:
                for member in archive.getmembers():
                    member.name = member.name.partition("/")[2]
                    if member.name.startswith("test/") and member.name not in LEFT_OUT:
                        archive.extract(member, place, filter="data")
        (directory / "complete").touch()
    return PreparedNode(node, directory)


def npm(directory: Path, *words: str) -> None:
    """Run npm for the packages below that directory. Raises Missing with its last words."""
    program = fetching.program("npm", "npm")
    command = [str(program), words[0], "--prefix", str(directory), *words[1:]]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise Missing(f"{' '.join(command[1:])} failed: {done.stderr.strip()[-400:]}")


NODE_POSTGRES = Suite("node-postgres", "8.23.1 (pg-cursor, pg-pool, pg-query-stream)", bring)
