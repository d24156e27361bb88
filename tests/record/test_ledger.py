"""Clients are added up under few labels, and no counter ever goes back."""

from __future__ import annotations

from hubs import FakeClient, FakeHub, FakePin, FakeStatement, FakeTally, Reason, State

from pgguard.findings import Finding, Verdict
from pgguard.record import ledger as module
from pgguard.record.ledger import Ledger, Sums
from pgguard.tenancy.policy import Action, Decision


def sweep(ledger: Ledger, hub: FakeHub, kept: list[Finding] | None = None) -> dict[str, Sums]:
    sums: dict[str, Sums] = {}
    for _ in ledger.sweep(hub.clients.values(), kept or [], sums):
        pass
    return sums


def test_gauges_are_those_of_now():
    hub = FakeHub()
    client = hub.client("a")
    client.share.held, client.share.peak, client.share.waiting = 2, 5, 3
    hub.session(client, State.LINKED)
    hub.session(client, State.LINKED)
    hub.session(client, State.WAITING)
    of = sweep(Ledger(), hub)["a"]
    assert of.states == {"linked": 2, "waiting": 1}
    assert (of.held, of.peak, of.waiting, of.limit) == (2, 5, 3, 10)


def test_pins_of_now_are_those_of_the_sessions_and_counted_ones_stay():
    hub, ledger = FakeHub(), Ledger()
    client = hub.client("a")
    hub.session(client).pinned = {Reason.LOCK: FakePin(), Reason.LISTEN: FakePin()}
    hub.session(client).pinned = {Reason.LOCK: FakePin()}
    client.pin("lock", "select pg_advisory_lock(?)", 7)
    of = sweep(ledger, hub)["a"]
    assert (of.pinned, of.pins) == ({"lock": 2, "listen": 1}, {"lock": 7})
    del hub.clients["a"]
    sweep(ledger, hub)
    hub.client("a").pin("lock", "select pg_advisory_lock(?)", 1)
    of = sweep(ledger, hub)["a"]
    assert (of.pinned, of.pins) == ({}, {"lock": 8})


def test_clients_beyond_the_limit_are_added_up_as_other(monkeypatch):
    monkeypatch.setattr(module, "CLIENTS", 2)
    hub = FakeHub()
    for number in range(5):
        hub.client(f"client {number}", statements=10)
        hub.clients[f"client {number}"].share.held = 3
    sums = sweep(Ledger(), hub)
    assert list(sums) == ["client 0", "client 1", "other"]
    assert sums["other"].statements[Verdict.scoped] == 30
    assert (sums["other"].held, sums["other"].limit) == (9, 30)


def test_a_label_once_given_is_kept(monkeypatch):
    monkeypatch.setattr(module, "CLIENTS", 1)
    hub, ledger = FakeHub(), Ledger()
    hub.client("first", statements=1)
    sweep(ledger, hub)
    del hub.clients["first"]
    hub.client("second", statements=1)
    sweep(ledger, hub)
    hub.client("first", statements=1)
    sums = sweep(ledger, hub)
    assert {label: of.statements[Verdict.scoped] for label, of in sums.items()} == {
        "first": 2,
        "other": 1,
    }


def test_a_forgotten_client_keeps_its_counters_but_not_its_gauges():
    hub, ledger = FakeHub(), Ledger()
    client = hub.client("a", statements=5)
    client.counters.refusals["cap"] = 2
    client.share.held = 4
    sweep(ledger, hub)
    client.counters.statements[Verdict.scoped] += 1
    del hub.clients["a"]
    of = sweep(ledger, hub)["a"]
    assert of.statements[Verdict.scoped] == 6
    assert of.refusals == {"cap": 2}
    assert (of.held, of.limit, of.states) == (0, 0, {})


def test_a_client_that_comes_back_goes_on_from_where_it_was():
    hub, ledger = FakeHub(), Ledger()
    hub.client("a", statements=5)
    sweep(ledger, hub)
    hub.clients["a"] = FakeClient("a")
    hub.client("a", statements=2)
    assert sweep(ledger, hub)["a"].statements[Verdict.scoped] == 7
    assert sweep(ledger, hub)["a"].statements[Verdict.scoped] == 7


