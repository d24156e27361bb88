"""`suites`: drivers' own test suites, directly and through the guard; PASS when nothing differs.

Laws: each run has a new Postgres, so that no run meets what another one left; the sides of a suite
run together, so that they meet the same load. What passes directly and not through the guard is run
again, alternately and alone, and counts when it fails there again and never directly, or there
significantly more seldom; what then fails nowhere is named and counted, too, and may not be many;
nothing is retried in silence. A test passes only by passing: skipped through the guard
and passed directly is a difference. The guard is a `pgguard serve` with default settings but for
its cap.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from tests.conformance import harness, known
from tests.conformance.suites import node_client, node_suites, python_suites
from tests.conformance.suites.model import Outcome, Suite, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from tests.conformance.suites.model import Prepared

SUITES = {
    suite.name: suite
    for suite in (
        python_suites.ASYNCPG,
        python_suites.PSYCOPG3,
        python_suites.PSYCOPG2,
        python_suites.PG8000,
        python_suites.SQLALCHEMY,
        node_suites.NODE_POSTGRES,
        node_client.NODE_CLIENT,
    )
}
SHORT = ("pg8000", "asyncpg")
"""The suites of the short form."""

GENEROUS = "90"
"""The cap with which the suites run: more than any of them holds."""

TOGETHER = 2
"""How many sides of a suite run at once."""

AGAIN = 5
"""How often what differs is run on each side."""

IN_DOUBT = 25
"""How often in all what then may still be chance."""

ONCE = 2
"""Tests of a suite that may fail through the guard once and then in none of so many runs.

A busy machine does that to tests with time limits of their own; to more of them only a guard does.
"""

CHANCE = 0.05
"""Two sides that both fail now and then differ if chance explains it less probably than that."""

SHOWN = 20
"""How many of the tests that fail directly are printed."""

PASSED = "passed"


@dataclass(slots=True)
class Run:
    """One run of one suite, and what the guard counted meanwhile."""

    outcomes: dict[str, Outcome]
    seconds: float
    sessions: int = 0
    peak: int = 0

    def failed(self) -> set[str]:
        return {test for test, seen in self.outcomes.items() if seen.outcome == "failed"}

    def passed(self) -> set[str]:
        return {test for test, seen in self.outcomes.items() if seen.outcome == PASSED}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A suite's direct run beside one way through the guard."""

    suite: Suite
    ready: Prepared
    direct: Run
    way: str
    guard: dict[str, str]
    guarded: Run


def run(checks: harness.Checks, short: bool, parts: Collection[str] = ()) -> None:
    """All suites, or the named ones; the short form runs parts of two."""
    wanted = parts or (SHORT if short else tuple(SUITES))
    unknown = sorted(set(wanted) - set(SUITES))
    if unknown:
        raise harness.Missing(f"no suite {', '.join(unknown)}; there are {', '.join(SUITES)}")
    for name in wanted:
        suite = SUITES[name]
        try:
            ready = suite.bring()
        except harness.Missing as missing:
            if suite.stand_in and name not in parts:
                reason = " ".join(str(missing).split())[:250]
                checks.note(f"{name}: not to be had on this machine: {reason}")
                checks.note(f"{name}: {suite.stand_in}")
            else:
                checks.claim(False, f"{name} {suite.version} can run", str(missing))
            continue
        try:
            compare(checks, suite, ready, short)
        except harness.Missing as missing:
            checks.claim(False, f"{name} {suite.version} can run", str(missing))


