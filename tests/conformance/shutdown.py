"""`shutdown`: SIGTERM under load, a second signal, and a Postgres that goes away and comes back.

The first three parts end a guard in the midst of work and look at what each kind of session is told
and at what is left; the last ones end Postgres in each of its ways while clients wait, and measure
from its return, as a direct connection sees it, until new clients are served through the guard.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import TYPE_CHECKING, Any

import psycopg

from tests.conformance import harness
from tests.conformance.rawsession import RawSession, ServerError
from tests.support import restarts
from tests.support.faults import Relay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.conformance.harness import Checks, Guard, Postgres

GRACE = 6.0
KILLED_AFTER = 10.0
"""Seconds after which a container is killed."""
HURRY = 2.0
RETURN = 5.0
WAITERS = 40
DIALS = 8.0
"""Dials a second that a Postgres which is down may see, however many wait: the look that finds it
again, four times a second, and one for all who wait; at the start one of the start itself, too."""
GONE = "terminating connection due to administrator command"
LEFT = """
    SELECT count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


def run(checks: Checks, short: bool) -> None:
    """All parts; the short form keeps Postgres away for three seconds instead of six."""
    away = 3.0 if short else 6.0
    with harness.postgres(max_connections=60) as server:
        with psycopg.connect(server.address.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE t (a int)")
        parts: list[Callable[[Checks, Postgres, Guard], Awaitable[None]]] = [
            orderly,
            under_load,
            lambda *given: stubborn(*given, hurried=False),
            lambda *given: stubborn(*given, hurried=True),
        ]
        for part in parts:
            settings = {"limits.connection_limit": "50", "limits.pool_timeout": "30s"}
            with harness.Guard(server.address, settings) as guard:
                asyncio.run(asyncio.wait_for(part(checks, server, guard), 60))
                bad = [text for text in ("Traceback", "internal error") if text in guard.log]
                checks.claim(not bad, "internal errors in the guard's log", bad or 0, "0")
        for how in (restarts.FAST, restarts.IMMEDIATE, restarts.KILL):
            comes_back(checks, server, how, away)
        down_at_start(checks, server, away)


# The end of the guard


async def _idle(address: harness.Address, name: str) -> RawSession:
    return await RawSession.open(address, application_name=name)


async def _end(session: RawSession) -> str:
    """The SQLSTATE with which the session ends; empty if it ends without a word."""
    try:
        await session.ready()
    except ServerError as error:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await session.message()
            return "something behind a FATAL"
        return error.fields["C"]
    except (ConnectionError, asyncio.IncompleteReadError):
        return ""
    return "an answer to nothing"


async def _exit(guard: Guard, began: float, within: float) -> tuple[int | None, float]:
    code = await asyncio.to_thread(guard.wait, within)
    return code, time.monotonic() - began


def _claim_exit(checks: Checks, code: int | None, took: float, bar: float, what: str) -> None:
    checks.claim(code == 0 and took < bar, what, f"{code} after {took:.1f} s", f"0, < {bar:g} s")


def _nothing_left(checks: Checks, server: Postgres) -> None:
    with psycopg.connect(server.address.url, autocommit=True) as connection:
        row = connection.execute(LEFT).fetchone()
    left = row[0] if row else None
    checks.claim(left == 0, "connections left at Postgres", left, "0")


async def orderly(checks: Checks, server: Postgres, guard: Guard) -> None:
    """Each kind of session once more than once: idle, running, in a transaction, waiting, new."""
    address = guard.address
    idle = [await _idle(address, f"idle {n}") for n in range(10)]
    running = [await _idle(address, f"running {n}") for n in range(5)]
    inside = [await _idle(address, f"inside {n}") for n in range(5)]
    for session in inside:
        await session.query("BEGIN")
        await session.query("INSERT INTO t VALUES (1)")
    for number, session in enumerate(running):
        session.send(b"Q", f"SELECT 'token {number}' FROM pg_sleep(1.5)\0".encode())
    await _until_asleep(server, 5)
    began = time.monotonic()
    guard.signal(signal.SIGTERM)
    told = await asyncio.gather(*map(_end, idle))
    took = time.monotonic() - began
    checks.claim(set(told) == {"57P01"}, "idle sessions are told", f"{set(told)}", "57P01")
    checks.claim(took < 1.0, "all of them", f"after {took:.2f} s", "< 1 s")
    try:
        await RawSession.open(address)
        refused = "was let in"
    except ServerError as error:
        refused = f"{error.fields['C']} {error.fields['M']}"
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        refused = repr(error)
    checks.claim(refused.startswith("57P01"), "a new session meanwhile", refused, "57P01 in words")
    committed = 0
    for session in inside:
        await session.query("INSERT INTO t VALUES (2)")
        session.send(b"Q", b"COMMIT\0")
        committed += [kind for kind, _ in await session.ready()] == [b"C"]
    checks.claim(committed == 5, "open transactions that could commit", committed, "5")
    right = 0
    for number, session in enumerate(running):
        rows = [body for kind, body in await session.ready() if kind == b"D"]
        right += len(rows) == 1 and rows[0].endswith(f"token {number}".encode())
    checks.claim(right == 5, "running statements that got their reply", right, "5")
    ends = set(await asyncio.gather(*map(_end, [*running, *inside])))
    checks.claim(ends == {"57P01"}, "and then", ends, "57P01")
    code, took = await _exit(guard, began, KILLED_AFTER)
    _claim_exit(checks, code, took, GRACE, "exit once the last one was done")
    with psycopg.connect(server.address.url) as connection:
        row = connection.execute("SELECT count(*) FROM t").fetchone()
    checks.claim(row == (10,), "rows of the transactions", row and row[0], "10")
    _nothing_left(checks, server)


async def under_load(checks: Checks, server: Postgres, guard: Guard) -> None:
    """Sixty clients that never pause: whatever was answered is whole, and the end is in words."""
    ends: dict[str, int] = {}
    replies = crossed = 0

    async def work(number: int) -> None:
        nonlocal replies, crossed
        count = 0
        stage = "connecting"
        while True:
            try:
                session = await _idle(guard.address, f"load {number}")
                while True:
                    stage = "working"
                    count += 1
                    token = f"{number}-{count}".encode()
                    rows = await session.query(f"SELECT '{token.decode()}' FROM pg_sleep(0.01)")
                    replies += 1
                    crossed += not any(b.endswith(token) for kind, b in rows if kind == b"D")
                    if count % 5 == 0:
                        stage = "connecting"
                        with contextlib.suppress(ConnectionError):
                            # What we say last may meet a closed door.
                            await session.close()
                        session = await _idle(guard.address, f"load {number}")
            except ServerError as error:
                ends[error.fields["C"]] = ends.get(error.fields["C"], 0) + 1
                return
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                said = f"{type(error).__name__} while {stage}"
                ends[said] = ends.get(said, 0) + 1
                return

    works = [asyncio.create_task(work(number)) for number in range(60)]
    await asyncio.sleep(2.0)
    began = time.monotonic()
    guard.signal(signal.SIGTERM)
    code, took = await _exit(guard, began, KILLED_AFTER)
    await asyncio.wait_for(asyncio.gather(*works), 10)
    checks.claim(crossed == 0, "crossed replies under load", f"{crossed} of {replies}", "0")
    # Whoever comes when all is over finds that nobody listens.
    late = ends.pop("ConnectionRefusedError while connecting", 0)
    figure = f"{ends}, {late} refused by a closed port"
    checks.claim(set(ends) == {"57P01"}, "how 60 busy clients ended", figure, "57P01")
    _claim_exit(checks, code, took, GRACE, "exit under load")
    _nothing_left(checks, server)


async def stubborn(checks: Checks, server: Postgres, guard: Guard, *, hurried: bool) -> None:
    """A transaction that nobody ends and a statement that takes a minute."""
    inside, asleep = await _idle(guard.address, "inside"), await _idle(guard.address, "asleep")
    await inside.query("BEGIN")
    await inside.query("LOCK TABLE t")
    asleep.send(b"Q", b"SELECT pg_sleep(60)\0")
    await _until_asleep(server, 1)
    began = time.monotonic()
    guard.signal(signal.SIGTERM)
    if hurried:
        await asyncio.sleep(0.3)
        began = time.monotonic()
        guard.signal(signal.SIGTERM)
    code, took = await _exit(guard, began, 2 * KILLED_AFTER)
    bar, what = (HURRY, "exit after a second signal") if hurried else (KILLED_AFTER, "exit")
    _claim_exit(checks, code, took, bar, what)
    if not hurried:
        checks.claim(took >= GRACE - 0.5, "the grace time was given", f"{took:.1f} s", "6 s")
    ends = [await _end(inside), await _end_of_cancelled(asleep)]
    checks.claim(ends == ["57P01", "57014, 57P01"], "what they are told", ends)
    _nothing_left(checks, server)


async def _end_of_cancelled(session: RawSession) -> str:
    try:
        await session.ready()
    except ServerError as error:
        return f"{error.fields['C']}, {await _end(session)}"
    return "an answer"


async def _until_asleep(server: Postgres, count: int) -> None:
    """Until so many sessions are within pg_sleep."""

    def asleep() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        with psycopg.connect(server.address.url, autocommit=True) as connection:
            return connection.execute(query).fetchone() == (count,)

    assert await harness.eventually(asleep)


# The end of Postgres


def comes_back(checks: Checks, server: Postgres, how: signal.Signals, away: float) -> None:
    """It ends under sessions that work, is away for a while, and comes back."""
    with _far_guard(server) as (guard, relay):
        asyncio.run(_comes_back(checks, server, guard, relay, (how, away)))


async def _comes_back(
    checks: Checks,
    server: Postgres,
    guard: Guard,
    relay: Relay,
    given: tuple[signal.Signals, float],
) -> None:
    how, away = given
    before = [await _idle(guard.address, f"before {n}") for n in range(10)]
    ends = [asyncio.create_task(_end(session)) for session in before]
    await asyncio.to_thread(restarts.stop, server.embedded, how)
    told = await asyncio.wait_for(asyncio.gather(*ends), 10)
    # An immediate shutdown sends a warning and closes; orphans see that the postmaster is gone.
    wanted = {"08006"} if how == restarts.IMMEDIATE else {"57P01"}
    name = f"Postgres ended by {how.name}"
    checks.claim(set(told) == wanted, f"{name}: its sessions are told", set(told), str(wanted))
    await _return(checks, server, guard, relay, (name, away))


def down_at_start(checks: Checks, server: Postgres, away: float) -> None:
    """The guard was there first."""
    restarts.stop(server.embedded, restarts.FAST)
    with _far_guard(server, ready=False) as (guard, relay):
        asyncio.run(_return(checks, server, guard, relay, ("Postgres down at start", away)))


@contextlib.contextmanager
def _far_guard(server: Postgres, *, ready: bool = True) -> Any:
    """A guard whose Postgres is behind a relay, which counts the dials."""
    with Relay(server.address.host, server.address.port) as relay:
        through = server.address.at("127.0.0.1", relay.port)
        settings = {"limits.connection_limit": "50", "limits.pool_timeout": "40s"}
        with harness.Guard(through, settings, ready=ready) as guard:
            yield guard, relay


async def _return(
    checks: Checks, server: Postgres, guard: Guard, relay: Relay, given: tuple[str, float]
) -> None:
    """Clients that came while it was away, and one that comes when it is back."""
    name, away = given
    served: list[float] = []

    async def client(number: int) -> None:
        session = await _idle(guard.address, f"client {number % 4}")
        await session.query("SELECT 1")
        served.append(time.monotonic())
        await session.close()

    waiting = [asyncio.create_task(client(number)) for number in range(WAITERS)]
    # All who come learn only by trying that it is away; from then on few try.
    await asyncio.sleep(away / 2)
    dials, began = len(relay.connections), time.monotonic()
    await asyncio.sleep(away / 2)
    rate = (len(relay.connections) - dials) / (time.monotonic() - began)
    checks.claim(not served, f"{name}: {WAITERS} clients are held", len(served), "0 served")
    figure = f"{rate:.1f}"
    checks.claim(rate < DIALS, "dials a second once that is known", figure, f"< {DIALS:g}")
    await asyncio.to_thread(restarts.start, server.embedded)
    back = time.monotonic()
    waiting.append(asyncio.create_task(client(WAITERS)))
    await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)
    failed = [error for task in waiting if (error := task.exception()) is not None]
    checks.claim(not failed, "of them refused", repr(failed[:2]) if failed else 0, "0")
    first, last = min(served) - back, max(served) - back
    figure = f"first {first:.2f} s, last {last:.2f} s after its return"
    checks.claim(last < RETURN, f"{name}: new clients served", figure, "< 5 s")
