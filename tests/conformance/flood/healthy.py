"""The clients that must not notice, in a process where the flood takes no turn of theirs.

Reads `{"guard": URL, "direct": URL}` from stdin, asks all the while until stdin ends, and prints
what it saw as JSON: per client the number of answers, the worst and the usual time of one in
seconds, and every reply that was not the one to its question.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg

from tests.conformance.harness import Address
from tests.conformance.rawsession import RawSession

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE = 0.02
"""Seconds between two questions: healthy clients are no load."""
FIRST_WITHIN = 20.0


@dataclass(slots=True)
class Seen:
    """What one client saw."""

    answers: int = 0
    worst: float = 0.0
    slowest_login: float = 0.0
    usual: float = 0.0
    wrong: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    login: float = 0.0
    """What of the newest question was the login."""

    def told(self) -> dict[str, Any]:
        self.answers = len(self.times)
        self.worst, self.usual = max(self.times, default=0.0), _median(self.times)
        return {name: value for name, value in asdict(self).items() if name != "times"}


def _median(times: list[float]) -> float:
    return statistics.median(times) if times else 0.0


async def _go_on(seen: Seen, name: str, over: asyncio.Event, ask: Callable[..., Any]) -> None:
    """One question after the other; each answer must be the token that was sent."""
    for number in itertools.count():
        if over.is_set():
            return
        token = f"{name}-{number}-{time.monotonic_ns()}"
        started = time.monotonic()
        try:
            answer = await ask(token)
        except Exception as error:
            seen.wrong.append(f"{name}: {error!r}"[:300])
            return
        seen.times.append(time.monotonic() - started - seen.login)
        seen.slowest_login = max(seen.slowest_login, seen.login)
        if answer != token:
            seen.wrong.append(f"{name}: {answer!r} for {token!r}"[:300])
        await asyncio.sleep(PAUSE)


async def _psycopg(seen: Seen, name: str, over: asyncio.Event, address: Address) -> None:
    async with await psycopg.AsyncConnection.connect(
        **address.libpq(name),  # type: ignore[arg-type]
        autocommit=True,
    ) as connection:

        async def ask(token: str) -> str:
            cursor = await connection.execute("SELECT %s::text", (token,))
            (answer,) = await cursor.fetchone() or ("nothing",)
            return str(answer)

        await _go_on(seen, name, over, ask)


async def _asyncpg(seen: Seen, name: str, over: asyncio.Event, address: Address) -> None:
    connection = await asyncpg.connect(address.url, server_settings={"application_name": name})

    async def ask(token: str) -> str:
        async with connection.transaction():
            return str(await connection.fetchval("SELECT $1::text", token))

    await _go_on(seen, name, over, ask)
    await connection.close()


async def _raw(seen: Seen, name: str, over: asyncio.Event, address: Address) -> None:
    session = await RawSession.open(address, application_name=name)

    async def ask(token: str) -> str:
        replies = await session.query(f"SELECT '{token}'")
        (row,) = [body for kind, body in replies if kind == b"D"]
        return row[6:].decode()

    await _go_on(seen, name, over, ask)
    await session.close()


async def _newcomer(seen: Seen, name: str, over: asyncio.Event, address: Address) -> None:
    """Connects for each question."""

    async def ask(token: str) -> str:
        started = time.monotonic()
        session = await RawSession.open(address, application_name=name)
        seen.login = time.monotonic() - started
        replies = await session.query(f"SELECT '{token}'")
        await session.close()
        (row,) = [body for kind, body in replies if kind == b"D"]
        return row[6:].decode()

    await _go_on(seen, name, over, ask)


async def _newcomer_in_tls(seen: Seen, name: str, over: asyncio.Event, address: Address) -> None:
    """The same in TLS, with all of its handshake."""

    async def ask(token: str) -> str:
        started = time.monotonic()
        async with await psycopg.AsyncConnection.connect(
            **address.libpq(name, sslmode="require"),  # type: ignore[arg-type]
            autocommit=True,
        ) as connection:
            seen.login = time.monotonic() - started
            cursor = await connection.execute("SELECT %s::text", (token,))
            (answer,) = await cursor.fetchone() or ("nothing",)
            return str(answer)

    await _go_on(seen, name, over, ask)


async def _stdin_ends() -> None:
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def main() -> None:
    places = json.loads(sys.stdin.readline())
    guard, direct = Address.of(places["guard"]), Address.of(places["direct"])
    over = asyncio.Event()
    clients: dict[str, tuple[Any, Address]] = {
        "psycopg": (_psycopg, guard),
        "asyncpg": (_asyncpg, guard),
        "by hand": (_raw, guard),
        "newcomer": (_newcomer, guard),
        "newcomer in TLS": (_newcomer_in_tls, guard),
        "direct": (_raw, direct),
        "direct newcomer": (_newcomer, direct),
    }
    seen = {name: Seen() for name in clients}
    work = [
        asyncio.ensure_future(client(seen[name], f"healthy {name}", over, address))
        for name, (client, address) in clients.items()
    ]
    async with asyncio.timeout(FIRST_WITHIN):
        while not all(each.times or each.wrong for each in seen.values()):
            await asyncio.sleep(PAUSE)
    print("ready", flush=True)
    await _stdin_ends()
    over.set()
    for error in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(error, BaseException):
            seen["psycopg"].wrong.append(repr(error)[:300])
    print(json.dumps({name: each.told() for name, each in seen.items()}))


if __name__ == "__main__":
    asyncio.run(main())
