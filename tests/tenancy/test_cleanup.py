"""Which texts do nothing but empty tables."""

from __future__ import annotations

import pytest

from pgguard.sql.shape import mask
from pgguard.tenancy.cleanup import empties_tables


@pytest.mark.parametrize(
    "text",
    [
        "TRUNCATE bookings",
        'truncate table "Booking", public."Add On" restart identity cascade;',
        "TRUNCATE TABLE ONLY bookings RESTRICT",
        "DELETE FROM bookings",
        'DELETE FROM "public"."Booking" WHERE 1=1',
        "DELETE FROM bookings AS b WHERE (true)",
        "/* afterEach */ DELETE FROM bookings; DELETE FROM tenants;",
        "BEGIN; TRUNCATE a; TRUNCATE b; COMMIT",
    ],
)
def test_a_text_that_only_empties_tables_cleans_up(text: str) -> None:
    assert empties_tables(mask(text.encode()))


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM bookings WHERE status = $1",
        "DELETE FROM bookings WHERE 1=1 OR tenant_id = $1",
        "DELETE FROM bookings USING tenants",
        "DELETE FROM bookings RETURNING *",
        "DELETE FROM bookings; SELECT * FROM bookings",
        "SELECT 'TRUNCATE bookings'",
        "TRUNCATE bookings; UPDATE bookings SET status = 'x'",
        "",
        "BEGIN TRANSACTION READ ONLY",
    ],
)
def test_a_text_that_does_more_does_not(text: str) -> None:
    assert not empties_tables(mask(text.encode()))
