"""`caps`: what a client may hold, who waits how long and in which order, and that no slot is lost.

Every part starts a guard of its own in front of one Postgres of max_connections 30, which is the
witness: pg_stat_activity counts what a client really holds, and the server's log would show a
53300 of Postgres's own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

import asyncpg

from tests.conformance import harness
from tests.conformance.rawsession import RawSession, ServerError

MAX_CONNECTIONS = 30
CLIENTS = [f"client {letter}" for letter in "abcdefgh"]
SESSIONS, CAP = 20, 3
VANISHING = 1000
TOTAL = 25
ACTIVITY = """
    SELECT application_name, count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND application_name <> 'observer'
    AND application_name NOT LIKE 'pgguard/%' GROUP BY 1
"""


class Observer:
    """Samples what clients hold, as Postgres and as the metrics page see it."""

    def __init__(self, server: harness.Postgres, guard: harness.Guard) -> None:
        self._server, self._guard = server, guard
        self.peaks: dict[str, int] = {}
        self.together = 0
        """The highest number of all clients' server connections at one moment."""

    async def __aenter__(self) -> Self:
        self.connection = await asyncpg.connect(
            self._server.address.url, server_settings={"application_name": "observer"}
        )
        self._task = asyncio.create_task(self._sample())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self.connection.close()

    async def held(self) -> dict[str, int]:
        """Server connections per application_name now."""
        return {row[0]: row[1] for row in await self.connection.fetch(ACTIVITY)}

    async def _sample(self) -> None:
        other = await asyncpg.connect(
            self._server.address.url, server_settings={"application_name": "observer"}
        )
        try:
            while True:
                rows = await other.fetch(ACTIVITY)
                self.together = max(self.together, sum(row[1] for row in rows))
                for name, count in rows:
                    self.peaks[name] = max(self.peaks.get(name, 0), count)
                await asyncio.sleep(0.03)
        finally:
            other.terminate()


def run(checks: harness.Checks, short: bool) -> None:
    """All parts; the short form has fewer transactions in the part with 20 coroutines."""
    transactions = 60 if short else 200
    settings = {"limits.connection_limit": str(CAP)}
    impatient = {
        "limits.pool_timeout": "3s",
        "limits.self_starvation_after": "1500ms",
        "limits.notice_after": "500ms",
    }
    parts: list[tuple[Part, dict[str, str]]] = [
        (in_order, settings | {"limits.total": str(CAP * len(CLIENTS))}),
        (all_at_once, settings),
        (one_too_many, settings | impatient),
        (self_starvation, settings | impatient | {"limits.pool_timeout": "8s"}),
        (vanishing, settings | {"limits.pool_timeout": "60s"}),
        (lambda *given: coroutines(*given, transactions), {}),
        (pairs, {"limits.total": str(TOTAL), "limits.connection_limit": str(TOTAL)}),
    ]
    with harness.postgres(max_connections=MAX_CONNECTIONS) as server:
        for part, wanted in parts:
            with harness.Guard(server.address, wanted) as guard:
                asyncio.run(asyncio.wait_for(part(checks, server, guard), 120))
                checks.claim(guard.running, "the guard lives")
        refused = server.log.read_text(errors="replace").count("too many clients")
        refused += server.log.read_text(errors="replace").count("remaining connection slots")
        checks.claim(refused == 0, "53300 from Postgres, in its own log", refused, "0")


Part = Callable[[harness.Checks, harness.Postgres, harness.Guard], Awaitable[None]]


async def in_order(checks: harness.Checks, server: harness.Postgres, guard: harness.Guard) -> None:
    """8 clients with 20 sessions each that arrive one after the other, and leave one by one."""
    del server
    sessions: dict[str, list[asyncio.Task[RawSession]]] = {name: [] for name in CLIENTS}
    served: dict[str, list[int]] = {name: [] for name in CLIENTS}

    async def arrive(client: str, number: int) -> RawSession:
        session = await RawSession.open(guard.address, application_name=client)
        served[client].append(number)
        return session

    def arrived(count: int) -> bool:
        page = guard.metrics()
        held = page.by("client_server_connections", "client")
        waiting = page.by("client_waiting", "client")
        return all(held.get(name, 0) + waiting.get(name, 0) == count for name in CLIENTS)

    for number in range(SESSIONS):
        for client in CLIENTS:
            sessions[client].append(asyncio.create_task(arrive(client, number)))
        if number < CAP:
            await asyncio.gather(*(sessions[client][number] for client in CLIENTS))
        if not await harness.eventually(lambda count=number + 1: arrived(count)):  # type: ignore[misc]
            checks.claim(False, f"session {number} of every client is held or waiting")
            break

    async def leave(client: str) -> None:
        # One slot at a time: two that are free at once may be dialled in either order.
        for task in sessions[client]:
            session = await task
            waiting = [other for other in sessions[client] if not other.done()]
            await session.close()
            if waiting:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)

    await asyncio.gather(*(leave(client) for client in CLIENTS))
    right = sum(order == sorted(order) and len(order) == SESSIONS for order in served.values())
    checks.claim(right == len(CLIENTS), "clients whose sessions were served in order", right, "8")


