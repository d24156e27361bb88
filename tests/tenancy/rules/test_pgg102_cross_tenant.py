"""Statements with two tenants: what a reader is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SNAPSHOTS = {
    "read": (
        "SELECT * FROM letters AS l WHERE l.tenant_id IN ('acme', 'globex')",
        """\
PGG102 error: statement reaches more than one tenant
Name one tenant per statement.
letters l (cross_tenant): tenant_id may be several tenants
  keep one value for l.tenant_id""",
    ),
    "moved": (
        "UPDATE letters SET tenant_id = 'globex' WHERE tenant_id = 'acme'",
        """\
PGG102 error: statement reaches more than one tenant
Name one tenant per statement.
letters (cross_tenant): it moves rows to another tenant: tenant_id changes
  keep one value for tenant_id""",
    ),
}


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_finding_reads_as_it_should(name: str, rendered: Callable[..., str]) -> None:
    sql, text = SNAPSHOTS[name]
    assert rendered(sql, "booking") == text
