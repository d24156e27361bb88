"""Which column a name means and what is still it, beside twins that are not."""

from __future__ import annotations

import pytest
from bookings import level

from pgguard.findings import Verdict

PAIRS = {
    "a column without qualifier is the nearest one": (
        ("SELECT FROM words WHERE EXISTS (SELECT FROM bookings WHERE tenant_id = $1)"),
        ("SELECT FROM words WHERE EXISTS (SELECT FROM bookings WHERE words.note = $1)"),
    ),
    "a star has the columns of its table": (
        "SELECT FROM (SELECT * FROM bookings) x WHERE x.tenant_id = $1",
        "SELECT FROM (SELECT id, code FROM bookings) x WHERE x.code = $1",
    ),
    "a star of one of two": (
        "SELECT FROM (SELECT b.* FROM bookings b, words) x WHERE x.tenant_id = $1",
        "SELECT FROM (SELECT w.* FROM bookings b, words w) x WHERE x.note = $1",
    ),
    "a cast to text keeps what a text is": (
        "SELECT FROM bookings WHERE tenant_id::text = $1",
        "SELECT FROM bookings WHERE lower(tenant_id) = $1",
    ),
    "an output that is a plain column is the same": (
        "SELECT FROM (SELECT tenant_id AS t FROM bookings) x WHERE t = $1",
        "SELECT FROM (SELECT tenant_id || '' AS t FROM bookings) x WHERE t = $1",
    ),
    "what a nullable side shows may be NULL": (
        (
            "SELECT FROM bookings b LEFT JOIN visits v ON v.tenant_id = b.tenant_id "
            "WHERE b.tenant_id = $1"
        ),
        ("SELECT FROM words w LEFT JOIN visits v ON v.note = w.note WHERE v.tenant_id IS NULL"),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_scope_follows_for_one_and_not_for_its_twin(name: str) -> None:
    scoped, twin = PAIRS[name]
    assert level(scoped) == Verdict.scoped
    assert level(twin) >= Verdict.unknown
