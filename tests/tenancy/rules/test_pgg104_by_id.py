"""Rows chosen by a key alone: what a reader is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SNAPSHOTS = {
    "key": (
        "SELECT * FROM bookings AS b WHERE b.id = $1",
        """\
PGG104 note: rows are chosen by id alone
Name the tenant beside the key.
bookings b (by_id): only id chooses the row
  add AND b.tenant_id = $2""",
    ),
    "owner_key": (
        "UPDATE add_ons SET label = $1 WHERE booking_id = $2",
        """\
PGG104 note: rows are chosen by id alone
Name the tenant beside the key.
add_ons (by_id): only booking_id chooses the rows, by their bookings
  add AND EXISTS (SELECT FROM bookings AS owner WHERE owner.id = add_ons.booking_id AND owner.tenant_id = $3)""",  # noqa: E501
    ),
    "inserted": (
        "INSERT INTO add_ons (booking_id, position) VALUES ($1, 1)",
        """\
PGG104 note: rows are chosen by id alone
Name the tenant beside the key.
add_ons (by_id): only booking_id says whose row it becomes
  make sure that booking_id is the tenant's own""",
    ),
    "conflict": (
        "INSERT INTO packages VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET price = 1",
        """\
PGG104 note: rows are chosen by id alone
Name the tenant beside the key.
packages (by_id): ON CONFLICT updates the row that has its id
  add tenant_id to the conflict target, or WHERE packages.tenant_id = excluded.tenant_id""",
    ),
}


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_finding_reads_as_it_should(name: str, rendered: Callable[..., str]) -> None:
    sql, text = SNAPSHOTS[name]
    assert rendered(sql, "booking") == text
