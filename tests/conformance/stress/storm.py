"""`stress [--seconds 60]`: 200 clients, a token in every request, and everything ends around them.

Half of the clients come through a relay, and so does all that goes to Postgres; meanwhile backends
are terminated, connections reset, clients vanish and cancel, Postgres is restarted at once. Every
reply must be the one to its request, at its place; a session may end early only for a cause that
we made; what was committed is there and what was not is not; nothing is left at the end.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import signal
import statistics
import time
from typing import TYPE_CHECKING, Any

import psycopg

from tests.conformance import harness
from tests.conformance.stress.drivers import AsyncpgClient, PsycopgClient
from tests.conformance.stress.havoc import Havoc
from tests.conformance.stress.raw import Client
from tests.conformance.stress.world import World
from tests.support.faults import Relay

if TYPE_CHECKING:
    from tests.conformance.harness import Checks, Guard, Postgres

CLIENTS = 200
SECONDS, SHORT = 60.0, 15.0
MIB = 1024 * 1024
GROWTH = 8 * MIB
"""What the resident memory may gain from the second to the last quarter of the storm."""
LEFT = """
    SELECT application_name, state, query FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
    AND application_name NOT LIKE 'pgguard/%'
"""
LOCKS = """
    SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE pid <> pg_backend_pid() AND application_name NOT LIKE 'pgguard/%'