async def all_at_once(
    checks: harness.Checks, server: harness.Postgres, guard: harness.Guard
) -> None:
    """8 clients with 20 connections each at the same moment, each with one statement."""
    errors: list[str] = []

    async def use(client: str) -> None:
        try:
            connection = await asyncpg.connect(
                guard.address.url, server_settings={"application_name": client}, timeout=60
            )
            await connection.execute("SELECT pg_sleep(0.1)")
            await connection.close()
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    async with Observer(server, guard) as observer:
        await asyncio.gather(*(use(client) for client in CLIENTS * SESSIONS))
    page = guard.metrics()
    peaks = page.by("client_server_connections_peak", "client")
    rows = [[name, observer.peaks.get(name, 0), f"{peaks.get(name, 0):.0f}"] for name in CLIENTS]
    checks.table(["client", "peak in pg_stat_activity", "peak in /metrics"], rows)
    checks.claim(not errors, "160 connections served, errors", len(errors), "0")
    for error in errors[:3]:
        checks.note(error)
    seen = max(observer.peaks.get(name, 0) for name in CLIENTS)
    told = max(peaks.get(name, 99) for name in CLIENTS)
    checks.claim(0 < seen <= CAP, "highest peak in pg_stat_activity", seen, "≤ 3")
    checks.claim(0 < told <= CAP, "highest peak in /metrics", f"{told:.0f}", "≤ 3")
    own = page.total("errors_total", sqlstate="53300")
    checks.claim(own == 0, "53300 from Postgres, in /metrics", f"{own:.0f}", "0")


async def _refused(
    guard: harness.Guard, client: str, begin: str
) -> tuple[float, dict[str, str], RawSession]:
    """Three sessions hold the cap after `begin`; how long the fourth waits and what it gets."""
    holders = [await RawSession.open(guard.address, application_name=client) for _ in range(CAP)]
    for number, holder in enumerate(holders):
        await holder.query(f"{begin} SELECT {number} AS holder_{number}")
    extra = await RawSession.dial(guard.address, application_name=client)
    await extra.authenticate()
    started = time.monotonic()
    fields: dict[str, str] = {}
    try:
        await asyncio.wait_for(extra.ready(), 15)
    except (ServerError, TimeoutError) as error:
        fields = getattr(error, "fields", {})
    waited = time.monotonic() - started
    for holder in holders:
        await holder.query("SELECT 'unharmed'")
        await holder.close()
    return waited, fields, extra


async def one_too_many(
    checks: harness.Checks, server: harness.Postgres, guard: harness.Guard
) -> None:
    """The fourth of three, whose holders are idle outside a transaction."""
    del server
    waited, fields, extra = await _refused(guard, "one too many", "")
    checks.claim(2.4 <= waited <= 3.6, "refused after", f"{waited:.2f} s", "3 s ± 20 %")
    said = (fields.get("V"), fields.get("C"))
    checks.claim(said == ("FATAL", "53300"), "SQLSTATE", said, "FATAL 53300")
    start = 'pgguard: client "one too many" already uses its 3 server connections'
    message, detail = fields.get("M", ""), fields.get("D", "")
    checks.claim(message.startswith(start), "message", message)
    named = sum(f"holder_{number}" in detail for number in range(CAP))
    checks.claim(named == CAP, "holders named in DETAIL", named, "3")
    checks.claim("PGG301" in fields.get("H", ""), "hint", fields.get("H"))
    told = [n["M"] for n in extra.notices if "position 1 of 1" in n["M"] and "holder_0" in n["M"]]
    checks.claim(bool(told), "NOTICE with position and holders while it waited", told[:1])


async def self_starvation(
    checks: harness.Checks, server: harness.Postgres, guard: harness.Guard
) -> None:
    """The fourth of three, whose holders are silent inside a transaction."""
    del server
    waited, fields, _ = await _refused(guard, "starving", "BEGIN;")
    checks.claim(1.2 <= waited <= 1.8, "refused after", f"{waited:.2f} s", "1.5 s ± 20 %")
    message = fields.get("M", "")
    right = fields.get("C") == "53300" and 'client "starving" waits for itself' in message
    checks.claim(right, "message", message)
    checks.claim("PGG303" in fields.get("H", ""), "hint", fields.get("H"))
    named = sum(f"holder_{number}" in fields.get("D", "") for number in range(CAP))
    checks.claim(named == CAP, "holders named in DETAIL", named, "3")


