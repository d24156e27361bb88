"""Rows of two tenants: what a reader is told."""

from __future__ import annotations

from pgguard.findings import CODES
from pgguard.tenancy import rules


def test_finding_reads_as_it_should() -> None:
    code = CODES["PGG107"]
    assert (code.cls, code.severity, code.title) == (
        "cross_tenant",
        "error",
        "rows of more than one tenant came back",
    )
    assert rules.remedy("PGG107", [], "") == ("Ask for the rows of one tenant.")
