"""asyncpg as a probe: its own wire code, binary values, prepared by default, Flush-driven."""

from __future__ import annotations

import asyncio
import contextlib
import io
from typing import TYPE_CHECKING, Any

import asyncpg

from tests.conformance.drivers import probe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conformance.harness import Address

_FIELDS = (
    "severity",
    "sqlstate",
    "message",
    "detail",
    "hint",
    "position",
    "context",
    "schema_name",
    "table_name",
    "column_name",
    "constraint_name",
    "server_source_line",
    "server_source_function",
)


@contextlib.asynccontextmanager
async def connected(address: Address, **options: Any) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(address.url, **{"ssl": False, "timeout": 30} | options)
    try:
        yield connection
    finally:
        if not connection.is_closed():
            await connection.close(timeout=10)


def failure(error: Exception) -> list[str]:
    fields = (f"{name}={getattr(error, name, None)}" for name in _FIELDS)
    return [type(error).__name__, *fields]


async def attempt(connection: asyncpg.Connection, sql: str, *values: Any) -> list[Any]:
    try:
        rows = await connection.fetch(sql, *values)
        return [[repr(row) for row in rows], connection.is_in_transaction()]
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return [failure(error), connection.is_in_transaction()]


async def login(address: Address) -> list[Any]:
    settings = {"search_path": "pg_catalog", "statement_timeout": "12345", "jit": "off"}
    async with connected(address, server_settings=settings) as connection:
        seen: list[Any] = [repr(connection.get_settings().server_version)]
        seen.append(connection.get_settings().TimeZone)
        seen.append(
            await connection.fetchval("SELECT pg_backend_pid()") == connection.get_server_pid()
        )
        seen += [await connection.fetchval(f"SHOW {name}") for name in settings]
    wrong = ({"password": "wrong"}, {"user": "nobody"}, {"database": "nowhere"})
    for options in (*wrong, {"server_settings": {"nonsense": "1"}}):
        try:
            async with connected(address, **options):
                seen.append("let in")
        except asyncpg.PostgresError as error:
            # The guard decides a login itself: no place in the server's source.
            seen.append(failure(error)[:-2])
    return seen


async def simple(address: Address) -> list[Any]:
    notices: list[list[Any]] = []
    seen: list[Any] = []
    async with connected(address) as connection:
        connection.add_log_listener(
            lambda _, told: notices.append([told.severity, told.sqlstate, told.message])
        )
        for text in ("SELECT", "SELECT 1; SELECT 2", probe.NOTICES, probe.TABLE, "SELEC 1"):
            try:
                seen.append(await connection.execute(text))
            except asyncpg.PostgresError as error:
                seen.append(failure(error))
        seen.append(await connection.execute("SET TIME ZONE 'Asia/Tokyo'"))
        seen.append(connection.get_settings().TimeZone)
        await asyncio.sleep(0)
        await connection.reset()
        seen.append(await connection.fetchval("SHOW TimeZone"))
    return [seen, notices]


async def extended(address: Address) -> list[Any]:
    async with connected(address, statement_cache_size=0) as connection:
        seen = [await attempt(connection, probe.VALUES)]
        seen.append(await attempt(connection, probe.TABLE))
        seen += [
            await attempt(connection, "INSERT INTO item VALUES ($1, $2)", *values)
            for values in ((1, "a"), (2, None), (3, "\u00fc"), (3, "again"))
        ]
        seen.append(await attempt(connection, "SELECT $1::int[] || 4, $2::jsonb", [1, 2], "{}"))
        seen.append(await attempt(connection, "SELECT row(1, 'a'::text), '1 day'::interval"))
        seen.append(await attempt(connection, "SELECT length($1)", "x" * 70_000))
    return seen


async def prepared(address: Address) -> list[Any]:
    async with connected(address, statement_cache_size=3) as connection:
        statement = await connection.prepare("SELECT $1::int * 2 AS twice")
        seen: list[Any] = [[str(p) for p in statement.get_parameters()]]
        seen.append([str(a) for a in statement.get_attributes()])
        seen.append([await statement.fetchval(n) for n in range(5)])
        seen += [await attempt(connection, f"SELECT {n % 5} + $1::int", n) for n in range(12)]
        await connection.execute(probe.TABLE)
        seen.append(await attempt(connection, "SELECT * FROM item"))
        await connection.execute("ALTER TABLE item ADD COLUMN more int")
        seen.append(await attempt(connection, "SELECT * FROM item"))
        seen.append(await attempt(connection, "SELECT count(*) FROM pg_prepared_statements"))
        await connection.execute("DEALLOCATE ALL")
        try:
            seen.append(await statement.fetchval(1))
        except asyncpg.PostgresError as error:
            seen.append(type(error).__name__)
    return seen


async def pipelining(address: Address) -> list[Any]:
    async with connected(address) as connection:
        await connection.execute(probe.TABLE)
        rows = [(n, f"name {n}") for n in range(5000)]
        await connection.executemany("INSERT INTO item VALUES ($1, $2)", rows)
        seen = [await attempt(connection, "SELECT count(*), sum(id) FROM item")]
        try:
            await connection.executemany("INSERT INTO item VALUES ($1, $2)", [(-1, "a"), (5, "b")])
        except asyncpg.PostgresError as error:
            seen.append(failure(error))
        seen.append(await attempt(connection, "SELECT count(*) FROM item"))
        returned = await connection.fetchmany(
            "INSERT INTO item VALUES ($1, 'r') RETURNING id", [(n,) for n in range(6000, 6100)]
        )
        seen.append(sum(row[0] for row in returned))
    return seen


