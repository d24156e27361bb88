"""Clients with asyncpg and psycopg 3, as programs use them: what a driver makes of crossed replies.

The operations are methods of one class for each driver; `Crossed` and `Ended` are what they end in.
"""

from __future__ import annotations

import asyncio
import io
import time
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg

from tests.conformance.stress.world import Crossed, Ended, Left

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from tests.conformance.stress.world import World


class DriverClient:
    """One session after the other, until the storm is over."""

    driver = ""

    def __init__(self, world: World, number: int, rng: Random) -> None:
        self.world, self.rng = world, rng
        self.name = f"{self.driver} {number}"
        self.address = world.near if number % 2 else world.straight
        self.application = f"storm {number % 20}"

    async def run(self) -> None:
        while not self.world.over:
            await self.one_session()

    async def one_session(self) -> None:
        opened, pid = time.monotonic(), 0
        connection: Any = None
        try:
            async with asyncio.timeout(60):
                connection = await self.open()
            pid = self.pid(connection)
            self.world.opened(pid)
            for _ in range(self.rng.randint(5, 25)):
                operation = self.rng.choice(self.operations())
                self.world.counts[f"{self.driver} {operation.__name__}"] += 1
                async with asyncio.timeout(60):
                    await operation(connection)
                if self.world.over:
                    break
            async with asyncio.timeout(60):
                await connection.close()
        except Left:
            pass
        except (Crossed, TimeoutError) as error:
            self.world.fault(f"{self.name}: {str(error) or 'no reply within 60 s'}")
        except Exception as error:
            self.world.ended(self.name, pid, opened, self.read(error))
        finally:
            self.world.closed(pid)
            if connection is not None:
                await self.drop(connection)
        await asyncio.sleep(self.rng.random() * 0.05)

    def operations(self) -> list[Callable[[Any], Awaitable[None]]]:
        raise NotImplementedError

    async def open(self) -> Any:
        raise NotImplementedError

    def pid(self, connection: Any) -> int:
        raise NotImplementedError

    async def drop(self, connection: Any) -> None:
        raise NotImplementedError

    def read(self, error: Exception) -> Ended:
        """What ended the session, by its SQLSTATE."""
        return Ended(str(getattr(error, "sqlstate", None) or ""), f"{type(error).__name__} {error}")

    def token(self) -> str:
        return self.world.token(self.rng)


class AsyncpgClient(DriverClient):
    driver = "asyncpg"

    async def open(self) -> asyncpg.Connection:
        settings = {"application_name": self.application}
        return await asyncpg.connect(self.address.url, ssl=False, server_settings=settings)

    def pid(self, connection: asyncpg.Connection) -> int:
        return int(connection.get_server_pid())

    async def drop(self, connection: asyncpg.Connection) -> None:
        connection.terminate()

    def read(self, error: Exception) -> Ended:
        own = isinstance(error, asyncpg.ConnectionDoesNotExistError | asyncpg.InterfaceError)
        # That SQLSTATE is the driver's own: it says that nobody gave one.
        return Ended("", repr(error)) if own else super().read(error)

    def operations(self) -> list[Callable[[Any], Awaitable[None]]]:
        return [self.value, self.value, self.rows, self.failing, self.transaction, self.copy_out,
                self.copy_in, self.given_up]  # fmt: skip

    async def value(self, connection: asyncpg.Connection) -> None:
        token = self.token()
        self.world.check([token], [await connection.fetchval("SELECT $1::text", token)], "value")

    async def rows(self, connection: asyncpg.Connection) -> None:
        token, count = self.token(), self.rng.randint(1, 300)
        rows = await connection.fetch(
            "SELECT n, $1::text FROM generate_series(1, $2::int) n", token, count
        )
        self.world.check([(n + 1, token) for n in range(count)], [tuple(r) for r in rows], "rows")

    async def failing(self, connection: asyncpg.Connection) -> None:
        token = self.token()
        try:
            await connection.fetchval("SELECT $1::text::int", token)
        except asyncpg.InvalidTextRepresentationError as error:
            said = f'invalid input syntax for type integer: "{token}"'
            self.world.check([said], [str(error)], "error")
        else:
            raise Crossed("an error did not come")

    async def transaction(self, connection: asyncpg.Connection) -> None:
        token = self.token()
        self.world.undone.add(token)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("INSERT INTO ledger VALUES ($1)", token)
        if self.rng.random() < 0.3:
            await transaction.rollback()
            return
        self.world.undone.discard(token)
        await transaction.commit()
        self.world.committed.add(token)

    async def copy_out(self, connection: asyncpg.Connection) -> None:
        token, sink = self.token(), io.BytesIO()
        said = await connection.copy_from_query(
            f"SELECT '{token}' FROM generate_series(1, 50)", output=sink
        )
        self.world.check(["COPY 50", *[token] * 50], [said, *sink.getvalue().decode().split()], "")

    async def copy_in(self, connection: asyncpg.Connection) -> None:
        tokens = [self.token() for _ in range(self.rng.randint(1, 40))]
        said = await connection.copy_records_to_table("ledger", records=[(t,) for t in tokens])
        self.world.check([f"COPY {len(tokens)}"], [said], "COPY FROM")
        self.world.committed.update(tokens)

    async def given_up(self, connection: asyncpg.Connection) -> None:
        """asyncpg cancels what takes too long, and waits until that has been done."""
        token = self.token()
        statement = "SELECT $1::text FROM pg_sleep(0.2)"
        try:
            came = await connection.fetchval(statement, token, timeout=self.rng.uniform(0.05, 0.4))
        except TimeoutError:
            self.world.counts["asyncpg timeouts"] += 1
            if connection.is_closed():
                # The cancel before this one had not been acknowledged yet: the driver gives up.
                raise Left from None
        else:
            self.world.check([token], [came], "slow value")


