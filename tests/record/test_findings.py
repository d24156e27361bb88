"""Findings are merged, timed and ordered, and nothing is lost without a trace."""

from __future__ import annotations

from hubs import FakeHub, FakeStatement, FakeTally

from pgguard.diagnose.live import Live
from pgguard.events import SessionRefused
from pgguard.findings import Relation, Verdict
from pgguard.record import findings as module
from pgguard.record.findings import Recorder, statement_code, worst_table
from pgguard.tenancy.policy import Action, Decision


def refused(at: float, client: str = "a", **more: object) -> SessionRefused:
    fields = {"code": "PGG301", "reason": "cap", "message": "no", "holders": ["session 1"]}
    return SessionRefused(at, 1, client, **{**fields, **more})  # type: ignore[arg-type]


def test_a_flagged_statement_becomes_a_finding_with_wall_clock_times():
    hub = FakeHub()
    statement = FakeStatement()
    hub.client("tests/test_a.py").flagged[statement] = FakeTally(3, first=10.0, last=20.0)
    [finding] = Recorder().findings(hub)
    assert finding.to_dict() == {
        "code": "PGG101",
        "class": "unscoped",
        "severity": "error",
        "title": "statement is not scoped to a tenant",
        "client": "tests/test_a.py",
        "clients": {"tests/test_a.py": 3},
        "test": None,
        "statement": {
            "fingerprint": "00aa",
            "text": "select * from bookings where id = ?",
            "position": 15,
        },
        "relations": [
            {
                "name": "bookings",
                "alias": "",
                "level": "unscoped",
                "why": "no tenant_id = …",
                "fix": "add tenant_id = …",
            }
        ],
        "evidence": ["bookings is not tied to a tenant"],
        "count": 3,
        "first_seen": 1_000_010.0,
        "last_seen": 1_000_020.0,
        "remedy": "add tenant_id = … for bookings",
        "confidence": "certain",
    }


def test_two_texts_of_one_fingerprint_are_one_finding():
    hub = FakeHub()
    flagged = hub.client("a").flagged
    flagged[FakeStatement()] = FakeTally(3, first=10.0, last=20.0)
    flagged[FakeStatement(why="another reason")] = FakeTally(4, first=5.0, last=15.0)
    [finding] = Recorder().findings(hub)
    assert finding.count == 7
    assert (finding.first_seen, finding.last_seen) == (1_000_005.0, 1_000_020.0)
    assert finding.evidence == ["another reason", "bookings is not tied to a tenant"]


def test_the_same_statement_of_several_clients_is_one_finding_with_the_first_example():
    hub = FakeHub()
    hub.client("a").flagged[FakeStatement()] = FakeTally(3, first=10.0, last=20.0)
    first = FakeStatement(position=7, why="the first reason")
    hub.client("b").flagged[first] = FakeTally(4, first=5.0, last=6.0)
    hub.client("c").flagged[FakeStatement()] = FakeTally(1, first=30.0, last=30.0)
    [finding] = Recorder().findings(hub)
    assert (finding.client, finding.count) == ("b", 8)
    assert list(finding.by.items()) == [("b", 4), ("a", 3), ("c", 1)]
    assert (finding.position, finding.evidence[0]) == (7, "the first reason")
    assert (finding.first_seen, finding.last_seen) == (1_000_005.0, 1_000_030.0)


def test_a_statement_that_is_graded_otherwise_for_another_client_is_another_finding():
    hub = FakeHub()
    for name in ("a", "seed"):
        hub.client(name).flagged[FakeStatement()] = FakeTally()

    def decide(_: object, client: str) -> Decision:
        return Decision(Action.observe, "setup" if client == "seed" else "unscoped", "note")

    found = Recorder(decide=decide).findings(hub)
    assert [(finding.client, finding.cls) for finding in found] == [
        ("a", "unscoped"),
        ("seed", "setup"),
    ]


def test_statements_that_are_unknown_pending_or_judged_anew_make_no_finding():
    hub = FakeHub()
    flagged = hub.client("a").flagged
    for verdict, code in (
        (Verdict.unknown, "PGG106"),
        (Verdict.unknown, ""),
        (-1, ""),
        (Verdict.scoped, "PGG101"),
        (Verdict.no_tenant_data, ""),
        (Verdict.scoped_fk, ""),
    ):
        flagged[FakeStatement(verdict=int(verdict), code=code)] = FakeTally()
    assert Recorder().findings(hub) == []


