"""Tables whose role is not settled: what a reader is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SNAPSHOTS = {
    "column": (
        'SELECT * FROM "Transfer" WHERE "fromTenant" = $1',
        """\
PGG110 warning: tenant model is ambiguous
Settle the table in the [tenancy] section of pgguard.toml.
Transfer (unknown): which of fromTenant, toTenant is the tenant is ambiguous
  name the one that counts in tenancy.columns""",
    ),
}


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_finding_reads_as_it_should(name: str, rendered: Callable[..., str]) -> None:
    sql, text = SNAPSHOTS[name]
    assert rendered(sql, "prisma") == text
