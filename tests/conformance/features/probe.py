"""`features`: what a session makes of itself is kept for it and seen by nobody else.

Each state is made, looked at by its owner and by neighbours, and looked at again when the owner
has left: on connections of their own, and through a guard in transparent mode with fewer servers
than sessions. Laws: the answers of a direct connection are the bar, and nothing else; a neighbour
may wait for the owner, but what it then gets must be what it would have got directly; whoever
comes when all is over gets a server that somebody else had.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import psycopg

from tests.conformance import harness, known
from tests.conformance.features.hidden import HIDDEN_ONES, OBJECTS
from tests.conformance.features.model import State
from tests.conformance.features.sessions import DRIVERS
from tests.conformance.features.spellings import SPELLINGS, TRANSACTIONS
from tests.support import features

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.conformance.features.model import Statement
    from tests.conformance.features.sessions import Session

    Open = Callable[[harness.Address, str], Awaitable[Session]]

STATES = [
    *(State(one.name, one.make, one.look, one.after) for one in features.FEATURES),
    *SPELLINGS,
    *TRANSACTIONS,
    *HIDDEN_ONES,
    *OBJECTS,
]
LEAST = 29
"""States that the issue asks for."""
COMPARED = frozenset(
    {
        *("SET work_mem", "SET search_path", "dotted by a bound value", "dotted in DO", "SET ROLE"),
        *("SET statement_timeout", "SET in a transaction", "temporary table", "advisory lock"),
        *("LISTEN", "cursor WITH HOLD", "currval", "lastval of an INSERT", "PREPARE"),
        *("SET default_transaction_read_only", "SET TIME ZONE", "application_name"),
    }
)
"""The 17 by which other poolers were compared; PgBouncer loses and leaks 15 of them."""

SETTLED = 0.15
"""Seconds after which a neighbour without an answer is taken to wait for the owner's server."""
WITHIN = 20.0
"""Seconds in which it has one when the owner has left."""

ALIKE = ("name", "name", "name")
STRANGERS = ("name", "another", "third")


@dataclass(frozen=True, slots=True)
class Way:
    """Sessions by their application_name, the owner first, and the guard's settings."""

    names: tuple[str, ...]
    settings: dict[str, str]


WAYS = {
    "2 on 1": Way(ALIKE[:2], {"limits.connection_limit": "1"}),
    "3 on 2": Way(ALIKE, {"limits.connection_limit": "2"}),
    "3 clients on 2": Way(STRANGERS, {"limits.connection_limit": "1", "limits.total": "2"}),
    "3 on 2, restless": Way(ALIKE, {"limits.connection_limit": "2", "pool.restless": "true"}),
}
ALL = [(driver, way) for driver in DRIVERS for way in WAYS]
SHORT = [("psycopg", "3 on 2"), ("asyncpg", "2 on 1"), ("asyncpg", "3 clients on 2")]
"""What the short form plays, a third of the states each."""

SLICES = 4
AFTERWARDS = "afterwards"


@dataclass(slots=True)
class Seen:
    """What all got; `others` by neighbour and by when it looked."""

    owner: list[str] = field(default_factory=list)
    others: dict[tuple[int, str], str] = field(default_factory=dict)
    waited: int = 0
    """Neighbours that had no answer before the owner left."""