def test_a_statement_that_was_not_analysed_is_a_finding():
    statement = FakeStatement(verdict=Verdict.unknown, code="PGG901")
    assert statement_code(statement) == "PGG901"


def test_a_verdict_without_a_code_gets_its_own():
    codes = {
        verdict: statement_code(FakeStatement(verdict=int(verdict), code="")) for verdict in Verdict
    }
    assert codes == {
        Verdict.no_tenant_data: "",
        Verdict.scoped: "",
        Verdict.scoped_fk: "",
        Verdict.by_id: "PGG104",
        Verdict.unknown: "",
        Verdict.unscoped: "PGG101",
        Verdict.cross_tenant: "PGG102",
    }


def test_the_table_of_a_statement_is_its_worst_relation():
    relations = (
        Relation("packages", "p", "scoped", ""),
        Relation("bookings", "b", "unscoped", ""),
        Relation("addons", "a", "a level of the future", ""),
    )
    assert worst_table(relations) == "bookings"
    assert worst_table(()) == ""


def test_refusals_of_one_client_are_merged_over_batches():
    recorder = Recorder(Live())
    recorder.on_batch([refused(5.0)])
    recorder.on_batch([refused(9.0), refused(7.0, client="b")])
    first, second = recorder.findings(FakeHub())
    assert (first.client, first.count) == ("a", 2)
    assert (first.first_seen, first.last_seen) == (1_000_005.0, 1_000_009.0)
    assert (second.client, second.count) == ("b", 1)


def test_evidence_is_bounded_and_holds_no_line_twice():
    recorder = Recorder(Live())
    for number in range(20):
        recorder.on_batch([refused(1.0, message=f"message {number // 2}")])
    [finding] = recorder.findings(FakeHub())
    assert finding.count == 20
    assert finding.evidence == [
        "message 0",
        "session 1",
        "message 1",
        "message 2",
        "message 3",
    ]


def test_asking_twice_gives_the_same_and_changes_nothing():
    recorder = Recorder(Live())
    recorder.on_batch([refused(5.0)])
    hub = FakeHub()
    hub.client("a").flagged[FakeStatement()] = FakeTally()
    first = [finding.to_dict() for finding in recorder.findings(hub)]
    assert [finding.to_dict() for finding in recorder.findings(hub)] == first


def test_what_does_not_fit_is_counted_and_becomes_a_finding(monkeypatch):
    monkeypatch.setattr(module, "LIMIT", 2)
    recorder = Recorder(Live())
    recorder.on_batch([refused(1.0, client=f"client {number}") for number in range(5)])
    hub = FakeHub()
    hub.counters.events_dropped = 4
    *kept, dropped = recorder.findings(hub)
    assert [finding.client for finding in kept] == ["client 0", "client 1"]
    assert (dropped.code, dropped.count) == ("PGG902", 7)


def test_findings_come_worst_first_then_most_often():
    hub = FakeHub()
    flagged = hub.client("a").flagged
    flagged[FakeStatement("1", verdict=Verdict.by_id, code="PGG104")] = FakeTally(99)
    flagged[FakeStatement("2")] = FakeTally(1)
    flagged[FakeStatement("3")] = FakeTally(5)
    flagged[FakeStatement("4", verdict=Verdict.cross_tenant, code="PGG102")] = FakeTally(7)
    order = [finding.fingerprint for finding in Recorder().findings(hub)]
    assert order == ["3", "2", "4", "1"]


def test_the_policy_grades_findings_and_takes_out_what_is_allowed():
    def decide(statement, client):
        allowed = "by operators" if client == "b" else ""
        return Decision(Action.block, "setup", "note", allowed)

    hub = FakeHub()
    for name in ("a", "b"):
        hub.client(name).flagged[FakeStatement()] = FakeTally()
    [finding] = Recorder(None, decide).findings(hub)
    assert (finding.client, finding.cls, finding.action) == ("a", "setup", "block")
    assert finding.to_dict()["class"] == "setup"
    assert finding.to_dict()["severity"] == "note"
