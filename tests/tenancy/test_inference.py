"""Pairs of statements: one whose scope follows, and a near twin whose scope does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgguard.findings import Verdict
from pgguard.tenancy import inference

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgguard.tenancy.judge import Judge

B, P = "bookings b", "packages p"
PAIRS = {
    "an inner join shares facts with WHERE": (
        f"SELECT FROM {B} JOIN {P} ON p.tenant_id = b.tenant_id WHERE b.tenant_id = $1",
        f"SELECT FROM {B} JOIN {P} ON p.tenant_id <> b.tenant_id WHERE b.tenant_id = $1",
    ),
    "the nullable side knows the preserved one": (
        f"SELECT FROM {B} LEFT JOIN {P} ON p.tenant_id = b.tenant_id WHERE b.tenant_id = $1",
        f"SELECT FROM {B} LEFT JOIN {P} ON p.tenant_id = b.tenant_id WHERE p.tenant_id IS NULL",
    ),
    "a strict condition reduces an outer join": (
        f"SELECT FROM {B} LEFT JOIN {P} ON p.tenant_id = b.tenant_id WHERE p.tenant_id = $1",
        f"SELECT FROM {B} LEFT JOIN {P} ON p.tenant_id = b.tenant_id AND p.tenant_id = $1",
    ),
    "either side of a full join": (
        f"SELECT FROM {B} FULL JOIN {P} USING (tenant_id) WHERE tenant_id = $1",
        f"SELECT FROM {B} FULL JOIN {P} USING (tenant_id) WHERE b.status = $1",
    ),
    "EXISTS is a join, NOT EXISTS gives nothing back": (
        (
            f"SELECT FROM {B} WHERE EXISTS (SELECT FROM {P} WHERE p.tenant_id = b.tenant_id"
            " AND p.tenant_id = $1)"
        ),
        (
            f"SELECT FROM {B} WHERE NOT EXISTS (SELECT FROM {P} WHERE p.tenant_id = b.tenant_id"
            " AND p.tenant_id = $1)"
        ),
    ),
    "NOT IN without NULLs": (
        (
            f"SELECT FROM {B} WHERE tenant_id = $1 AND tenant_id NOT IN"
            " (SELECT tenant_id FROM packages)"
        ),
        (
            f"SELECT FROM {B} WHERE tenant_id = $1 AND tenant_id NOT IN"
            " (SELECT owner_tenant FROM bookings)"
        ),
    ),
    "a filter reaches through a subquery, but not through LIMIT": (
        f"SELECT FROM (SELECT * FROM {B}) x WHERE tenant_id = $1",
        f"SELECT FROM (SELECT * FROM {B} LIMIT 9) x WHERE tenant_id = $1",
    ),
    "a filter reaches through a group key, but not an aggregate": (
        f"SELECT FROM (SELECT tenant_id t, count(*) FROM {B} GROUP BY 1) x WHERE t = $1",
        f"SELECT FROM (SELECT max(tenant_id::text) t FROM {B}) x WHERE t = $1",
    ),
    "a filter reaches through PARTITION BY": (
        (
            f"SELECT n FROM (SELECT tenant_id t, count(*) OVER (PARTITION BY tenant_id) n FROM {B})"
            " x WHERE t = $1"
        ),
        f"SELECT n FROM (SELECT tenant_id t, count(*) OVER () n FROM {B}) x WHERE t = $1",
    ),
    "a window that nobody reads is none": (
        f"SELECT t FROM (SELECT tenant_id t, count(*) OVER () n FROM {B}) x WHERE t = $1",
        f"SELECT t FROM (SELECT tenant_id t, count(*) OVER () n FROM {B}) x WHERE t = $1 AND n > 1",
    ),
    "a row reads its windows": (
        f"SELECT y.t FROM (SELECT tenant_id t, count(*) OVER () n FROM {B}) y WHERE y.t = $1",
        f"SELECT y FROM (SELECT tenant_id t, count(*) OVER () n FROM {B}) y WHERE y.t = $1",
    ),
    "a star and a join's name read them": (
        f"SELECT j.t FROM (SELECT tenant_id t, count(*) OVER () n FROM {B}) j WHERE j.t = $1",
        (
            f"SELECT j.* FROM ((SELECT tenant_id t, count(*) OVER () n FROM {B}) y CROSS JOIN"
            " (SELECT 1) z) j WHERE j.t = $1"
        ),
    ),
    "DISTINCT reads them": (
        f"SELECT t FROM (SELECT tenant_id t, ntile(2) OVER () n FROM {B}) x WHERE t = $1",
        f"SELECT t FROM (SELECT DISTINCT tenant_id t, ntile(2) OVER () n FROM {B}) x WHERE t = $1",
    ),
    "a filter holds in every arm": (
        f"SELECT FROM (SELECT tenant_id t FROM {B} UNION SELECT tenant_id FROM {P}) x WHERE t = $1",
        f"SELECT FROM (SELECT tenant_id t FROM {B} UNION SELECT uuid(code) FROM {P}) y WHERE t=$1",
    ),
    "the tenant by its slug": (
        f"SELECT FROM tenants t JOIN {B} ON b.tenant_id = t.id WHERE t.slug = $1",
        f"SELECT FROM tenants t JOIN {B} ON b.tenant_id = t.id WHERE t.name = $1",
    ),
    "an owned row by its owner": (
        f"SELECT FROM add_ons a JOIN {B} ON b.id = a.booking_id WHERE b.tenant_id = $1",
        f"SELECT FROM add_ons a JOIN {B} ON b.id = a.position WHERE b.tenant_id = $1",
    ),
    "one row, read twice": (
        f"SELECT FROM {B} JOIN bookings c ON c.id = b.id WHERE b.tenant_id = $1",
        f"SELECT FROM {B} JOIN bookings c ON c.package_id = b.id WHERE b.tenant_id = $1",
    ),
    "a column that recursion carries along": (
        (
            f"WITH RECURSIVE r AS (SELECT id, tenant_id t FROM {B} WHERE tenant_id = $1 UNION"
            " SELECT c.id, r.t FROM bookings c JOIN r ON c.tenant_id = r.t) SELECT FROM r"
        ),
        (
            f"WITH RECURSIVE r AS (SELECT id, tenant_id t FROM {B} WHERE tenant_id = $1 UNION"
            " SELECT c.id, c.owner_tenant FROM bookings c JOIN r ON c.tenant_id = r.t) TABLE r"
        ),
    ),
    "MERGE is scoped by its ON": (
        (
            "MERGE INTO packages p USING (SELECT $1::uuid t) s ON p.tenant_id = s.t"
            " WHEN NOT MATCHED THEN INSERT (tenant_id, code) VALUES ($1, 'x')"
        ),
        (
            "MERGE INTO packages p USING (SELECT $1::uuid t) s ON p.code = 'x'"
            " WHEN NOT MATCHED THEN INSERT (tenant_id, code) VALUES ($1, 'x')"
        ),
    ),
}


def test_what_is_compared_is_bounded_and_what_is_left_out_proves_less(
    judge_of: Callable[[str], Judge], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [sql for pair in PAIRS.values() for sql in pair]

    def levels() -> list[int]:
        judge = judge_of("booking")
        found = []
        for sql in texts:
            statement = judge.statement(sql.encode())
            judge.judge(statement)
            found.append(statement.verdict)
        assert judge.counters.internal_errors == 0
        return found

    whole = levels()
    monkeypatch.setattr(inference, "MOST_STEPS", 0)
    less = levels()
    assert less != whole
    assert all(one >= other for one, other in zip(less, whole, strict=True))


@pytest.mark.parametrize("name", PAIRS)
def test_scope_follows_for_one_and_not_for_its_twin(
    name: str, judge_of: Callable[[str], Judge]
) -> None:
    judge = judge_of("booking")
    levels = []
    for sql in PAIRS[name]:
        statement = judge.statement(sql.encode())
        judge.judge(statement)
        levels.append(Verdict(statement.verdict))
    assert levels[0] == Verdict.scoped
    assert levels[1] >= Verdict.unknown
    assert judge.counters.internal_errors == 0
