"""SARIF is what its schema says, and its places are those of the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pgguard.findings import CODES, Verdict
from pgguard.report import sarif
from pgguard.tenancy.checking import Checked, Item, Source

SCHEMA = Path(__file__).parents[1] / "fixtures" / "sarif-schema-2.1.0.json"
SQL = "SELECT *\nFROM bookings"


def checked(code: str = "PGG101", path: str = "sql/a b.sql", **more: Any) -> Checked:
    item = Item(Source(path, f"-- é\n{SQL}"), SQL, 5, id="one")
    values = {"cls": CODES[code].cls, "severity": CODES[code].severity, "fingerprint": "f1"}
    return Checked(item, Verdict.unscoped, code, "why", position=14, **(values | more))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft4Validator:
    return jsonschema.Draft4Validator(json.loads(SCHEMA.read_text("utf-8")))


def test_a_log_keeps_to_the_schema(validator: jsonschema.Draft4Validator) -> None:
    found = [
        checked(),
        checked("PGG104"),
        checked("PGG106", allowed="a reason"),
        checked("PGG901", fingerprint=""),
    ]
    log = sarif.build(found, None, dict.fromkeys(CODES, "a page"))
    assert list(validator.iter_errors(log)) == []
    assert list(validator.iter_errors(sarif.build([], "1", {}))) == []
    del log["runs"][0]["tool"]
    assert list(validator.iter_errors(log))


def test_a_result_names_rule_place_and_fingerprint() -> None:
    run = sarif.build([checked("PGG104"), checked()], "1.2", {})["runs"][0]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["PGG101", "PGG104"]
    result = run["results"][1]
    assert (result["ruleId"], result["ruleIndex"], result["level"]) == ("PGG101", 0, "error")
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "sql/a%20b.sql"}
    region = {"startLine": 3, "startColumn": 6, "snippet": {"text": "FROM bookings"}}
    assert place["region"] == region
    assert result["partialFingerprints"] == {"statement/v1": "f1"}


def test_what_is_allowed_is_suppressed_with_its_reason() -> None:
    (result,) = sarif.build([checked(allowed="by operators")], "1", {})["runs"][0]["results"]
    assert result["suppressions"] == [{"kind": "inSource", "justification": "by operators"}]


def test_a_scoped_statement_is_no_result() -> None:
    scoped = Checked(checked().item, Verdict.scoped, "", "tenant_id is $1")
    assert sarif.build([scoped], "1", {})["runs"][0]["results"] == []
