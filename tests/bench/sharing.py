"""`sharing`: what transparent mode costs beside PgBouncer in transaction mode.

pgbench with 8 clients, `-S` in the simple, extended and prepared protocol and TPC-B in the simple
one; results of 1,000 rows; connect, query and close beside Postgres itself; and memory of an idle
session. All targets take their turn in every round; client, proxy and server share one processor;
the floors of processor time and the best rates are compared. A login is no query: what the same
clients take for a single transaction each is measured in every round and subtracted.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.bench import building, measure, peers
from tests.bench.connects import CONNECTS
from tests.bench.cpu import CLIENTS, QUIET, SCALE, idle_sessions
from tests.bench.results import MEGABYTE, VOLUME, Reader, loads
from tests.bench.transactions import Transactions
from tests.conformance import fetching, harness

if TYPE_CHECKING:
    from collections.abc import Iterator


class Scenario(NamedTuple):
    """One load of pgbench: what tells it from others, transactions of a client and turn, bar."""

    name: str
    arguments: tuple[str, ...]
    each: int
    bar: float
    """Highest ratio to PgBouncer's processor time for each transaction."""


SCENARIOS = (
    Scenario("select-simple-8", ("-S", "-M", "simple"), 1500, 2.4),
    Scenario("select-extended-8", ("-S", "-M", "extended"), 1500, 2.2),
    Scenario("select-prepared-8", ("-S", "-M", "prepared"), 1500, 1.9),
    Scenario("tpcb-simple-8", ("-M", "simple"), 200, 2.4),
)
ROWS_BAR = 2.2
CONNECT_BARS = {"trust": 10.0, "SCRAM": 1.5}
"""Lowest ratio to the rate of Postgres itself."""
NO_LOSS = {"trust": 7.5, "SCRAM": 0.9}
"""The same in the short form, which tells a loss from what is reached today."""

SESSION_BAR = 4 * 1024
SHARED = {"pool.mode": "transparent"}


def run(checks: harness.Checks, short: bool) -> None:
    """Queries, results, connects, memory; the short form has shorter turns and wider bars."""
    pgbench = [
        str(fetching.program("pgbench", "postgresql-contrib", first=fetching.wheel_programs()))
    ]
    checks.note(f"Python {platform.python_version()}, {platform.python_compiler()}")
    bouncer = building.pgbouncer()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(peers.postgres(QUIET, trust=True))
        peers.pgbench(pgbench, server.address, ["-i", "-q", "-s", str(SCALE)])
        with _targets(server, bouncer) as targets:
            for scenario in SCENARIOS:
                _queries(checks, pgbench, targets, scenario, short)
            _results(checks, targets, short)
    for way in CONNECT_BARS:
        with peers.postgres(QUIET, trust=way == "trust") as server:
            verifier = "" if way == "trust" else peers.verifier(server.address)
            with _targets(server, bouncer, verifier) as targets:
                _connects(checks, targets, way, short)
    each = asyncio.run(idle_sessions(checks, SHARED))
    most = measure.bar_of(SESSION_BAR, short)
    figure, bar = f"{each / 1024:.1f} KiB", f"≤ {most / 1024:.0f} KiB"
    checks.claim(each <= most, "memory per idle session", figure, bar)


@contextlib.contextmanager
def _targets(
    server: harness.Postgres, bouncer: Path, verifier: str = ""
) -> Iterator[list[peers.Peer]]:
    """Postgres, PgBouncer in transaction mode and the guard, all on one processor."""
    with contextlib.ExitStack() as stack:
        targets = [peers.Peer(f"direct (Postgres {server.version})", server.address, 0)]
        shared = peers.pgbouncer(server.address, verifier, program=bouncer, mode="transaction")
        targets.append(stack.enter_context(shared))
        guard = stack.enter_context(harness.Guard(server.address, SHARED))
        targets.append(peers.Peer("pgguard", guard.address, guard.pid))
        processor = stack.enter_context(measure.pinned_self())
        for pid in (server.pid, *(target.pid for target in targets[1:])):
            measure.pin(pid, processor)
        yield targets


