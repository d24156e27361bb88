"""libpq_pipeline: Postgres's own test program for the extended protocol, with protocol traces.

Every test it lists runs directly and through pgguard. Where libpq can write a trace without times
and lengths, both traces must be the same, message for message. Where sessions share servers more
cancels are sent than `cancel` sends.
"""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from tests.conformance import harness, known
from tests.conformance.regress import shared
from tests.conformance.regress.pg_regress import as_server_user, mine

if TYPE_CHECKING:
    from tests.conformance.regress.kit import Kit

ROWS = 700
"""As in Postgres's own run of it."""

WITHIN = 60.0
CANCELS, POLL = 20, 0.01
SUITE = "libpq_pipeline"
DATABASE = "pipelines"

UNTRACED = ("pipelined_insert", "uniqviol", "cancel", "protocol_version")
"""Tests whose traces differ from run to run (how much is sent at once depends on the socket)."""


def run(checks: harness.Checks, kit: Kit, place: Path, sides: dict[str, harness.Address]) -> None:
    """All tests directly and through pgguard; claims that only what is known differs."""
    names = _output([Path(kit.built) / "libpq_pipeline", "tests"], kit, sides["direct"])[1].split()
    work = place / "pipeline"
    work.mkdir()
    mine(work)
    found = []
    for side, address in sides.items():
        _database(kit, address)
        seen = {name: _test(kit, address, name, work / f"{name}-{side}.trace") for name in names}
        found.append(seen)
    differs = {}
    for name in names:
        (code, _, trace), (other_code, said, other_trace) = (side[name] for side in found)
        if (code, trace) != (other_code, other_trace):
            differs[name] = f"exit {other_code}{_first_line(trace, other_trace)}: {said[-300:]}"
    failed = [sum(code != 0 for code, _, _ in side.values()) for side in found]
    listed = shared.LISTED if shared.is_shared() else SUITE
    for name in known.unexplained(listed, differs):
        checks.note(f"differs: {name}: {differs[name]}")
    for line in known.explained(listed, differs):
        checks.note(f"known: {line}")
    figure = (
        f"{len(names)} tests, failed direct {failed[0]}, through pgguard {failed[1]}, "
        f"only through pgguard or with another trace {len(differs)}"
    )
    left = known.unexplained(listed, differs)
    checks.claim(bool(names) and not left, SUITE, figure, "0 only through pgguard")
    if shared.is_shared():
        _cancels(checks, sides["guarded"])


def _cancels(checks: harness.Checks, address: harness.Address) -> None:
    """PQcancel of a statement that sleeps, again and again while servers change hands, and what
    the session says afterwards."""
    kept, wrong = 0, ""
    with (
        psycopg.connect(address.url, autocommit=True) as session,
        psycopg.connect(address.url, autocommit=True) as monitor,
    ):
        for number in range(CANCELS):
            said: list[Any] = []
            sleeper = threading.Thread(target=_sleep, args=(session, number, said))
            sleeper.start()
            asleep = _is_asleep(monitor, number)
            session.cancel()
            sleeper.join(WITHIN)
            then = session.execute("SELECT %s", (number,)).fetchone() if said else None
            if not asleep or said != ["57014"] or then != (number,):
                wrong = f"number {number}: asleep {asleep}, {said or 'no answer'}, then {then}"
                break
            kept += 1
    figure = f"{kept} of {CANCELS} ended with 57014 {wrong}".strip()
    checks.claim(kept == CANCELS, "cancels of statements that sleep", figure, "all")


def _sleep(session: psycopg.Connection[Any], number: int, said: list[Any]) -> None:
    try:
        session.execute(f"SELECT pg_sleep({WITHIN:.0f}) AS cancelled_{number}")
        said.append("the end")
    except psycopg.Error as error:
        said.append(error.sqlstate)


def _is_asleep(monitor: psycopg.Connection[Any], number: int) -> bool:
    """Wait until the statement of that number sleeps."""
    deadline = time.monotonic() + WITHIN
    wanted = f"SELECT pg_sleep({WITHIN:.0f}) AS cancelled_{number}"
    text = "SELECT count(*) FROM pg_stat_activity WHERE query = %s AND wait_event = 'PgSleep'"
    while time.monotonic() < deadline:
        if monitor.execute(text, (wanted,)).fetchone() != (0,):
            return True
        time.sleep(POLL)
    return False


def _database(kit: Kit, address: harness.Address) -> None:
    """A new database: notices about tables that are there already are part of a trace."""
    for words in (["dropdb", "--if-exists"], ["createdb"]):
        program = Path(kit.programs) / words[0]
        where = ["-h", address.host, "-p", str(address.port), "-U", address.user]
        code, said = _output([program, *words[1:], *where, DATABASE], kit, address)
        assert code == 0, said


def _test(kit: Kit, address: harness.Address, name: str, trace: Path) -> tuple[int, str, str]:
    """Exit code, output and trace of one test."""
    options = [] if name in UNTRACED else ["-t", str(trace)]
    conninfo = (
        f"host={address.host} port={address.port} user={address.user} "
        f"dbname={DATABASE} sslmode=disable gssencmode=disable"
    )
    command = [Path(kit.built) / "libpq_pipeline", "-r", str(ROWS), *options, name, conninfo]
    code, said = _output(command, kit, address)
    return code, said, trace.read_text() if trace.exists() else ""


def _first_line(trace: str, other: str) -> str:
    pairs = zip(trace.splitlines(), other.splitlines(), strict=False)
    return next((f", direct {a!r}, guarded {b!r}" for a, b in pairs if a != b), "")


def _output(command: list[object], kit: Kit, address: harness.Address) -> tuple[int, str]:
    try:
        done = subprocess.run(
            [str(word) for word in command],
            env=harness.clean_environment() | kit.environment | {"PGPASSWORD": address.password},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=WITHIN,
            **as_server_user(),
        )
    except subprocess.TimeoutExpired as late:
        return -1, f"not done after {WITHIN:.0f} s: {(late.stdout or b'')[-400:]!r}"
    return done.returncode, done.stdout.decode(errors="replace")