def test_reasons_are_bounded():
    hub = FakeHub()
    hub.client("a").counters.refusals.update({"cap": 1, "new": 2, "newer": 3})
    assert sweep(Ledger(), hub)["a"].refusals == {"cap": 1, "other": 5}


def test_findings_are_counted_by_code_class_client_table_and_action():
    hub, ledger = FakeHub(), Ledger()
    hub.client("a").flagged[FakeStatement()] = FakeTally(3)
    kept = [Finding("PGG301", "title", "b", "remedy", count=4)]
    sweep(ledger, hub, kept)
    assert ledger.findings == {
        ("PGG101", "unscoped", "a", "bookings", "observe"): 3,
        ("PGG301", "exhaustion", "b", "", "observe"): 4,
    }


def test_a_statement_that_is_judged_anew_does_not_take_its_count_back():
    hub, ledger = FakeHub(), Ledger()
    first, second = FakeStatement("1"), FakeStatement("2")
    hub.client("a").flagged.update({first: FakeTally(3), second: FakeTally(4)})
    for statement in (first, second):
        sweep(ledger, hub)
        assert list(ledger.findings.values()) == [7]
        statement.verdict, statement.code = int(Verdict.scoped), ""
    sweep(ledger, hub)
    assert list(ledger.findings.values()) == [7]


def test_series_of_findings_are_bounded_and_nothing_is_lost(monkeypatch):
    monkeypatch.setattr(module, "FINDINGS", module.SPARE + 10)
    hub, ledger = FakeHub(), Ledger()
    for number in range(50):
        hub.client(f"client {number}").flagged[FakeStatement()] = FakeTally(2)
    for _ in range(2):
        sweep(ledger, hub)
        assert len(ledger.findings) == 11
        assert sum(ledger.findings.values()) == 100
        assert ledger.findings["PGG101", "unscoped", "other", "other", "observe"] == 80


def test_tables_of_one_client_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "FINDINGS", 3)
    sums = Sums()
    for number in range(10):
        sums.find(("PGG101", "unscoped", f"table {number}", "observe"), 1)
    assert len(sums.findings) == 4
    assert sums.findings["PGG101", "unscoped", "other", "observe"] == 7


def test_a_finding_of_no_client_takes_no_label(monkeypatch):
    monkeypatch.setattr(module, "CLIENTS", 1)
    hub, ledger = FakeHub(), Ledger()
    sweep(ledger, hub, [Finding("PGG310", "title", "", "remedy")])
    hub.client("a", statements=1)
    assert list(sweep(ledger, hub)) == ["a"]


def test_a_sweep_stops_after_every_client_and_every_flagged_statement():
    hub = FakeHub()
    for number in range(7):
        flagged = hub.client(f"client {number}").flagged
        for other in range(5):
            flagged[FakeStatement(str(other))] = FakeTally()
    assert sum(1 for _ in Ledger().sweep(hub.clients.values(), [], {})) >= 7 + 7 * 5


def test_a_client_that_comes_during_a_sweep_waits_for_the_next():
    hub, ledger = FakeHub(), Ledger()
    hub.client("a").flagged[FakeStatement()] = FakeTally()
    sums: dict[str, Sums] = {}
    sweeping = ledger.sweep(hub.clients.values(), [], sums)
    next(sweeping)
    hub.client("b")
    hub.clients["a"].flagged[FakeStatement("new")] = FakeTally()
    for _ in sweeping:
        pass
    assert list(sums) == ["a"]


def test_the_policy_decides_class_action_and_what_is_no_finding():
    def decide(statement, client):
        allowed = "so" if client == "b" else ""
        return Decision(Action.warn, "setup", "warning", allowed)

    hub = FakeHub()
    for name in ("a", "b"):
        hub.client(name).flagged[FakeStatement()] = FakeTally()
    ledger = Ledger(decide)
    sweep(ledger, hub)
    assert [(key[1], key[2], key[4]) for key in ledger.findings] == [("setup", "a", "warn")]
