"""What a recursive query carries along, beside twins that do not."""

from __future__ import annotations

import pytest
from bookings import level

from pgguard.findings import Verdict

PAIRS = {
    "a column that every round carries along": (
        (
            "WITH RECURSIVE r AS (SELECT id, tenant_id t FROM bookings WHERE tenant_id "
            "= $1 UNION SELECT b.id, r.t FROM bookings b JOIN r ON b.tenant_id = r.t) "
            "SELECT * FROM r"
        ),
        (
            "WITH RECURSIVE r AS (SELECT id, tenant_id t FROM bookings WHERE tenant_id "
            "= $1 UNION SELECT b.id, b.tenant_id FROM bookings b JOIN r ON b.note = "
            "r.t) SELECT * FROM r"
        ),
    ),
    "a fact from outside reaches the base through it": (
        (
            "WITH RECURSIVE r AS (SELECT tenant_id t, 1 n FROM bookings UNION SELECT "
            "r.t, n + 1 FROM r WHERE n < 3) SELECT * FROM r WHERE t = $1"
        ),
        (
            "WITH RECURSIVE r AS (SELECT tenant_id t, 1 n FROM bookings UNION SELECT "
            "r.t, n + 1 FROM r WHERE n < 3) SELECT * FROM r WHERE n = $1"
        ),
    ),
    "the step is an occurrence of its own": (
        (
            "WITH RECURSIVE r AS (SELECT id, tenant_id t FROM bookings WHERE tenant_id "
            "= $1 UNION SELECT b.id, b.tenant_id FROM bookings b JOIN r ON true WHERE "
            "b.tenant_id = $1) TABLE r"
        ),
        (
            "WITH RECURSIVE r AS (SELECT id, tenant_id t FROM bookings WHERE tenant_id "
            "= $1 UNION SELECT b.id, b.tenant_id FROM bookings b JOIN r ON true) TABLE "
            "r"
        ),
    ),
    "one that is limited lets nothing in": (
        (
            "WITH RECURSIVE r AS (SELECT tenant_id t FROM bookings WHERE tenant_id = "
            "$1 UNION SELECT r.t FROM r LIMIT 5) SELECT * FROM r"
        ),
        (
            "WITH RECURSIVE r AS (SELECT tenant_id t FROM bookings UNION SELECT r.t "
            "FROM r LIMIT 5) SELECT * FROM r WHERE t = $1"
        ),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_scope_follows_for_one_and_not_for_its_twin(name: str) -> None:
    scoped, twin = PAIRS[name]
    assert level(scoped) == Verdict.scoped
    assert level(twin) >= Verdict.unknown