async def copy(address: Address) -> list[Any]:
    async with connected(address) as connection:
        await connection.execute(probe.TABLE)
        rows = ((n, f"name {n}") for n in range(100_000))
        seen: list[Any] = [await connection.copy_records_to_table("item", records=rows)]
        out = io.BytesIO()
        query = "SELECT * FROM item WHERE id < $1 ORDER BY id"
        seen.append(await connection.copy_from_query(query, 50_000, output=out, format="binary"))
        seen.append(probe.digest(out.getvalue()))
        for text in (b"x\tno number\n", b"5\ttwice\n", b"1\n"):
            try:
                await connection.copy_to_table("item", source=io.BytesIO(text))
            except asyncpg.PostgresError as error:
                seen.append(failure(error))
        seen.append(await attempt(connection, "SELECT count(*) FROM item"))
    return seen


async def cancel(address: Address) -> list[Any]:
    async with connected(address) as connection:
        seen: list[Any] = []
        try:
            await connection.execute(probe.SLEEP, timeout=probe.CANCEL_AFTER)
        except TimeoutError:
            seen.append("timed out")
        seen.append(await attempt(connection, "SELECT 'after'"))
        task = asyncio.create_task(connection.fetch(probe.SLEEP))
        await asyncio.sleep(probe.CANCEL_AFTER)
        task.cancel()
        seen.append(repr(await asyncio.gather(task, return_exceptions=True)))
        seen.append(await attempt(connection, "SELECT 'after'"))
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.fetch("SELECT $1::int, pg_sleep(20)", 1, timeout=probe.CANCEL_AFTER)
        except TimeoutError:
            seen.append(await attempt(connection, "SELECT 1"))
        await transaction.rollback()
        seen.append(await attempt(connection, "SELECT 'after'"))
    return seen


async def notify(address: Address) -> list[Any]:
    told: asyncio.Queue[list[Any]] = asyncio.Queue()
    async with connected(address) as listener, connected(address) as sender:
        pid = sender.get_server_pid()

        def note(_: Any, sent_by: int, channel: str, payload: object) -> None:
            told.put_nowait([channel, probe.digest(str(payload)), sent_by == pid])

        await listener.add_listener("conformance asyncpg", note)
        for payload in ("one", "\u00fc" * 3000):
            await sender.execute("SELECT pg_notify('conformance asyncpg', $1)", payload)
        seen = [await asyncio.wait_for(told.get(), 10) for _ in range(2)]
        await listener.remove_listener("conformance asyncpg", note)
    return seen


async def cursors(address: Address) -> list[Any]:
    async with connected(address) as connection:
        query = "SELECT n FROM generate_series(1, $1) n"
        async with connection.transaction():
            cursor = await connection.cursor(query, 1000)
            seen: list[Any] = [[row[0] for row in await cursor.fetch(3)]]
            seen.append(await cursor.forward(500))
            seen.append((await cursor.fetchrow())[0])
            total = 0
            async for row in connection.cursor(query, 1000, prefetch=7):
                total += row[0]
            seen.append(total)
            statement = await connection.prepare(query)
            first, second = await statement.cursor(9), await statement.cursor(9)
            seen.append([(await first.fetch(2))[1][0], (await second.fetch(4))[3][0]])
    return seen


async def mistakes(address: Address) -> list[Any]:
    seen: list[Any] = []
    async with connected(address) as connection:
        await connection.execute(probe.TABLE)
        for text in probe.MISTAKES:
            seen.append(await attempt(connection, text))
            await connection.execute("BEGIN")
            seen.append(await attempt(connection, text))
            seen.append(await attempt(connection, "SELECT 1"))
            seen.append(await connection.execute("COMMIT"))
        async with connection.transaction(isolation="serializable"):
            try:
                async with connection.transaction():
                    await connection.execute("INSERT INTO item VALUES (8, 'a')")
                    await connection.execute("SELECT 1/0")
            except asyncpg.PostgresError as error:
                seen.append(failure(error))
            seen.append(await attempt(connection, "SELECT * FROM item"))
        seen.append(await attempt(connection, "SELECT pg_terminate_backend(pg_backend_pid())"))
        seen.append(connection.is_closed())
    return seen


async def large(address: Address) -> list[Any]:
    value = probe.BLOCK * probe.MEGABYTES
    async with connected(address) as connection:
        up = await connection.fetchval("SELECT md5($1)", value)
        echo = await connection.fetchval("SELECT $1::bytea", value.encode())
        down = await connection.fetchval(f"SELECT {probe.BLOCK_SQL}")
        return [up, probe.digest(echo), probe.digest(down)]


PROBES = {
    "login": login,
    "simple": simple,
    "extended": extended,
    "prepared reuse": prepared,
    "pipelining": pipelining,
    "COPY": copy,
    "cancel": cancel,
    "LISTEN/NOTIFY": notify,
    "cursors": cursors,
    "errors": mistakes,
    "100 MB values": large,
}

if __name__ == "__main__":
    probe.serve(PROBES)