def compare(checks: harness.Checks, suite: Suite, ready: Prepared, short: bool) -> None:
    """One suite on both sides, once more where they differ, and its claims."""
    title = f"{suite.name} {suite.version}"
    guards = ways(suite, short)
    with ThreadPoolExecutor(TOGETHER) as together:
        alone = together.submit(once, suite, ready, short=short, guard=None)
        jobs = {
            name: together.submit(once, suite, ready, short=short, guard=guard)
            for name, guard in guards.items()
        }
    direct = alone.result()
    runs = {name: (guards[name], job.result()) for name, job in jobs.items()}
    checks.table(
        [title, "tests", "passed", "failed", "skipped", "sessions", "at once", "s"],
        [row("directly", direct), *(row(name, run) for name, (_, run) in runs.items())],
    )
    load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    checks.note(f"load {load}; tests with time limits of their own fail on busy machines")
    for test in sorted(direct.failed())[:SHOWN]:
        checks.note(f"fails directly, too: {test}: {direct.outcomes[test].why[:120]!r}")
    for name, (guard, run) in runs.items():
        judge(checks, Comparison(suite, ready, direct, name, guard, run))
        talked = [test for test in run.passed() if run.outcomes[test].bytes]
        share = f"{len(talked)} of {len(run.passed())} passed tests, {run.sessions} sessions"
        checks.claim(len(talked) >= len(run.passed()) // 2, f"{title}: {name}", share, "half")


def ways(suite: Suite, short: bool) -> dict[str, dict[str, str]]:
    """The guards that a suite goes through: by name their settings."""
    ways = {"through pgguard": {"limits.connection_limit": GENEROUS}}
    if suite.small_cap and not short:
        cap = str(suite.small_cap)
        name = f"cap {cap}, stock asyncio"
        ways[name] = {"limits.connection_limit": cap, "loop": "asyncio"}
    return ways


def row(name: str, run: Run) -> list[object]:
    count = dict.fromkeys(("passed", "failed", "skipped"), 0)
    for seen in run.outcomes.values():
        count["skipped" if seen.outcome == "xfailed" else seen.outcome] += 1
    last = [run.sessions or "-", run.peak or "-", f"{run.seconds:.0f}"]
    return [name, len(run.outcomes), *count.values(), *last]


def judge(checks: harness.Checks, it: Comparison) -> None:
    """Claim that nothing fails through the guard only, but for what is known."""
    differing = it.direct.passed() - it.guarded.passed()
    only, once_only = again(checks, it, differing) if differing else ({}, 0)
    for line in known.explained(it.suite.name, only):
        checks.note(f"known: {line}")
    unknown = known.unexplained(it.suite.name, only)
    for test in unknown:
        checks.note(f"ONLY GUARDED {test}: {only[test]}")
    figure = f"{len(unknown)} (directly {len(it.direct.failed())} fail, guarded "
    figure += f"{len(it.guarded.failed())}, known {len(only) - len(unknown)}, once and never again "
    figure += f"{once_only})"
    what = f"{it.suite.name} {it.suite.version}: tests that fail only {it.way}"
    checks.claim(not unknown and once_only <= ONCE, what, figure, f"0, once at most {ONCE}")


def again(checks: harness.Checks, it: Comparison, tests: set[str]) -> tuple[dict[str, str], int]:
    """Those of `tests` that fail more often through the guard, with the figures.

    Behind them, how many failed there once and then on neither side. The run that showed the
    difference is no evidence itself: it chose the test.
    """
    failures = {test: [0, 0] for test in tests}
    for test in sorted(tests)[:SHOWN]:
        why = it.guarded.outcomes[test].why if test in it.guarded.outcomes else "not collected"
        checks.note(f"passes directly and not {it.way}, run {AGAIN} times more: {test}: {why!r}")
    count = dict.fromkeys(tests, 0)
    for number in range(IN_DOUBT):
        left = {test for test in tests if number < AGAIN or doubtful(*failures[test], number)}
        for side, guard in enumerate((None, it.guard) if left else ()):
            seen = once(it.suite, it.ready, short=False, guard=guard, only=left)
            for test in left - seen.passed():
                failures[test][side] += 1
        for test in left:
            count[test] += 1
    kept = {}
    seldom = 0
    for test, (direct, guarded) in failures.items():
        words = f"failed {direct} of {count[test]} directly, {guarded} of {count[test]} guarded"
        differs = guarded and (not direct or chance(direct, guarded, count[test]) < CHANCE)
        if differs or not known.unexplained(it.suite.name, [test]):
            # What has a cause is named by it, though alone it may not fail.
            kept[test] = words
            continue
        seldom += not direct and not guarded
        checks.note(f"{'flaky by itself' if direct else 'once, never again'} {test}: {words}")
    return kept, seldom


def doubtful(direct: int, guarded: int, runs: int) -> bool:
    """Whether more runs could still tell: it fails through the guard more often, or nowhere."""
    if not direct:
        return not guarded
    return guarded > direct and chance(direct, guarded, runs) >= CHANCE


def chance(direct: int, guarded: int, runs: int) -> float:
    """How probably sides that fail alike differ by that much in as many runs each (Fisher's)."""
    failed = direct + guarded
    ways = sum(
        math.comb(runs, more) * math.comb(runs, failed - more)
        for more in range(guarded, min(runs, failed) + 1)
    )
    return ways / math.comb(2 * runs, failed)


def once(
    suite: Suite,
    ready: Prepared,
    *,
    short: bool,
    guard: dict[str, str] | None,
    only: Collection[str] | None = None,
    look: Callable[[harness.Guard], object] = lambda _guard: None,
) -> Run:
    """One run on a Postgres of its own, through a guard with these settings or directly; `look` is
    called at its end."""
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgguard-suite-")))
        address = stack.enter_context(server(suite))
        if guard is None:
            started = time.monotonic()
            outcomes = ready.run(Target(address), scratch, short=short, only=only)
            return Run(outcomes, time.monotonic() - started)
        through = stack.enter_context(harness.Guard(address, guard))
        target = Target(through.address, f"{through.http}/metrics")
        started = time.monotonic()
        outcomes = ready.run(target, scratch, short=short, only=only)
        took = time.monotonic() - started
        look(through)
        metrics = through.metrics()
        peak = max(metrics.by("client_server_connections_peak", "client").values(), default=0)
        return Run(outcomes, took, int(metrics.total("pool_wait_seconds_count")), int(peak))


@contextlib.contextmanager
def server(suite: Suite) -> Iterator[harness.Address]:
    """A new Postgres with what the suite needs, as the superuser `postgres`."""
    with harness.postgres(max_connections=100, settings=suite.settings) as postgres:
        with psycopg.connect(postgres.address.url, autocommit=True) as connection:
            password = postgres.address.password
            connection.execute(
                psycopg.sql.SQL(
                    "CREATE ROLE postgres SUPERUSER LOGIN REPLICATION PASSWORD {}"
                ).format(password)
            )
            for statement in suite.sql:
                connection.execute(statement)  # type: ignore[arg-type]
        yield replace(postgres.address, user="postgres")
