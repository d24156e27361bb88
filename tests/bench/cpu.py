"""`cpu`: processor time per query beside PgBouncer and a bare relay, memory per idle session.

pgbench -S (scale 10), 8 clients, simple and extended protocol. All targets take their turn in
every round; client, proxy and server share one processor; the floors of the rounds are compared.
The guard and the relay log their clients in by SCRAM, PgBouncer trusts its own. A login is no
query: what the same clients take for a single query each is measured in every round, subtracted
from every target's figure, and printed beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.bench import measure, peers
from tests.conformance import fetching, harness
from tests.conformance.rawsession import RawSession

if TYPE_CHECKING:
    from collections.abc import Mapping

CLIENTS, SCALE = 8, 10
ROUNDS, MOST_ROUNDS = 6, 18
"""How many rounds must be quiet, and after how many there are no more: 6 in the short form."""

QUIET_SHARE = 0.2
"""A round is quiet when the other processors worked less than this share of its time."""

BARS = {"simple": 2.3, "extended": 2.2}
"""Highest ratio to PgBouncer, by protocol."""

RELAY_BAR = 1.6
SESSIONS, SESSION_BAR = 500, 12 * 1024
QUIET = {"autovacuum": "off", "jit": "off", "shared_buffers": "256MB"}


def run(checks: harness.Checks, short: bool) -> None:
    """Processor time, then memory; the short form has fewer, shorter turns and wider bars."""
    program = fetching.program("pgbench", "postgresql-contrib", first=fetching.wheel_programs())
    pgbench = [str(program)]
    checks.note(f"Python {platform.python_version()}, {platform.python_compiler()}")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(harness.postgres(settings=QUIET))
        peers.pgbench(pgbench, server.address, ["-i", "-q", "-s", str(SCALE)])
        targets = [peers.Peer(f"direct (Postgres {server.version})", server.address, 0)]
        targets.append(stack.enter_context(peers.pgbouncer(server.address)))
        targets.append(stack.enter_context(peers.relay(server.address)))
        guard = stack.enter_context(harness.Guard(server.address))
        targets.append(peers.Peer("pgguard", guard.address, guard.pid))
        processor = stack.enter_context(measure.pinned_self())
        for pid in (server.pid, *(target.pid for target in targets[1:])):
            measure.pin(pid, processor)
        for protocol in BARS:
            each, most = (1000, ROUNDS) if short else (2500, MOST_ROUNDS)
            _compare(checks, pgbench, targets, protocol, each, most)
    each = asyncio.run(idle_sessions(checks, {}))
    bar = f"≤ {SESSION_BAR / 1024:.0f} KiB"
    checks.claim(each <= SESSION_BAR, "memory per idle session", f"{each / 1024:.1f} KiB", bar)


@dataclass(slots=True)
class Turns:
    """What one target took, turn by turn: processor time in µs, rates in queries per second."""

    queries: int
    """In one turn, all clients together."""

    whole: list[float] = field(default_factory=list)
    only_login: list[float] = field(default_factory=list)
    """The same number of clients, each with a single query."""

    rates: list[float] = field(default_factory=list)

    @property
    def per_login(self) -> float:
        return min(self.only_login) / CLIENTS

    @property
    def per_query(self) -> list[float]:
        floor = min(self.only_login)
        return [(turn - floor) / (self.queries - CLIENTS) for turn in self.whole]


def _compare(
    checks: harness.Checks,
    pgbench: list[str],
    targets: list[peers.Peer],
    protocol: str,
    each: int,
    most: int,
) -> None:
    """All rounds of one protocol, `most` of them: `each` transactions per client and turn."""
    turns = {target.name: Turns(each * CLIENTS) for target in targets}
    arguments = ["-n", "-S", "-M", protocol, "-c", str(CLIENTS), "-j", "1", "-t"]
    for target in targets:
        peers.pgbench(pgbench, target.address, [*arguments, "100"])
    elsewhere = measure.Elsewhere(max(os.sched_getaffinity(0)))
    shares: list[float] = []
    while sum(share < QUIET_SHARE for share in shares) < ROUNDS and len(shares) < most:
        for target in measure.rotated(targets, len(shares)):
            took = turns[target.name]
            spent, _ = _turn(pgbench, target, [*arguments, "1"])
            took.only_login.append(spent)
            spent, rate = _turn(pgbench, target, [*arguments, str(each)])
            took.whole.append(spent)
            took.rates.append(rate)
        shares.append(elsewhere.share())
    checks.note(f"pgbench -S, {protocol}, {CLIENTS} clients, {len(shares)} rounds of {each} each")
    checks.note(f"other processors were busy {statistics.mean(shares):.0%} of the time")
    names = [target.name for target in targets]
    _judge(checks, protocol, names, turns, short=most == ROUNDS)


def _turn(pgbench: list[str], target: peers.Peer, arguments: list[str]) -> tuple[float, float]:
    """Processor time in µs that the target took for one pgbench, and pgbench's rate."""
    before = measure.processor_us(target.pid) if target.pid else 0.0
    rate = peers.pgbench(pgbench, target.address, arguments)
    time.sleep(0.03)
    after = measure.processor_us(target.pid) if target.pid else 0.0
    return after - before, rate


def _judge(
    checks: harness.Checks,
    protocol: str,
    names: list[str],
    turns: dict[str, Turns],
    *,
    short: bool,
) -> None:
    """The table and the claims of one protocol."""
    direct, bouncer, relay, guard = names
    floors = {name: min(took.per_query) for name, took in turns.items()}
    head = ["target", "µs/query, floor", "median", "to PgBouncer", "µs/login", "queries/s, best"]
    rows = [[direct, "-", "-", "-", "-", f"{max(turns[direct].rates):.0f}"]]
    rows += [
        [
            name,
            f"{floors[name]:.1f}",
            f"{statistics.median(turns[name].per_query):.1f}",
            f"{floors[name] / floors[bouncer]:.2f}",
            f"{turns[name].per_login:.0f}",
            f"{max(turns[name].rates):.0f}",
        ]
        for name in (bouncer, relay, guard)
    ]
    checks.table(head, rows)
    for name, full in (("PgBouncer", BARS[protocol]), ("the relay", RELAY_BAR)):
        ratio = floors[guard] / floors[bouncer if name == "PgBouncer" else relay]
        bar = measure.bar_of(full, short)
        checks.claim(ratio <= bar, f"{protocol}, to {name}", f"{ratio:.2f}", f"≤ {bar:.2f}")


async def idle_sessions(checks: harness.Checks, mode: Mapping[str, str]) -> float:
    """Bytes of resident memory that each of 500 idle sessions adds to a fresh guard with one."""
    settings = {**mode, "limits.total": "600", "limits.connection_limit": "600"}
    with peers.scripted_server() as server:
        guard = harness.Guard(server.address, settings)
        await asyncio.to_thread(guard.__enter__)
        try:
            sessions = [await RawSession.open(guard.address, application_name="idle")]
            await asyncio.sleep(2)
            before = harness.resident(guard.pid)
            sessions += [
                await RawSession.open(guard.address, application_name="idle")
                for _ in range(SESSIONS)
            ]
            await asyncio.sleep(2)
            after = harness.resident(guard.pid)
            for session in sessions:
                session.vanish("terminate")
        finally:
            await asyncio.to_thread(guard.stop)
    each = (after - before) / SESSIONS
    checks.note(
        f"resident memory {before / 2**20:.1f} MiB, with {SESSIONS} idle sessions "
        f"{after / 2**20:.1f} MiB"
    )
    return each
