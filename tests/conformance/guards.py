"""`guards`: two guards on one Postgres of max_connections 20 share it, and neither starves.

Postgres is the witness: its log would show a 53300, and pg_stat_activity who holds how much. Both
guards log in as a role that may not see the other's sessions (no pg_read_all_stats) and gets none
of the reserved connections.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

import asyncpg

from pgguard.pool.neighbours import host_name
from tests.conformance import harness
from tests.conformance.rawsession import RawSession, ServerError

MAX_CONNECTIONS, RESERVED = 20, 3
ROOM = MAX_CONNECTIONS - RESERVED
CLIENTS, SESSIONS = 3, 8
"""For each guard: far more than both together can have."""
CONVERGED = 4.0
"""Seconds after which shares must be what they stay."""
SETTLED = 2.5
"""Seconds without a change after which a guard has got what it can: two of its looks, and more."""
HELD_QUERY = "SELECT count(*) FROM pg_stat_activity WHERE usename IN ('left', 'right')"
SUFFERED = ("too many clients", "remaining connection slots", "too many connections")


@dataclass(slots=True)
class Suite:
    """What came of the sessions that ran on one guard."""

    served: int = 0
    errors: list[str] = field(default_factory=list)
    waited: float = 0.0


def run(checks: harness.Checks, short: bool) -> None:
    seconds = 8.0 if short else 30.0
    with harness.postgres(max_connections=MAX_CONNECTIONS) as server:
        asyncio.run(_roles(server))
        left, right = (
            harness.Address(
                server.address.host, server.address.port, name, name, server.address.database
            )
            for name in ("left", "right")
        )
        quick = {"limits.total_timeout": "20s"}
        with harness.Guard(left, quick) as first:
            alone = _limit(first)
            checks.note(f"alone, a guard may hold {alone} of {MAX_CONNECTIONS}")
            with harness.Guard(right, {"limits.total_timeout": "6s"}) as second:
                named = f"another pgguard at {_host()}:{first.address.port} (pid {first.pid})"
                checks.claim(named in second.log, "the first is named when the second starts")
                asyncio.run(_both(checks, server, first, second, seconds))
                asyncio.run(_refusal(checks, first, second, named))
            asyncio.run(_alone_again(checks, first, alone))
            checks.claim(first.running, "the first guard lives")


def _refused(server: harness.Postgres) -> int:
    """How often Postgres itself had no connection left, by its own log."""
    log = server.log.read_text(errors="replace")
    return sum(log.count(text) for text in SUFFERED)


async def _roles(server: harness.Postgres) -> None:
    connection = await asyncpg.connect(server.address.url)
    for name in ("left", "right"):
        await connection.execute(f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{name}'")
    await connection.close()


async def _both(
    checks: harness.Checks,
    server: harness.Postgres,
    first: harness.Guard,
    second: harness.Guard,
    seconds: float,
) -> None:
    """Suites on both at once, each with more sessions than there are connections."""
    until = time.monotonic() + seconds
    suites = Suite(), Suite()
    limits: list[tuple[int, int]] = []
    observer = await asyncpg.connect(server.address.url)
    work = [
        asyncio.create_task(_session(guard, suite, f"client {client}", until - seconds, until))
        for guard, suite in zip((first, second), suites, strict=True)
        for client in range(CLIENTS)
        for _ in range(SESSIONS)
    ]
    peak, early = 0, 0
    while not all(task.done() for task in work):
        peak = max(peak, await observer.fetchval(HELD_QUERY))
        if time.monotonic() < until - seconds + CONVERGED:
            early = _refused(server)
        else:
            limits.append(await asyncio.to_thread(lambda: (_limit(first), _limit(second))))
        await asyncio.sleep(0.05)
    await observer.close()
    late = _refused(server) - early
    errors = [error for suite in suites for error in suite.errors]
    served = [suite.served for suite in suites]
    rows = [
        [name, suite.served, f"{suite.waited:.1f} s"]
        for name, suite in zip(("first", "second"), suites, strict=True)
    ]
    checks.table(["guard", "sessions served", "longest wait"], rows)
    checks.claim(peak <= ROOM, "most connections of both together", peak, f"≤ {ROOM}")
    checks.claim(not errors, "sessions that failed", len(errors), "0")
    for error in errors[:3]:
        checks.note(error)
    fair = min(served) / max(*served, 1)
    checks.claim(fair >= 0.5, "the less served guard, of the other", f"{fair:.0%}", "≥ 50 %")
    changes = sum(before != after for before, after in pairwise(limits))
    checks.claim(changes <= 2, "changes of limits once shared", changes, "≤ 2")
    checks.note(f"53300 in Postgres's log before they had taken note of each other: {early}")
    checks.claim(late == 0, "53300 in Postgres's log once shared", late, "0")
    least = min(map(min, limits), default=0)
    checks.claim(least >= 4, "least that a guard may hold beside the other", least, "≥ 4 of 11")


async def _session(
    guard: harness.Guard, suite: Suite, client: str, since: float, until: float
) -> None:
    """Connect, work, leave, again and again; what was served once all is shared counts."""
    while time.monotonic() < until:
        started = time.monotonic()
        try:
            connection = await asyncpg.connect(
                guard.address.url, server_settings={"application_name": client}, timeout=60
            )
            suite.waited = max(suite.waited, time.monotonic() - started)
            await connection.execute("SELECT pg_sleep(0.05)")
            await connection.close()
            suite.served += started > since + CONVERGED
        except Exception as error:
            suite.errors.append(f"{type(error).__name__}: {error}")


async def _has_grown(guard: harness.Guard) -> bool:
    """Sessions wait, and two looks of the guard in a row have found no more room for them."""
    held, since, end = -1, 0.0, time.monotonic() + 20
    while time.monotonic() < end:
        metrics = await asyncio.to_thread(guard.metrics)
        now = int(metrics.total("server_connections"))
        if now != held or not metrics.total("client_waiting"):
            held, since = now, time.monotonic()
        elif time.monotonic() - since > SETTLED:
            return True
        await asyncio.sleep(0.1)
    return False


async def _refusal(
    checks: harness.Checks, first: harness.Guard, second: harness.Guard, named: str
) -> None:
    """The first guard has got all it can and keeps it: the second says who it is."""
    holders = [
        await RawSession.dial(first.address, application_name=f"holder {number % 3}")
        for number in range(ROOM)
    ]
    opening = [asyncio.create_task(_open(holder)) for holder in holders]
    most = len(opening)
    checks.claim(
        await _has_grown(first),
        f"the first has got what it can of {most}",
        int(first.metrics().total("server_connections")),
    )
    last = [await RawSession.dial(second.address, application_name="last") for _ in range(9)]
    asked = [asyncio.create_task(_open(session)) for session in last]
    fields = [found for found in await asyncio.gather(*asked) if found]
    told = [f for f in fields if f.get("C") == "53300" and named in f.get("D", "")]
    checks.claim(
        bool(told),
        "53300 names the other in DETAIL",
        (told or fields)[:1] and ((told or fields)[0].get("D", "").splitlines()[:1]),
    )
    checks.claim(len(fields) < len(last), "beside it some are served", len(last) - len(fields))
    for session in [*holders, *last]:
        with suppress(OSError):
            session.vanish("reset")
    await asyncio.gather(*opening)


async def _open(session: RawSession) -> dict[str, str]:
    """The error that it got instead of an answer, if any."""
    try:
        await session.authenticate()
        await session.ready()
    except ServerError as error:
        return error.fields
    except (OSError, EOFError) as error:
        return {"M": repr(error)}
    return {}


async def _alone_again(checks: harness.Checks, guard: harness.Guard, alone: int) -> None:
    started = time.monotonic()
    back = await harness.eventually(lambda: _limit(guard) == alone, 15)
    took = f"{time.monotonic() - started:.1f} s"
    checks.claim(back, "once the second has left, the first may hold all again after", took, "15 s")


def _limit(guard: harness.Guard) -> int:
    return int(guard.metrics().total("server_connections_limit"))


def _host() -> str:
    return host_name(socket.gethostname())
