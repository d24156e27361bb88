"""Exceptions of no use: what a reader is told."""

from __future__ import annotations

from pgguard.findings import CODES
from pgguard.tenancy import rules


def test_finding_reads_as_it_should() -> None:
    code = CODES["PGG109"]
    assert (code.cls, code.severity, code.title) == (
        "internal",
        "note",
        "entry of tenancy.allow is of no use",
    )
    assert rules.remedy("PGG109", [], "") == ("Remove the entry, or give it a reason of today.")