class PsycopgClient(DriverClient):
    driver = "psycopg"

    async def open(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(
            **self.address.libpq(self.application, sslmode="disable"),  # type: ignore[arg-type]
            autocommit=True,
            prepare_threshold=2,
        )

    def pid(self, connection: psycopg.AsyncConnection[Any]) -> int:
        return connection.info.backend_pid

    async def drop(self, connection: psycopg.AsyncConnection[Any]) -> None:
        await connection.close()

    def operations(self) -> list[Callable[[Any], Awaitable[None]]]:
        return [self.value, self.value, self.pipelined, self.failing, self.transaction,
                self.copy_out, self.copy_in, self.many]  # fmt: skip

    async def value(self, connection: psycopg.AsyncConnection[Any]) -> None:
        token = self.token()
        cursor = await connection.execute("SELECT %s::text", [token])
        self.world.check([(token,)], await cursor.fetchall(), "value")

    async def pipelined(self, connection: psycopg.AsyncConnection[Any]) -> None:
        tokens = [self.token() for _ in range(self.rng.randint(2, 12))]
        async with connection.pipeline():
            cursors = [await connection.execute("SELECT %s::text", [token]) for token in tokens]
            came = [await cursor.fetchone() for cursor in cursors]
        self.world.check([(token,) for token in tokens], came, "pipeline")

    async def failing(self, connection: psycopg.AsyncConnection[Any]) -> None:
        token = self.token()
        try:
            await connection.execute("SELECT %s::text::int", [token])
        except psycopg.errors.InvalidTextRepresentation as error:
            said = f'invalid input syntax for type integer: "{token}"'
            self.world.check([said], [error.diag.message_primary], "error")
        else:
            raise Crossed("an error did not come")

    async def transaction(self, connection: psycopg.AsyncConnection[Any]) -> None:
        token = self.token()
        self.world.undone.add(token)
        undo = self.rng.random() < 0.3
        async with connection.transaction(force_rollback=undo):
            await connection.execute("INSERT INTO ledger VALUES (%s)", [token])
            if not undo:
                self.world.undone.discard(token)
        if not undo:
            self.world.committed.add(token)

    async def copy_out(self, connection: psycopg.AsyncConnection[Any]) -> None:
        token = self.token()
        text = f"COPY (SELECT '{token}' FROM generate_series(1, 50)) TO STDOUT"
        async with connection.cursor() as cursor, cursor.copy(text) as copy:
            came = [row[0] async for row in copy.rows()]
        self.world.check([token] * 50, came, "COPY TO")

    async def copy_in(self, connection: psycopg.AsyncConnection[Any]) -> None:
        tokens = [self.token() for _ in range(self.rng.randint(1, 40))]
        async with connection.cursor() as cursor:
            async with cursor.copy("COPY ledger FROM STDIN") as copy:
                for token in tokens:
                    await copy.write_row([token])
            self.world.check([f"COPY {len(tokens)}"], [cursor.statusmessage], "COPY FROM")
        self.world.committed.update(tokens)

    async def many(self, connection: psycopg.AsyncConnection[Any]) -> None:
        tokens = [self.token() for _ in range(self.rng.randint(1, 10))]
        came = []
        async with connection.cursor() as cursor:
            await cursor.executemany("SELECT %s::text", [[t] for t in tokens], returning=True)
            while True:
                came.append(await cursor.fetchone())
                if not cursor.nextset():
                    break
        self.world.check([(token,) for token in tokens], came, "executemany")
