"""The data of the demo: what its suite counts on, whatever was in the database before."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from commands import environment

from pgguard.launch import suite

if TYPE_CHECKING:
    from conftest import Database

pytestmark = pytest.mark.slow

COUNTS = """
    SELECT (SELECT count(*) FROM tenants), count(*), count(*) FILTER (WHERE status = 'expired'),
        (SELECT count(*) FROM packages), (SELECT count(*) FROM booking_add_ons)
    FROM bookings
"""
OF_ANOTHER_TENANT = """
    SELECT count(*) FROM bookings b
        JOIN packages p ON p.id = b.package_id
        LEFT JOIN booking_add_ons c ON c.booking_id = b.id
        LEFT JOIN add_ons a ON a.id = c.add_on_id
    WHERE p.tenant_id <> b.tenant_id OR a.tenant_id <> b.tenant_id
"""


def seed(database: Database) -> None:
    env = environment(DATABASE_URL=database.url)
    subprocess.run(suite.seed_command(), env=env, check=True, timeout=60)


def test_a_second_seed_leaves_the_same_five_tenants(database: Database) -> None:
    def asked(query: str) -> Any:
        return connection.execute(query).fetchone()

    with psycopg.connect(database.url, autocommit=True) as connection:
        seed(database)
        assert asked(COUNTS) == (5, 60, 10, 15, 50)
        connection.execute("DELETE FROM booking_add_ons")
        connection.execute("INSERT INTO tenants (slug, name) VALUES ('left', 'over')")
        seed(database)
        assert asked(COUNTS) == (5, 60, 10, 15, 50)
        assert asked(OF_ANOTHER_TENANT) == (0,)
