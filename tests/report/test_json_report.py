"""The report for programs: its keys are a promise, and the file is whole or not there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hubs import FakeHub, FakeStatement, FakeTally

from pgguard.record.findings import Recorder
from pgguard.report import json_report
from pgguard.report.summary import summarise

if TYPE_CHECKING:
    from pathlib import Path

RUN = {"command": ["pytest", "-n", "10"], "exit_code": 0, "pgguard": "0.1.0"}


@pytest.fixture
def summary():
    hub = FakeHub()
    client = hub.client("caf\udce9", sessions=2, statements=3)
    client.flagged[FakeStatement()] = FakeTally(2)
    client.pin("listen", "LISTEN a", 3)
    return summarise(
        hub,
        Recorder().findings(hub),
        bypassed=None,
        started=100.0,
        ended=160.5,
        reason_nothing="",
    )


def test_the_report_has_the_documented_keys(summary, tmp_path: Path):
    path = tmp_path / "findings.json"
    json_report.write(summary, RUN, path)
    report = json.loads(path.read_text("utf-8"))
    assert list(report) == ["version", "run", "summary", "clients", "pins", "findings"]
    assert report["version"] == 1
    assert report["run"] == RUN
    assert report["summary"] == {
        "outcome": "not_held",
        "started": 100.0,
        "ended": 160.5,
        "sessions": 2,
        "statements": 3,
        "unknown": 0,
        "unknown_statements": 0,
        "dropped": 0,
        "bypassed": None,
        "neighbours": [],
        "one_client": False,
        "reason": "",
        "gaps": ["sessions past pgguard could not be looked for"],
        "errors": 1,
        "advice": ["bookings in caf?: add tenant_id = … (PGG101, SELECT)"],
    }
    assert report["clients"] == [
        {
            "client": "caf?",
            "sessions": 2,
            "peak": 0,
            "cap": 10,
            "waits": 0,
            "waited_max": 0.0,
            "refused": 0,
            "findings": 1,
        }
    ]
    assert report["pins"] == [
        {"client": "caf?", "reason": "listen", "number": 3, "statement": "LISTEN a"}
    ]
    [found] = report["findings"]
    assert (found["code"], found["client"], found["count"]) == ("PGG101", "caf?", 2)


def test_every_key_is_named_in_the_documentation(summary):
    report = json_report.build(summary, RUN)
    for key in [*report, *report["summary"], *report["clients"][0], *report["pins"][0]]:
        assert f'"{key}"' in json_report.__doc__


def test_an_older_report_is_replaced_and_nothing_is_left_beside_it(summary, tmp_path: Path):
    path = tmp_path / "findings.json"
    path.write_text("old")
    json_report.write(summary, RUN, path)
    assert json.loads(path.read_text("utf-8"))["version"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_the_older_report(summary, tmp_path: Path):
    path = tmp_path / "findings.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        json_report.write(summary, {"command": object()}, path)
    assert path.read_text() == "old"
