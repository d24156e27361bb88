"""Transactions for several tenants: what a reader is told."""

from __future__ import annotations

from pgguard.findings import CODES
from pgguard.tenancy import rules


def test_finding_reads_as_it_should() -> None:
    code = CODES["PGG103"]
    assert (code.cls, code.severity, code.title) == (
        "cross_tenant",
        "note",
        "transaction works for more than one tenant",
    )
    assert rules.remedy("PGG103", [], "") == (
        "Work for one tenant in a transaction, or name the client in tenancy.setup."
    )
