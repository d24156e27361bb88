"""One connection for a command that asks and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from pgguard.errors import ServerUnavailable
from pgguard.net.asking import connected
from pgguard.settings.upstream import parse_url

if TYPE_CHECKING:
    from conftest import Database


async def test_it_asks_under_its_name_and_is_gone(database: Database) -> None:
    async with connected(parse_url(database.url), 10.0, None, name="asking") as connection:
        rows = await connection.query("SELECT current_setting('application_name')")
        assert rows == [["asking"]]
        assert connection.tls == ""
    with psycopg.connect(database.url) as other:
        row = other.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [connection.pid]
        )
        assert row.fetchone() == (0,)


async def test_an_error_of_postgres_ends_it_all_the_same(database: Database) -> None:
    with pytest.raises(ServerUnavailable, match="division by zero"):
        async with connected(parse_url(database.url), 10.0, None, name="asking") as connection:
            await connection.query("SELECT 1/0")
