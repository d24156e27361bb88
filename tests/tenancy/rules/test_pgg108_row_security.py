"""Row security that does not bind: what a reader is told."""

from __future__ import annotations

from pgguard.findings import CODES
from pgguard.tenancy import rules


def test_finding_reads_as_it_should() -> None:
    code = CODES["PGG108"]
    assert (code.cls, code.severity, code.title) == (
        "unknown",
        "warning",
        "row security does not bind",
    )
    assert rules.remedy("PGG108", [], "") == (
        "Let policies bind the role that runs the statements."
    )
