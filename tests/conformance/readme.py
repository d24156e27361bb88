"""`readme`: the README's two lines, word for word, in fresh clones and empty environments.

As root each clone and HOME lies below a directory of mode 700; a second round runs as `nobody`,
whose clone and HOME are its own. Each line runs first in one clone and second in another one, so
each works alone and in either order. Nothing of the environment is passed on but PATH and what
tells pip how to reach its registry. While the demo runs, its metrics page is read at the address
that it told first.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.conformance import harness
from tests.conformance.fetching import program

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = 10
PLANTED = {("bookings", "test_cancellations.py"), ("packages", "test_catalog.py")}
"""Table and file of the two statements that the demo's suite was given without a tenant."""

DEMO_WITHIN, PYTEST_WITHIN = 420.0, 900.0
DEMO_BAR = 45
LINES_SHOWN = 30
_KEPT = ("PIP_", "SSL_CERT", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a round runs as; `uid` is None for whoever started this run."""

    name: str
    uid: int | None = None
    gid: int | None = None

    @property
    def options(self) -> dict[str, object]:
        """What `subprocess` needs to become this person."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass(slots=True)
class Ended:
    """How a line ended, all that it printed, and what its metrics pages showed meanwhile."""

    status: int | None
    screen: str
    took: float
    connections: set[str] = field(default_factory=set)
    findings: set[str] = field(default_factory=set)
    metrics_address: str = ""
    told_first: str = ""
    """The first line of pgguard's own."""

    demo_began: float = 0.0


def run(checks: harness.Checks, short: bool) -> None:
    """Both people and both orders; the short form is the demo's line once, as whoever runs this."""
    program("git", "git")
    demo, pytest = _lines()
    people = [Person(pwd.getpwuid(os.geteuid()).pw_name)]
    if short:
        checks.note("short form: demo line only, once, as the user who runs this")
    elif os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        people.append(Person("nobody", nobody.pw_uid, nobody.pw_gid))
    else:
        checks.note(f"started as {people[0].name}: only this user's round runs, not root's")
    for person in people:
        orders = [(demo,)] if short else [(demo, pytest), (pytest, demo)]
        for order in orders:
            with _clone(person) as directory:
                for line in order:
                    if line is demo:
                        _check_demo(checks, person, directory, line)
                    else:
                        _check_pytest(checks, person, directory, line)


def _lines() -> tuple[str, str]:
    """The two lines as the README has them."""
    text = (harness.ROOT / "README.md").read_text()
    lines = re.findall(r"^python3 -m venv \.venv && .*$", text, re.MULTILINE)
    demo = next(line for line in lines if line.endswith(".venv/bin/pgguard demo"))
    pytest = next(line for line in lines if line.endswith(".venv/bin/pytest"))
    return demo, pytest


@contextmanager
def _clone(person: Person) -> Iterator[Path]:
    """A fresh clone of HEAD beside an empty HOME; nobody else may enter their directory."""
    directory = Path(tempfile.mkdtemp(prefix="pgguard-readme-"))
    try:
        (directory / "home").mkdir()
        clone = ["git", "clone", "-q", str(harness.ROOT), str(directory / "pgguard")]
        subprocess.run(clone, check=True, capture_output=True)
        if person.uid is not None and person.gid is not None:
            for path in [directory, *directory.rglob("*")]:
                os.chown(path, person.uid, person.gid, follow_symlinks=False)
        directory.chmod(0o700)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _environment(directory: Path) -> dict[str, str]:
    """PATH with a python3 of 3.11 or newer, HOME, and how pip reaches its registry."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    found = shutil.which("python3", path=path)
    new_enough = "import sys, ensurepip; sys.exit(sys.version_info < (3, 11))"
    if found is None or subprocess.run([found, "-c", new_enough], capture_output=True).returncode:
        base = Path(getattr(sys, "_base_executable", sys.executable))
        path = f"{base.resolve().parent}:{path}"
    kept = {name: text for name, text in os.environ.items() if name.upper().startswith(_KEPT)}
    return kept | {"PATH": path, "HOME": str(directory / "home"), "LANG": "C.UTF-8"}


def _execute(person: Person, directory: Path, line: str, within: float) -> Ended:
    """Run one line with a shell; what it prints is read as it comes."""
    started = time.monotonic()
    process = subprocess.Popen(
        ["/bin/sh", "-c", line],
        cwd=directory / "pgguard",
        env=_environment(directory),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        **person.options,  # type: ignore[call-overload]
    )
    ended = Ended(None, "", 0.0)
    reader = threading.Thread(target=_read, args=(process.stdout, ended))
    reader.start()
    while process.poll() is None and time.monotonic() - started < within:
        if ended.metrics_address:
            _scrape(ended)
        time.sleep(0.2)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    ended.status = process.wait()
    reader.join(10)
    ended.took = time.monotonic() - started
    return ended


def _read(output: IO[str], ended: Ended) -> None:
    for text in output:
        ended.screen += text
        if text.startswith("pgguard") and not ended.told_first:
            ended.told_first, ended.demo_began = text.strip(), time.monotonic()
        found = _ADDRESS.search(text)
        if found and not ended.metrics_address:
            ended.metrics_address = found.group()


def _scrape(ended: Ended) -> None:
    """Add to the clients that the page shows; before and after the guard there is no page."""
    with suppress(OSError):
        page = harness.Metrics(harness.fetch(f"{ended.metrics_address}/metrics"))
        ended.connections |= set(page.by("client_server_connections", "client"))
        ended.findings |= set(page.by("findings_total", "client"))


def _check_demo(checks: harness.Checks, person: Person, directory: Path, line: str) -> None:
    ended = _execute(person, directory, line, DEMO_WITHIN)
    for text in ended.screen.splitlines()[-LINES_SHOWN:]:
        checks.note(f"| {text}")
    who = f"as {person.name}"
    checks.claim(ended.status == 0, f"demo {who}", f"status {ended.status}, {ended.took:.0f} s")
    lasted = time.monotonic() - ended.demo_began
    checks.claim(lasted < DEMO_BAR, "the demo itself", f"{lasted:.0f} s", f"< {DEMO_BAR} s")
    first = _ADDRESS.search(ended.told_first) is not None
    checks.claim(first, "its first line has the metrics address", ended.told_first)
    refused = "too many clients" in ended.screen
    checks.claim(refused, "the screen shows Postgres's own 'too many clients'")
    named = sum(table in ended.screen and file in ended.screen for table, file in PLANTED)
    checks.claim(named == len(PLANTED), "planted statements on the screen", named, "2")
    reported = _reported(directory)
    checks.claim(reported == PLANTED, "unscoped findings in the report", sorted(reported))
    told = re.search(r"\S*\.pgguard/[\w./-]+", ended.screen)
    exists = told is not None and (directory / "pgguard" / told.group().rstrip(".")).exists()
    checks.claim(exists, "the report's path leads to it", told.group() if told else "none told")
    seen = sum(name.endswith(".py") for name in ended.connections)
    figure = f"{seen} at {ended.metrics_address or 'no address told'}"
    checks.claim(seen == FILES, "files in client_server_connections meanwhile", figure, "10")
    planted = {file for _, file in PLANTED}
    checks.claim(
        planted <= ended.findings, "files in findings_total meanwhile", sorted(ended.findings)
    )


def _reported(directory: Path) -> set[tuple[str, str]]:
    """Table and client of the unscoped findings in the newest report."""
    path = directory / "pgguard" / ".pgguard" / "last" / "findings.json"
    if not path.exists():
        return set()
    report = json.loads(path.read_text())
    findings = report["findings"] if isinstance(report, dict) else report
    return {
        (finding["relations"][0]["name"], finding["client"])
        for finding in findings
        if finding["class"] == "unscoped"
    }


def _check_pytest(checks: harness.Checks, person: Person, directory: Path, line: str) -> None:
    ended = _execute(person, directory, line, PYTEST_WITHIN)
    figure = f"status {ended.status}, {ended.took:.0f} s, {ended.screen.strip()[-120:]!r}"
    checks.claim(ended.status == 0, f"pytest as {person.name}", figure)