async def vanishing(checks: harness.Checks, server: harness.Postgres, guard: harness.Guard) -> None:
    """1,000 sessions that wait and go, by every way of going, while slots change hands."""
    client = "vanishing"
    async with Observer(server, guard) as observer:
        await observer.connection.execute("CREATE TABLE vanished (n int)")
        holders = [
            await RawSession.open(guard.address, application_name=client) for _ in range(CAP)
        ]

        async def wait_and_go(number: int, writes: bool) -> None:
            session = await RawSession.dial(guard.address, application_name=client)
            if number % 10:
                await session.authenticate()
            if writes:
                session.send(b"Q", b"INSERT INTO vanished VALUES (1)\0")
            await asyncio.sleep(0.001 * (number % 7))
            session.vanish("reset" if writes else ("fin", "reset", "terminate")[number % 3])

        for start in range(0, VANISHING, 50):
            churn = start % 100 != 0
            going = asyncio.gather(
                *(wait_and_go(start + n, writes=not churn and n % 5 == 4) for n in range(50))
            )
            if churn:
                # A slot is handed on while those who wait for it go.
                await holders.pop(0).close()
                holders.append(await RawSession.open(guard.address, application_name=client))
            await going
        gone = await harness.eventually(
            lambda: guard.metrics().by("client_waiting", "client").get(client, 0) == 0
        )
        checks.claim(gone, "1,000 waiters have gone")
        for holder in holders:
            await holder.close()
        started = time.monotonic()
        again = [
            asyncio.create_task(RawSession.open(guard.address, application_name=client))
            for _ in range(CAP + 1)
        ]
        done, waiting = await asyncio.wait(again, timeout=3)
        checks.claim(len(done) == CAP, "slots left for others", len(done), "3 of 3")
        checks.claim(len(waiting) == 1, "the fourth waits", len(waiting), "1")
        checks.note(f"observed for {time.monotonic() - started:.1f} s")
        held = (await observer.held()).get(client, 0)
        checks.claim(held == CAP, "held in pg_stat_activity", held, "3")
        peak = observer.peaks.get(client, 0)
        checks.claim(peak <= CAP, "highest peak in pg_stat_activity", peak, "≤ 3")
        rows = await observer.connection.fetchval("SELECT count(*) FROM vanished")
        checks.claim(rows == 0, "INSERTs of those who went while waiting", rows, "0")
        for task in again:
            task.cancel()
            with suppress(asyncio.CancelledError):
                (await task).vanish("terminate")


async def coroutines(
    checks: harness.Checks, server: harness.Postgres, guard: harness.Guard, transactions: int
) -> None:
    """20 coroutines of transactions with pauses on a cap of 10: half of them wait for the rest."""
    del server
    errors: list[str] = []

    async def work() -> None:
        try:
            connection = await asyncpg.connect(
                guard.address.url, server_settings={"application_name": "busy"}, timeout=60
            )
            for _ in range(transactions):
                async with connection.transaction():
                    for number in range(3):
                        await connection.fetchval("SELECT $1::int", number)
                        await asyncio.sleep(0.005)
            await connection.close()
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    started = time.monotonic()
    await asyncio.gather(*(work() for _ in range(20)))
    took = time.monotonic() - started
    checks.note(f"20 coroutines with {transactions} transactions each in {took:.1f} s")
    checks.claim(not errors, "refused", errors[:2] or 0, "0")
    refusals = guard.metrics().total("refusals_total")
    checks.claim(refusals == 0, "refusals in /metrics", f"{refusals:.0f}", "0")


async def pairs(checks: harness.Checks, server: harness.Postgres, guard: harness.Guard) -> None:
    """25 clients that need two connections each, beside one that takes all it can."""
    errors: list[str] = []
    waits: list[float] = []
    ended = asyncio.Event()

    async def hog() -> None:
        while not ended.is_set():
            try:
                session = await RawSession.open(guard.address, application_name="hog")
                await session.query("SELECT pg_sleep(0.2)")
                await session.close()
            except Exception as error:
                errors.append(f"hog: {type(error).__name__}: {error}")
                return

    async def pair(number: int) -> None:
        name = f"pair {number}"
        started = time.monotonic()
        try:
            first = await RawSession.open(guard.address, application_name=name)
            await first.query("BEGIN")
            second = await RawSession.open(guard.address, application_name=name)
            await second.query("SELECT pg_sleep(0.1)")
            await first.query("COMMIT")
            await first.close()
            await second.close()
        except Exception as error:
            errors.append(f"{name}: {type(error).__name__}: {error}")
        waits.append(time.monotonic() - started)

    async with Observer(server, guard) as observer:
        hogs = [asyncio.create_task(hog()) for _ in range(30)]
        await asyncio.sleep(1)
        await asyncio.gather(*(pair(number) for number in range(TOTAL)))
        ended.set()
        await asyncio.gather(*hogs)
    together = observer.together
    checks.claim(together <= TOTAL, "all server connections at once", together, f"≤ {TOTAL}")
    slowest = f"slowest pair {max(waits):.1f} s, hog's peak {observer.peaks.get('hog')}"
    checks.claim(
        not errors, f"25 clients with 2 connections each served ({slowest})", errors[:2] or 0, "0"
    )