def _queries(
    checks: harness.Checks,
    pgbench: list[str],
    targets: list[peers.Peer],
    scenario: Scenario,
    short: bool,
) -> None:
    names = [target.name for target in targets]
    each = scenario.each // 3 if short else scenario.each
    load = Transactions(pgbench, targets, scenario.arguments, each)
    direct, bouncer, guard = names
    bars = [measure.Bar(scenario.name, scenario.bar, guard, bouncer)]
    turns = measure.compare(names, load.take, bars, short)
    checks.note(f"{scenario.name}, {len(turns[guard].rates)} rounds of {each} each")
    _table(checks, turns, direct, "µs/transaction", "a second")
    for bar in bars:
        bar.claim(checks, turns, short)


def _results(checks: harness.Checks, targets: list[peers.Peer], short: bool) -> None:
    direct = targets[0]
    Reader(direct).query(
        f"CREATE TABLE small AS SELECT n FROM generate_series(1, {2 * 10**6}) n; ANALYZE small"
    )
    load = next(load for load in loads(VOLUME[short]) if load.shape == "1,000 rows")
    by_name = {target.name: target for target in targets}
    readers = {target.name: Reader(target) for target in targets}

    def take(name: str) -> tuple[float, float]:
        pid = by_name[name].pid
        before = measure.processor_us(pid) if pid else 0.0
        started = time.perf_counter()
        megabytes = load.run(readers[name]) / MEGABYTE
        took = time.perf_counter() - started
        after = measure.processor_us(pid) if pid else 0.0
        return (after - before) / megabytes, megabytes / took

    _, bouncer, guard = by_name
    bars = [measure.Bar(load.shape, ROWS_BAR, guard, bouncer)]
    turns = measure.compare(list(by_name), take, bars, short)
    for reader in readers.values():
        reader.close()
    checks.note(f"{load.shape}, {len(turns[guard].rates)} rounds of {VOLUME[short]} MB")
    _table(checks, turns, direct.name, "µs/MB", "MB/s")
    for bar in bars:
        bar.claim(checks, turns, short)


def _connects(checks: harness.Checks, targets: list[peers.Peer], way: str, short: bool) -> None:
    """Connect, one query, close, with eight clients at once."""
    pgbench = fetching.program("pgbench", "postgresql-contrib")
    by_name = {target.name: target for target in targets}
    clients, count = CLIENTS, CONNECTS[CLIENTS][short] * 5
    load = ["-c", str(clients), "-j", str(clients), "-t", str(count // clients)]
    with tempfile.TemporaryDirectory(prefix="pgguard-bench-") as directory:
        script = Path(directory) / "script.sql"
        script.write_text("SELECT 1;\n")
        command = [str(pgbench), "-n", "-C", "-f", str(script)]

        def take(name: str) -> tuple[float, float]:
            target = by_name[name]
            before = measure.processor_us(target.pid) if target.pid else 0.0
            rate = peers.pgbench(command, target.address, load)
            time.sleep(0.03)
            after = measure.processor_us(target.pid) if target.pid else 0.0
            return (after - before) / count, rate

        direct, _, guard = by_name
        least = NO_LOSS[way] if short else CONNECT_BARS[way]
        bars = [measure.Bar(f"connect, {way}", least, guard, direct, "rate")]
        turns = measure.compare(list(by_name), take, bars, short)
    checks.note(f"connect, query and close, {way}, {len(turns[guard].rates)} rounds of {count}")
    _table(checks, turns, direct, "µs/connect", "a second")
    for bar in bars:
        bar.claim(checks, turns, short)


def _table(
    checks: harness.Checks, turns: dict[str, measure.Turns], direct: str, price: str, rate: str
) -> None:
    bouncer = list(turns)[1]
    rows = [
        [
            name,
            "-" if name == direct else f"{took.price:.1f}",
            "-" if name == direct else f"{took.price / turns[bouncer].price:.2f}",
            f"{took.rate:.0f}",
            f"{took.rate / turns[direct].rate:.2f}",
        ]
        for name, took in turns.items()
    ]
    checks.table(["target", f"{price}, floor", "to PgBouncer", f"{rate}, best", "to direct"], rows)
