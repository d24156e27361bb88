"""What stands in FROM and by which names its columns go, beside twins that fail."""

from __future__ import annotations

import pytest
from bookings import level

from pgguard.findings import Verdict

PAIRS = {
    "a table behind its schema": (
        "SELECT FROM public.bookings WHERE tenant_id = $1",
        "SELECT FROM public.bookings WHERE note = $1",
    ),
    "a common table expression hides a table": (
        (
            "WITH bookings AS (SELECT id FROM words) SELECT b.tenant_id FROM "
            "public.bookings b, bookings WHERE b.tenant_id = $1"
        ),
        "WITH words AS (SELECT id FROM bookings) SELECT FROM words",
    ),
    "column aliases by position": (
        "SELECT FROM bookings AS b(a, t) WHERE b.t = $1",
        "SELECT FROM bookings AS b(a, b, c, tenant_id) WHERE b.tenant_id = $1",
    ),
    "USING merges columns": (
        ("SELECT FROM bookings b JOIN posts p USING (tenant_id) WHERE b.tenant_id = $1"),
        "SELECT FROM bookings b JOIN posts p USING (note) WHERE b.tenant_id = $1",
    ),
    "NATURAL merges all that have one name": (
        "SELECT FROM bookings NATURAL JOIN visits WHERE tenant_id = $1",
        "SELECT FROM bookings b CROSS JOIN visits WHERE b.tenant_id = $1",
    ),
    "LATERAL sees what stands before it": (
        (
            "SELECT FROM bookings b, LATERAL (SELECT FROM visits v WHERE v.tenant_id = "
            "b.tenant_id) x WHERE b.tenant_id = $1"
        ),
        (
            "SELECT FROM bookings b, LATERAL (SELECT FROM visits v WHERE v.note = "
            "b.note) x WHERE b.tenant_id = $1"
        ),
    ),
    "the nullable side may be tied in ON": (
        ("SELECT FROM bookings b LEFT JOIN visits v ON v.tenant_id = $1 WHERE b.tenant_id = $1"),
        "SELECT FROM bookings b LEFT JOIN visits v ON b.tenant_id = $1",
    ),
    "a join with a name of its own": (
        ("SELECT FROM (bookings b JOIN words w ON w.id = b.id) AS j WHERE j.tenant_id = $1"),
        ("SELECT FROM (bookings b JOIN words w ON w.id = b.id) AS j WHERE j.code = $1"),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_scope_follows_for_one_and_not_for_its_twin(name: str) -> None:
    scoped, twin = PAIRS[name]
    assert level(scoped) == Verdict.scoped
    assert level(twin) >= Verdict.unknown
