"""asyncpg's own pool of three, which are all kept open; says "ready" when their work is done."""

from __future__ import annotations

import asyncio
import os
import sys

import asyncpg

ROUNDS = 8


async def main() -> None:
    pool = await asyncpg.create_pool(os.environ["POOLED_URL"], min_size=3, max_size=3, ssl=False)
    for number in range(ROUNDS):
        kept = [await pool.acquire() for _ in range(3)]
        for connection in kept:
            async with connection.transaction():
                made = await connection.fetchval(
                    "INSERT INTO written (body) VALUES ($1) RETURNING id", f"{number}"
                )
            text = await connection.fetchval("SELECT body FROM written WHERE id = $1", made)
            assert text == f"{number}"
            # Its introspection of types that it does not know.
            await connection.fetch("SELECT ARRAY[ROW($1::int, 'a')]", number)
        for connection in kept:
            await pool.release(connection)
    print("ready", flush=True)
    sys.stdin.read()
    await pool.close()


asyncio.run(main())
