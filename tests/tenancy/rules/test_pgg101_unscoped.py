"""Statements without a tenant: what a reader is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SNAPSHOTS = {
    "condition": (
        "SELECT * FROM bookings AS b WHERE b.status = $1",
        """\
PGG101 error: statement is not scoped to a tenant
Tie every tenant table of the statement to one tenant.
bookings b (unscoped): the condition does not fix tenant_id
  add AND b.tenant_id = $2""",
    ),
    "whole_table": (
        "DELETE FROM bookings",
        """\
PGG101 error: statement is not scoped to a tenant
Tie every tenant table of the statement to one tenant.
bookings (unscoped): there is no condition on tenant_id
  add WHERE tenant_id = $1""",
    ),
    "left_out": (
        "INSERT INTO letters (body) VALUES ($1)",
        """\
PGG101 error: statement is not scoped to a tenant
Give every new row its tenant.
letters (unscoped): tenant_id is left out, and its default is not the tenant
  add tenant_id to the columns, and $2 to the values""",
    ),
    "null": (
        "INSERT INTO letters VALUES (1, NULL)",
        """\
PGG101 error: statement is not scoped to a tenant
Give every new row its tenant.
letters (unscoped): tenant_id is NULL: the row belongs to no tenant
  give tenant_id a constant, such as $1""",
    ),
    "conflict": (
        "INSERT INTO bookings VALUES (1, $1) ON CONFLICT (reference) DO UPDATE SET status = $2",
        """\
PGG101 error: statement is not scoped to a tenant
Tie every tenant table of the statement to one tenant.
bookings (unscoped): ON CONFLICT (reference) may update another tenant's row
  add tenant_id to the conflict target, or WHERE bookings.tenant_id = excluded.tenant_id""",
    ),
    "adopted_row": (
        "UPDATE bookings SET tenant_id = $1 WHERE id = $2",
        """\
PGG101 error: statement is not scoped to a tenant
Tie every tenant table of the statement to one tenant.
bookings (unscoped): it sets tenant_id of a row that may be another tenant's
  do not set tenant_id""",
    ),
    "truncate": (
        "TRUNCATE letters",
        """\
PGG101 error: statement is not scoped to a tenant
Delete only the rows of the tenant whose test is running.
letters (unscoped): it empties the table for all tenants
  delete only the tenant's rows: DELETE FROM letters WHERE tenant_id = $1""",
    ),
    "copy": (
        "COPY letters TO STDOUT",
        """\
PGG101 error: statement is not scoped to a tenant
Tie every tenant table of the statement to one tenant.
letters (unscoped): it copies the rows of all tenants
  copy a query with WHERE tenant_id = '...' instead of letters""",
    ),
    "owned": (
        "SELECT * FROM add_ons",
        """\
PGG101 error: statement is not scoped to a tenant
Tie every tenant table of the statement to one tenant.
add_ons (unscoped): nothing says whose rows: neither booking_id nor a key is given
  add WHERE EXISTS (SELECT FROM bookings AS owner WHERE owner.id = add_ons.booking_id AND owner.tenant_id = $1)""",  # noqa: E501
    ),
}


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_finding_reads_as_it_should(name: str, rendered: Callable[..., str]) -> None:
    sql, text = SNAPSHOTS[name]
    assert rendered(sql, "booking") == text
