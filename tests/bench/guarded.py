"""What the tenant guard adds to the proxy's work on known texts: the loads of the bench of sharing.

Two guards in transparent mode stand before one Postgres whose tables are tenants' (pgbench's, with
the branch as the tenant): one takes `bid` for the tenant, the other one finds no tenant. Both take
their turn in every round on one processor, and the floors of their processor time are compared.
What is said of the statements is claimed, too, so that nothing is measured that was not judged.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.request import urlopen

from tests.bench import measure, peers
from tests.bench.transactions import CLIENTS, Transactions
from tests.conformance import fetching, harness

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARE: Final = 1.05
"""Highest ratio of processor time with tenants to that without."""
QUIET: Final = {"autovacuum": "off", "jit": "off", "shared_buffers": "256MB"}
SCALE: Final = 2
JUDGED: Final = 0.7
"""Of the statements; the rest begins and ends transactions."""
_SHARED: Final = {"pool.mode": "transparent"}
ON, OFF = "with tenants", "without"
_MODES: Final = {ON: {"tenancy.columns": '["bid"]'}, OFF: {"tenancy.columns": '["no_such_column"]'}}

SELECT: Final = r"""
\set aid random(1, 100000)
SELECT abalance FROM pgbench_accounts WHERE aid = :aid AND bid = 1;
"""
TPCB: Final = r"""
\set aid random(1, 100000)
\set tid random(1, 10)
\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid AND bid = 1;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid AND bid = 1;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid AND bid = 1;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = 1;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime)
    VALUES (:tid, 1, :aid, :delta, CURRENT_TIMESTAMP);
END;
"""
_COUNTED: Final = re.compile(
    r'^pgguard_statements_total\{.*verdict="(\w+)".*\} (\S+)$', re.MULTILINE
)


class Load(NamedTuple):
    """One load: what a transaction is, the protocol, transactions of a client and turn."""

    name: str
    script: str
    protocol: str
    each: int


LOADS: Final = (
    Load("select-simple", SELECT, "simple", 1500),
    Load("select-extended", SELECT, "extended", 1500),
    Load("select-prepared", SELECT, "prepared", 1500),
    Load("tpcb-simple", TPCB, "simple", 200),
)


def run(checks: harness.Checks, short: bool) -> None:
    """All loads; the short form has shorter turns and wider bars."""
    pgbench = [
        str(fetching.program("pgbench", "postgresql-contrib", first=fetching.wheel_programs()))
    ]
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgguard-bench-")))
        server = stack.enter_context(harness.postgres(settings=QUIET))
        start = ["-i", "-q", "-I", "dtgpf", "-s", str(SCALE)]
        peers.pgbench(pgbench, server.address, start)
        guards = stack.enter_context(_guards(server))
        for load in LOADS:
            script = directory / f"{load.name}.sql"
            script.write_text(load.script)
            _compare(checks, pgbench, guards, load, script, short)
        for name, guard in guards.items():
            _claim_judged(checks, name, guard)


@contextlib.contextmanager
def _guards(server: harness.Postgres) -> Iterator[dict[str, harness.Guard]]:
    """Both, with Postgres and whoever asks on one processor."""
    with contextlib.ExitStack() as stack:
        guards = {
            name: stack.enter_context(harness.Guard(server.address, {**_SHARED, **mode}))
            for name, mode in _MODES.items()
        }
        processor = stack.enter_context(measure.pinned_self())
        for pid in (server.pid, *(guard.pid for guard in guards.values())):
            measure.pin(pid, processor)
        yield guards


def _compare(
    checks: harness.Checks,
    pgbench: list[str],
    guards: dict[str, harness.Guard],
    load: Load,
    script: Path,
    short: bool,
) -> None:
    targets = [peers.Peer(name, guard.address, guard.pid) for name, guard in guards.items()]
    each = load.each // 5 if short else load.each
    turns = Transactions(pgbench, targets, ["-f", str(script), "-M", load.protocol], each)
    bar = measure.Bar(load.name, SHARE, ON, OFF)
    taken = measure.compare(list(guards), turns.take, [bar], short)
    checks.note(f"{load.name}, {CLIENTS} clients, {len(taken[ON].rates)} rounds of {each} each")
    rows = [[name, f"{took.price:.1f}", f"{took.rate:.0f}"] for name, took in taken.items()]
    checks.table(["guard", "µs/transaction, floor", "a second, best"], rows)
    bar.claim(checks, taken, short)


def _claim_judged(checks: harness.Checks, name: str, guard: harness.Guard) -> None:
    """What the guard has said of the statements of its clients."""
    with urlopen(f"{guard.http}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    said: Counter[str] = Counter()
    for verdict, count in _COUNTED.findall(text):
        said[verdict] += int(float(count))
    wanted = "scoped" if name == ON else "no_tenant_data"
    share = said[wanted] / max(1, said.total())
    told = ", ".join(f"{count} {verdict}" for verdict, count in said.most_common(4) if count)
    checks.claim(share > JUDGED, f"{name}: statements called {wanted}", told, f"> {JUDGED:.0%}")