"""
SETTINGS = {
    "limits.connection_limit": "4",
    "limits.pool_timeout": "50s",
    "limits.total_timeout": "50s",
    "limits.max_waiting": "off",
    # Where servers are shared nobody keeps one at the end.
    "pool.idle_timeout": "2s",
}


def run(checks: Checks, short: bool, seconds: float = 0.0) -> None:
    """A storm of `seconds`, or of the form's own length."""
    length = seconds or (SHORT if short else SECONDS)
    seed = int(os.environ.get("PGGUARD_STRESS_SEED") or random.SystemRandom().randrange(10**6))
    checks.note(f"{CLIENTS} clients, {length:g} s, PGGUARD_STRESS_SEED={seed}")
    # What was acknowledged must survive the death of Postgres's processes.
    safe = {"synchronous_commit": "on"}
    with harness.postgres(max_connections=60, settings=safe) as server:
        with psycopg.connect(server.address.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE ledger (token text PRIMARY KEY)")
        with Relay(server.address.host, server.address.port) as far:
            through = server.address.at("127.0.0.1", far.port)
            with harness.Guard(through, SETTINGS) as guard:
                with Relay(guard.address.host, guard.address.port) as near:
                    asyncio.run(_storm(checks, server, guard, (near, far), length, seed))
                _goodbye(checks, guard)


async def _storm(
    checks: Checks,
    server: Postgres,
    guard: Guard,
    relays: tuple[Relay, Relay],
    length: float,
    seed: int,
) -> None:
    near, far = relays
    rng = random.Random(seed)
    # Drivers tell there what became of work that a broken connection left behind.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    for name in ("psycopg", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    await _warm_up(guard)
    descriptors = harness.descriptors(guard.pid)
    world = World(
        near=guard.address.at("127.0.0.1", near.port),
        straight=guard.address,
        seed=seed,
        until=time.monotonic() + length,
    )
    kinds: Any = itertools.cycle((Client, Client, AsyncpgClient, PsycopgClient))
    clients = [
        next(kinds)(world, number, random.Random(f"{seed} {number}")) for number in range(CLIENTS)
    ]
    havoc = Havoc(world, server.embedded, near, far, rng)
    memory: list[int] = []
    works = [client.run() for client in clients]
    works += [havoc.weather(), havoc.kills(), havoc.restarts(2 if length > SHORT else 1)]
    works += [_watch(world, guard, memory)]
    await asyncio.gather(*works)
    checks.note(f"the last client was done {time.monotonic() - world.until:.1f} s after the storm")
    _tell(checks, world)
    _judge(checks, world, guard)
    _flat(checks, memory)
    await _nothing_left(checks, server, guard, descriptors)
    _look_into_ledger(checks, world, server)


async def _warm_up(guard: Guard) -> None:
    connection = await psycopg.AsyncConnection.connect(**guard.address.libpq("warm up"))  # type: ignore[arg-type]
    await connection.close()
    await harness.eventually(lambda: not guard.api("servers")["servers"])


async def _watch(world: World, guard: Guard, memory: list[int]) -> None:
    while not world.over:
        memory.append(harness.resident(guard.pid))
        await asyncio.sleep(0.1)


def _tell(checks: Checks, world: World) -> None:
    causes = ", ".join(
        f"{count} {name.removeprefix('havoc ')}"
        for name, count in sorted(world.counts.items())
        if name.startswith("havoc")
    )
    ended = ", ".join(
        f"{count} {name}"
        for name, count in sorted(world.counts.items())
        if name.startswith("ended") or "cancels" in name or "timeouts" in name
    )
    checks.note(f"causes made: {causes}")
    checks.note(f"sessions that felt it: {ended or 'none'}")


def _judge(checks: Checks, world: World, guard: Guard) -> None:
    replies = world.counts["replies"]
    checks.claim(
        not world.faults, "replies crossed, lost, out of order, or ended without a cause",
        f"{len(world.faults)} of {replies} parts", "0",
    )  # fmt: skip
    least = CLIENTS * 10
    checks.claim(replies > least, "parts of replies that were compared", replies, f"> {least}")
    # The ways of the havoc itself are part of what must have happened.
    for name in ("havoc terminate", "havoc reset", "havoc restart", "cancels that came in time"):
        checks.claim(world.counts[name] > 0, name, world.counts[name], "> 0")
    checks.claim(guard.running, "the guard lives")


def _flat(checks: Checks, memory: list[int]) -> None:
    quarter = max(1, len(memory) // 4)
    before = statistics.median(memory[quarter : 2 * quarter])
    after = statistics.median(memory[-quarter:])
    figure = f"{before / MIB:.1f} then {after / MIB:.1f} MiB"
    checks.claim(after - before < GROWTH, "memory, second and last quarter", figure, "+ 8 MiB")


async def _nothing_left(checks: Checks, server: Postgres, guard: Guard, descriptors: int) -> None:
    def ask(query: str) -> list[Any]:
        with psycopg.connect(server.address.url, autocommit=True) as connection:
            return connection.execute(query).fetchall()

    await harness.eventually(lambda: not ask(LEFT))
    left = ask(LEFT)
    checks.claim(not left, "sessions left at Postgres", left[:3] or 0, "0")
    locks = ask(LOCKS)[0][0]
    checks.claim(locks == 0, "locks left at Postgres", locks, "0")
    prepared = ask("SELECT count(*) FROM pg_prepared_xacts")[0][0]
    checks.claim(prepared == 0, "prepared transactions left", prepared, "0")
    await harness.eventually(lambda: not guard.api("servers")["servers"])
    page = guard.metrics()
    for name in ("client_server_connections", "client_waiting", "client_sessions"):
        checks.claim(page.total(name) == 0, f"{name} at the end", f"{page.total(name):g}", "0")
    refused = page.total("refusals_total")
    checks.claim(refused == 0, "sessions refused", f"{refused:g}", "0")
    # The service connection comes and goes.
    await harness.eventually(lambda: harness.descriptors(guard.pid) <= descriptors, 5.0)
    now = harness.descriptors(guard.pid)
    checks.claim(now <= descriptors, "descriptors before and after", f"{descriptors}, {now}")


def _look_into_ledger(checks: Checks, world: World, server: Postgres) -> None:
    with psycopg.connect(server.address.url) as connection:
        there = {token for (token,) in connection.execute("SELECT token FROM ledger")}
    lost = world.committed - there
    what = f"{len(lost)} of {len(world.committed)}"
    checks.claim(not lost, "acknowledged commits that are not there", what, "0")
    undead = world.undone & there
    what = f"{len(undead)} of {len(world.undone)}"
    checks.claim(not undead, "rolled back or abandoned, and yet there", what, "0")


def _goodbye(checks: Checks, guard: Guard) -> None:
    began = time.monotonic()
    guard.signal(signal.SIGTERM)
    code = guard.wait()
    took = f"{code} after {time.monotonic() - began:.1f} s"
    checks.claim(code == 0, "exit code after SIGTERM", took, "0")
    said = guard.log
    bad = [line for line in said.splitlines() if "Traceback" in line or "internal error" in line]
    checks.claim(not bad, "internal errors in the guard's log", bad[:3] or 0, "0")
