"""`connects`: connect, one query, close, over and over: how many a second, and at what price.

pgbench -C with one client and with eight, let in by trust, by SCRAM-SHA-256 and by that inside TLS
on the client's side. The guard makes a server connection for each session, so it is held against
Postgres itself, whose rate it can at best keep, and against PgBouncer told to use each server
connection once, which does the same work; PgBouncer that hands on what it has is printed beside
them. All take their turn in every round; client, proxy and server share one processor; the floors
of processor time and the best rates are compared.
"""

from __future__ import annotations

import contextlib
import platform
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import measure, peers
from tests.bench.cpu import QUIET
from tests.conformance import fetching, harness

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTS = {1: (48, 24), 8: (96, 32)}
"""Clients → connects in one turn, all clients together, in the full and in the short form."""

RATE_BAR = 0.6
"""Lowest ratio to the rate of Postgres itself on the same processor; in TLS to that of PgBouncer
with a server connection for each, because there Postgres encrypts nothing."""

PRICE_BARS = {"trust": 9.0, "SCRAM": 7.5, "SCRAM in TLS": 3.5}
"""Highest ratio to the processor time of PgBouncer with a server connection for each. A login is
a thousand steps of an interpreter; and the process behind it is looked up, which nobody else does.
"""


def run(checks: harness.Checks, short: bool) -> None:
    """Each way in with each number of clients; the short form only with the larger one."""
    pgbench = fetching.program("pgbench", "postgresql-contrib")
    checks.note(f"Python {platform.python_version()}, {platform.python_compiler()}")
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgguard-bench-")))
        (directory / "script.sql").write_text("SELECT 1;\n")
        command = [str(pgbench), "-n", "-C", "-f", str(directory / "script.sql")]
        for way in PRICE_BARS:
            with _targets(way) as targets:
                for clients in list(CONNECTS)[short:]:
                    _measure(checks, command, targets, way, clients, short)


@contextlib.contextmanager
def _targets(way: str) -> Iterator[list[peers.Peer]]:
    """Everything that is compared for one way in, pinned; TLS ends at the proxies."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(peers.postgres(QUIET, trust=way == "trust"))
        files = stack.enter_context(peers.certificate()) if way == "SCRAM in TLS" else None
        targets = [peers.Peer(f"direct (Postgres {server.version})", server.address, 0)]
        verifier = "" if way == "trust" else peers.verifier(server.address)
        for once in (False, True):
            bouncer = peers.pgbouncer(server.address, verifier, once=once, certificate=files)
            targets.append(stack.enter_context(bouncer))
        targets.append(stack.enter_context(peers.relay(server.address)))
        guard = stack.enter_context(harness.Guard(server.address, peers.guard_settings(files)))
        targets.append(peers.Peer("pgguard", guard.address, guard.pid, files is not None))
        processor = stack.enter_context(measure.pinned_self())
        for pid in (server.pid, *(target.pid for target in targets[1:])):
            measure.pin(pid, processor)
        yield targets


def _measure(
    checks: harness.Checks,
    pgbench: list[str],
    targets: list[peers.Peer],
    way: str,
    clients: int,
    short: bool,
) -> None:
    """The table and the claims of one way in with one number of clients."""
    by_name = {target.name: target for target in targets}
    count = CONNECTS[clients][short]
    load = ["-c", str(clients), "-j", str(clients), "-t", str(count // clients)]

    def take(name: str) -> tuple[float, float]:
        target = by_name[name]
        before = measure.processor_us(target.pid) if target.pid else 0.0
        rate = peers.pgbench(pgbench, target.address, load, tls=target.encrypts)
        time.sleep(0.03)
        after = measure.processor_us(target.pid) if target.pid else 0.0
        return (after - before) / count, rate

    direct, _, once, _, guard = by_name
    what = f"{way}, {clients} at once"
    bars = [
        measure.Bar(what, PRICE_BARS[way], guard, once),
        measure.Bar(what, RATE_BAR, guard, once if way == "SCRAM in TLS" else direct, "rate"),
    ]
    turns = measure.compare(list(by_name), take, bars, short)
    checks.note(f"{what}, {len(turns[guard].rates)} rounds of {count} connects")
    head = ["target", "µs/connect, floor", "connects/s, best", "to direct"]
    rows = [
        [
            name,
            f"{took.price:.0f}" if name != direct else "-",
            f"{took.rate:.0f}",
            f"{took.rate / turns[direct].rate:.2f}",
        ]
        for name, took in turns.items()
    ]
    checks.table(head, rows)
    for bar in bars:
        bar.claim(checks, turns, short)
