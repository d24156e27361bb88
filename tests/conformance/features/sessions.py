"""One session of psycopg or asyncpg, as a state is made and looked at: what it answers, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import asyncpg
import psycopg

from tests.conformance.features.model import Bound, Heard, Kept, Listen

if TYPE_CHECKING:
    from tests.conformance.features.model import Statement
    from tests.conformance.harness import Address


class Session(Protocol):
    """What the probe needs of a driver."""

    async def run(self, statement: Statement) -> str:
        """Rows or the tag, or the SQLSTATE."""

    def in_transaction(self) -> bool: ...

    async def close(self) -> None: ...


class Psycopg:
    """psycopg 3 in autocommit; with `prepared` every statement that can be is prepared first."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], *, prepared: bool) -> None:
        self._connection, self._prepared = connection, prepared
        self._heard: set[str] = set()
        connection.add_notify_handler(lambda note: self._heard.add(note.payload))

    async def run(self, statement: Statement) -> str:
        try:
            return await self._run(statement)
        except psycopg.Error as error:
            return str(error.sqlstate or error)

    async def _run(self, statement: Statement) -> str:
        if isinstance(statement, Listen):
            statement = f"LISTEN {statement.channel}"
        if isinstance(statement, Heard):
            payload = f"of {id(self)}"
            await self._connection.execute(f"NOTIFY {statement.channel}, '{payload}'")  # type: ignore[arg-type]
            return str(payload in self._heard)
        cursor = psycopg.AsyncRawCursor(self._connection)
        if isinstance(statement, Kept):
            await cursor.execute(statement.text, statement.values, prepare=True)  # type: ignore[arg-type]
        elif isinstance(statement, Bound):
            await cursor.execute(statement.text, statement.values)  # type: ignore[arg-type]
        else:
            prepared = self._prepared and is_one(statement)
            await cursor.execute(statement, prepare=prepared)  # type: ignore[arg-type]
        return repr(await cursor.fetchall()) if cursor.description else str(cursor.statusmessage)

    def in_transaction(self) -> bool:
        return self._connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE

    async def close(self) -> None:
        await self._connection.close()


class Asyncpg:
    """asyncpg: what returns rows goes in its own batches, all else as a simple Query."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._kept: dict[str, Any] = {}
        self._heard: set[str] = set()

    async def run(self, statement: Statement) -> str:
        try:
            return await self._run(statement)
        except asyncpg.PostgresError as error:
            return str(error.sqlstate)
        except asyncpg.InterfaceError as error:
            return str(error)

    async def _run(self, statement: Statement) -> str:
        connection = self._connection
        if isinstance(statement, Listen):
            await connection.add_listener(
                statement.channel, lambda *heard: self._heard.add(str(heard[-1]))
            )
            return "LISTEN"
        if isinstance(statement, Heard):
            payload = f"of {id(self)}"
            await connection.execute(f"NOTIFY {statement.channel}, '{payload}'")
            return str(payload in self._heard)
        if isinstance(statement, Kept):
            if statement.text not in self._kept:
                self._kept[statement.text] = await connection.prepare(statement.text)
            rows = await self._kept[statement.text].fetch(*statement.values)
        elif isinstance(statement, Bound):
            rows = await connection.fetch(statement.text, *statement.values)
        elif statement.startswith(("SELECT", "SHOW", "FETCH", "EXECUTE", "VALUES", "WITH")):
            rows = await connection.fetch(statement)
        else:
            return str(await connection.execute(statement))
        return repr([tuple(row) for row in rows])

    def in_transaction(self) -> bool:
        return bool(self._connection.is_in_transaction())

    async def close(self) -> None:
        await self._connection.close(timeout=10)


def is_one(text: str) -> bool:
    """Whether it is a single statement, as Parse wants it."""
    return text.startswith(("DO", "CREATE")) or ";" not in text.rstrip("; ").partition("--")[0]


async def psycopg_simple(address: Address, name: str) -> Session:
    return Psycopg(await _psycopg(address, name), prepared=False)


async def psycopg_prepared(address: Address, name: str) -> Session:
    return Psycopg(await _psycopg(address, name), prepared=True)


async def _psycopg(address: Address, name: str) -> psycopg.AsyncConnection[Any]:
    words = address.libpq(name, sslmode="disable")
    return await psycopg.AsyncConnection.connect(**words, autocommit=True)  # type: ignore[arg-type]


async def asyncpg_own(address: Address, name: str) -> Session:
    settings = {"application_name": name}
    return Asyncpg(await asyncpg.connect(address.url, ssl=False, server_settings=settings))


DRIVERS = {
    "psycopg": psycopg_simple,
    "psycopg, prepared": psycopg_prepared,
    "asyncpg": asyncpg_own,
}
