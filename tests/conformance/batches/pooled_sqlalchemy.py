"""SQLAlchemy: pools of three that are all kept open; says "ready" when their work is done.

The URL with its driver is in POOLED_URL; with asyncpg the engine is an asynchronous one.
"""

from __future__ import annotations

import asyncio
import os
import sys

from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, insert, select
from sqlalchemy.ext.asyncio import create_async_engine

TABLE = Table(
    "written", MetaData(), Column("id", Integer, primary_key=True), Column("body", String)
)
ROUNDS = 8


def blocking(url: str) -> None:
    engine = create_engine(url, pool_size=3, pool_pre_ping=True)
    kept = [engine.connect() for _ in range(3)]
    for number in range(ROUNDS):
        for connection in kept:
            with connection.begin():
                made = connection.execute(insert(TABLE).values(body=f"{number}"))
                key = made.inserted_primary_key
                row = connection.execute(select(TABLE.c.body).where(TABLE.c.id == key[0])).one()
                assert row.body == f"{number}"
    for connection in kept:
        connection.close()
    ready()
    engine.dispose()


async def asynchronous(url: str) -> None:
    engine = create_async_engine(url, pool_size=3, pool_pre_ping=True)
    kept = [await engine.connect() for _ in range(3)]
    for number in range(ROUNDS):
        for connection in kept:
            async with connection.begin():
                made = await connection.execute(insert(TABLE).values(body=f"{number}"))
                key = made.inserted_primary_key
                rows = await connection.execute(select(TABLE.c.body).where(TABLE.c.id == key[0]))
                assert rows.one().body == f"{number}"
    for connection in kept:
        await connection.close()
    ready()
    await engine.dispose()


def ready() -> None:
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    there = os.environ["POOLED_URL"]
    if "asyncpg" in there:
        asyncio.run(asynchronous(there))
    else:
        blocking(there)
