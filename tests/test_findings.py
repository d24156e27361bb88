"""The table of codes, and the JSON object of a finding."""

from __future__ import annotations

import re

import pytest

from pgguard.findings import CLASSES, CODES, Finding, Relation, Verdict


@pytest.mark.parametrize("code", CODES.values(), ids=lambda code: code.code)
def test_a_code_has_a_known_class_and_severity(code) -> None:
    assert re.fullmatch(r"PGG[1-9]\d\d", code.code)
    assert code.cls in CLASSES
    assert code.severity in ("error", "warning", "note")
    assert code.title[0].islower() or code.title.startswith("Postgres")


def test_verdicts_rise_from_best_to_worst() -> None:
    order = ["no_tenant_data", "scoped", "scoped_fk", "by_id", "unknown", "unscoped"]
    assert [verdict.name for verdict in sorted(Verdict)] == [*order, "cross_tenant"]


def test_a_finding_about_a_statement_has_all_its_parts() -> None:
    finding = Finding(
        code="PGG101",
        title="statement is not scoped to a tenant",
        client="test_a.py",
        remedy="add a filter",
        fingerprint="0123456789abcdef",
        text="SELECT ?",
        position=15,
        relations=[Relation("bookings", "b", "unscoped", "no tenant", "add b.tenant_id = $1")],
        count=3,
        first_seen=1.0,
        last_seen=2.0,
    )
    assert finding.to_dict() == {
        "code": "PGG101",
        "class": "unscoped",
        "severity": "error",
        "title": "statement is not scoped to a tenant",
        "client": "test_a.py",
        "clients": {"test_a.py": 3},
        "test": None,
        "statement": {"fingerprint": "0123456789abcdef", "text": "SELECT ?", "position": 15},
        "relations": [
            {
                "name": "bookings",
                "alias": "b",
                "level": "unscoped",
                "why": "no tenant",
                "fix": "add b.tenant_id = $1",
            }
        ],
        "evidence": [],
        "count": 3,
        "first_seen": 1.0,
        "last_seen": 2.0,
        "remedy": "add a filter",
        "confidence": "certain",
    }


def test_a_finding_about_connections_has_no_statement() -> None:
    finding = Finding(code="PGG301", title="t", client="c", remedy="r", severity="note", test="x")
    shown = finding.to_dict()
    assert shown["statement"] is None
    assert (shown["severity"], shown["test"]) == ("note", "x")