def run(checks: harness.Checks, short: bool) -> None:
    """Every state by every driver in every way; the short form plays each state once."""
    there = COMPARED & {state.name for state in STATES}
    what = "the states by which other poolers were compared are among them"
    checks.claim(len(there) == 17, what, len(there), "17")
    with harness.postgres(max_connections=100) as server:
        schema = Path(__file__).with_name("schema.sql").read_text()
        with psycopg.connect(server.address.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE template")
        template = replace(server.address, database="template")
        with psycopg.connect(template.url, autocommit=True) as connection:
            connection.execute(features.SCHEMA + schema)  # type: ignore[arg-type]
        with psycopg.connect(server.address.url, autocommit=True) as connection:
            for at in range(SLICES):
                connection.execute(f"CREATE DATABASE slice_{at} TEMPLATE template")  # type: ignore[arg-type]
        for number, (driver, name) in enumerate(SHORT if short else ALL):
            states = STATES[number :: len(SHORT)] if short else STATES
            verdicts = asyncio.run(play_all(server.address, DRIVERS[driver], WAYS[name], states))
            judge(checks, f"{driver}, {name}", states, verdicts)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one state in one way."""

    kept: bool
    clean: bool
    waited: int
    why: str

    def __str__(self) -> str:
        words = "kept" if self.kept else "LOST", "clean" if self.clean else "LEAKED"
        return "/".join(words) + (" (waited)" if self.waited else "")


async def play_all(
    address: harness.Address, opens: Open, way: Way, states: Sequence[State]
) -> dict[str, Verdict]:
    """Slices at the same time, each with a database and a guard of its own: locks are shared in a
    database, and servers among all that a slice plays."""
    slices = (
        play_slice(replace(address, database=f"slice_{at}"), opens, way, states[at::SLICES])
        for at in range(SLICES)
    )
    found: dict[str, Verdict] = {}
    for verdicts in await asyncio.gather(*slices):
        found |= verdicts
    return found


async def play_slice(
    address: harness.Address, opens: Open, way: Way, states: Sequence[State]
) -> dict[str, Verdict]:
    verdicts = {}
    guard = harness.Guard(address, {"pool.mode": "transparent"} | way.settings)
    await asyncio.to_thread(guard.__enter__)
    try:
        for state in states:
            direct = await asyncio.wait_for(play(opens, address, state, way.names, WITHIN), 60)
            try:
                got = await asyncio.wait_for(
                    play(opens, guard.address, state, way.names, SETTLED), 60
                )
            except (OSError, TimeoutError, psycopg.Error, asyncpg.PostgresError) as error:
                verdicts[state.name] = Verdict(False, False, 0, repr(error))
                continue
            verdicts[state.name] = compare(direct, got)
    finally:
        await asyncio.to_thread(guard.stop)
    return verdicts


def compare(direct: Seen, got: Seen) -> Verdict:
    strange = {
        at: (answer, direct.others[at])
        for at, answer in got.others.items()
        if answer != direct.others[at]
    }
    kept = got.owner == direct.owner
    why = "" if kept else f"owner {got.owner}, directly {direct.owner}"
    why += "".join(f"; {at}: {one}, directly {other}" for at, (one, other) in strange.items())
    return Verdict(kept, not strange, got.waited, why)


async def play(
    opens: Open, address: harness.Address, state: State, names: Sequence[str], patience: float
) -> Seen:
    """One state from its making to the time after its owner; `patience` in seconds for neighbours
    to answer."""
    seen = Seen()
    owner, *others = [await opens(address, name) for name in names]
    waiting: dict[int, tuple[str, asyncio.Task[str]]] = {}
    try:
        for statement in state.make:
            answer = await owner.run(statement)
            # Rows depend on who was here before.
            seen.owner.append(answer if len(answer) == 5 else "done")
            if not owner.in_transaction():
                await ask(others, "SELECT 1", "", seen, waiting, patience)
        for time in ("beside it", "beside it, again"):
            await ask(others, state.look, time, seen, waiting, patience)
            seen.owner.append(await owner.run(state.look))
        for statement in state.after:
            await owner.run(statement)
        await owner.close()
        seen.waited = len(waiting)
        for at, (time, task) in waiting.items():
            answer = await asyncio.wait_for(task, WITHIN)
            if time:
                seen.others[at, AFTERWARDS] = answer
        others.append(await opens(address, names[-1]))
        for at, session in enumerate(others):
            if (at, AFTERWARDS) not in seen.others:
                answer = await asyncio.wait_for(session.run(state.look), WITHIN)
                seen.others[at, AFTERWARDS] = answer
            await session.close()
    finally:
        for session in (owner, *others):
            await session.close()
    return seen


async def ask(
    others: Sequence[Session],
    statement: Statement,
    time: str,
    seen: Seen,
    waiting: dict[int, tuple[str, asyncio.Task[str]]],
    patience: float,
) -> None:
    """All that do not wait yet; what they have answered is noted."""
    for at, session in enumerate(others):
        if at not in waiting:
            waiting[at] = time, asyncio.create_task(session.run(statement))
    await asyncio.wait([task for _, task in waiting.values()], timeout=patience)
    collect(seen, waiting)


def collect(seen: Seen, waiting: dict[int, tuple[str, asyncio.Task[str]]]) -> None:
    for at, (time, task) in list(waiting.items()):
        if task.done():
            del waiting[at]
            if time:
                seen.others[at, time] = task.result()


def judge(
    checks: harness.Checks, name: str, states: Sequence[State], verdicts: dict[str, Verdict]
) -> None:
    """Every state, what is known, and the claim."""
    for state in states:
        one = verdicts[state.name]
        checks.note(f"{name}: {state.name}: {one}{one.why and f': {one.why}'}")
    wrong = {state for state, one in verdicts.items() if not (one.kept and one.clean)}
    for line in known.explained("features", wrong):
        checks.note(f"known: {line}")
    unknown = known.unexplained("features", wrong)
    right = len(states) - len(wrong)
    checks.claim(
        not unknown and right >= LEAST,
        f"{name}: kept for the owner, clean for the neighbours",
        f"{right} of {len(states)}, known {len(wrong) - len(unknown)}, others {unknown or 'none'}",
        f"all, at least {LEAST}",
    )
