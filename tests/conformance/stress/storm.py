"""`stress [--seconds 60]`: 200 clients, a token in every request, and everything ends around them.

Half of the clients come through a relay, and so does all that goes to Postgres; meanwhile backends
are terminated, connections reset, clients vanish and cancel, Postgres is restarted at once. Every
reply must be the one to its request, at its place; a session may end early only for a cause that
we made; what was committed is there and what was not is not; nothing is left at the end.

Where sessions share servers there are ten of these. Sessions are ended by the pid that they were
told, too, and at the end every server is looked at, from outside and by sessions that get it.
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

from pgguard.settings.schema import Settings
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
SERVERS = 10
"""Server connections of all clients, where sessions share them."""
LOOK = """
    SELECT (SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
            WHERE locktype = 'advisory' AND application_name NOT LIKE 'pgguard/%'),
        (SELECT count(*) FROM pg_listening_channels()),
        (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
        (SELECT count(*) FROM pg_settings
            WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding')),
        (SELECT count(*) FROM pg_prepared_statements WHERE from_sql),
        (SELECT count(*) FROM pg_cursors WHERE is_holdable),
        (current_user <> session_user)::int
"""
"""What a session finds on the server that it gets, and anywhere, of what others have left."""
OUTSIDE = """
    SELECT (SELECT count(*) FROM pg_stat_activity
            WHERE application_name LIKE 'storm %' AND xact_start IS NOT NULL),
        (SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
            WHERE application_name LIKE 'storm %'),
        (SELECT count(*) FROM pg_class WHERE relpersistence = 't')
"""
SETTINGS = {
    "limits.connection_limit": "4",
    "limits.pool_timeout": "50s",
    "limits.total_timeout": "50s",
    "limits.max_waiting": "off",
}
SHARED = {"limits.total": str(SERVERS), "pool.idle_timeout": "8s"}
"""Beside these, where servers are shared: they are looked at before the last one is closed."""


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
            shared = _shared()
            with harness.Guard(through, SETTINGS | (SHARED if shared else {})) as guard:
                with Relay(guard.address.host, guard.address.port) as near:
                    asyncio.run(_storm(checks, server, guard, (near, far), length, seed, shared))
                _goodbye(checks, guard)


async def _storm(
    checks: Checks,
    server: Postgres,
    guard: Guard,
    relays: tuple[Relay, Relay],
    length: float,
    seed: int,
    shared: bool,
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
    if shared:
        works += [havoc.executions()]
    await asyncio.gather(*works)
    checks.note(f"the last client was done {time.monotonic() - world.until:.1f} s after the storm")
    if shared:
        await _look_at_servers(checks, world, server, guard)
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
        if len(memory) % 10 == 0:
            servers = await asyncio.to_thread(guard.api, "servers")
            most = max(world.counts["servers at once"], len(servers["servers"]))
            world.counts["servers at once"] = most
        await asyncio.sleep(0.1)


def _shared() -> bool:
    """Whether sessions share servers, by the command line or because it is the default."""
    mode = {"pool.mode": Settings().pool.mode} | harness.EVERYWHERE | harness.FORCED
    return mode["pool.mode"] == "transparent"


async def _look_at_servers(checks: Checks, world: World, server: Postgres, guard: Guard) -> None:
    """All servers at once, so that each is looked at: by sessions of their clients, then by others'
    to whom they are given. A server that may not be given away is closed for that."""
    most = world.counts["servers at once"]
    checks.claim(0 < most <= SERVERS, f"servers of {CLIENTS} clients at once", most, f"{SERVERS}")
    ended = world.counts["havoc sessions ended"]
    checks.claim(ended > 0, "sessions ended by another one, by the pid that they were told", ended)
    with psycopg.connect(server.address.url, autocommit=True) as connection:
        await harness.eventually(lambda: not any(connection.execute(OUTSIDE).fetchone() or ()))
        rests = connection.execute(OUTSIDE).fetchone() or ()
    what = "transactions, locks and temporary tables of all servers, seen from outside"
    checks.claim(not any(rests), what, list(rests), "0")
    for who, names in (("their own clients", "storm"), ("other clients", "look")):
        there = {one["pid"] for one in guard.api("servers")["servers"]}
        rows, looked = await _look(guard, [f"{names} {number // 2}" for number in range(SERVERS)])
        left = [row for row in rows if any(row)]
        what = (
            f"locks, listeners, temporary tables, settings, statements, cursors, roles that {who}"
        )
        checks.claim(not left, f"{what} find on {len(looked)} servers", left[:2] or 0, "0")
        old = len(looked & there)
        checks.note(f"{old} of the {len(there)} that there were; the others were closed instead")


async def _look(guard: Guard, names: list[str]) -> tuple[list[Any], set[int]]:
    """One row from each of so many servers, and their pids: all are within a transaction at the
    same time."""
    opened = [
        psycopg.AsyncConnection.connect(**guard.address.libpq(name, sslmode="disable"))  # type: ignore[arg-type]
        for name in names
    ]
    sessions = await asyncio.gather(*opened)
    rows = [await (await session.execute(LOOK)).fetchone() for session in sessions]
    servers = (await asyncio.to_thread(guard.api, "servers"))["servers"]
    for session in sessions:
        await session.close()
    return rows, {one["pid"] for one in servers}


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
    # Its own backend is not taken for one that was left, nor is the one before that still ends.
    name = "pgguard/look"

    def ask(query: str) -> list[Any]:
        url = server.address.url
        with psycopg.connect(url, autocommit=True, application_name=name) as connection:
            return connection.execute(query).fetchall()

    await harness.eventually(lambda: not ask(LEFT), 20.0)
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
