"""Rows that are scoped through foreign keys: what a reader is told."""

from __future__ import annotations

from pgguard.findings import CODES
from pgguard.tenancy import rules


def test_finding_reads_as_it_should() -> None:
    code = CODES["PGG105"]
    assert (code.cls, code.severity, code.title) == (
        "scoped_fk",
        "note",
        "rows are scoped through foreign keys alone",
    )
    assert rules.remedy("PGG105", [], "") == (
        "Put the tenant into the foreign key, or into the join."
    )
