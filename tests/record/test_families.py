"""The families are those of the surface, with their labels and their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hubs import FakeHub, FakeServer, State

from pgguard.findings import Verdict
from pgguard.record import families
from pgguard.record.families import client_families, process_families
from pgguard.record.ledger import Sums

if TYPE_CHECKING:
    from pgguard.record.exposition import Family

LABELS = {
    "client_sessions": ("client", "state"),
    "client_server_connections": ("client",),
    "client_server_connections_peak": ("client",),
    "client_connection_limit": ("client",),
    "client_waiting": ("client",),
    "refusals": ("client", "reason"),
    "pinned_sessions": ("client", "reason"),
    "pins": ("reason",),
    "statements": ("client", "verdict"),
    "server_connections": ("state",),
    "server_connections_limit": (),
    "upstream_up": (),
    "loop_lag_seconds": (),
    "statement_cache_hits": (),
    "statement_cache_misses": (),
    "received_bytes": (),
    "sent_bytes": (),
    "transactions": ("outcome",),
    "pinned_transactions": ("reason",),
    "errors": ("sqlstate",),
    "pool_wait_seconds": (),
    "statement_seconds": (),
    "transaction_seconds": (),
    "idle_in_transaction_seconds": (),
    "analysis_seconds": (),
    "added_seconds": ("part",),
}


def every(hub: FakeHub, sums: dict[str, Sums]) -> dict[str, Family]:
    found = [*client_families(sums), *process_families(hub, 10)]
    return {family.name: family for family in found}


def test_names_and_labels_are_those_of_the_surface():
    found = every(FakeHub(), {})
    assert {name: family.labels for name, family in found.items()} == LABELS


def test_pins_are_added_up_over_clients_and_pinned_sessions_are_not():
    one, two = Sums(), Sums()
    one.pinned, two.pinned = {"lock": 1}, {"lock": 2, "listen": 3}
    one.pins, two.pins = {"lock": 10}, {"lock": 5, "hold": 1}
    found = every(FakeHub(), {"a": one, "b": two})
    assert list(found["pinned_sessions"].samples) == [
        (("a", "lock"), 1),
        (("b", "lock"), 2),
        (("b", "listen"), 3),
    ]
    assert list(found["pins"].samples) == [(("lock",), 15), (("hold",), 1)]


def test_the_numbers_of_a_client_come_from_its_sums():
    sums = Sums()
    sums.held, sums.peak, sums.limit, sums.waiting = 1, 2, 3, 4
    sums.states = {"linked": 5, "a state of the future": 6}
    sums.refusals = {"cap": 7}
    sums.statements[Verdict.unscoped] = 8
    found = every(FakeHub(), {"a": sums})
    rows = {name: dict(family.samples) for name, family in found.items()}
    assert rows["client_server_connections"] == {("a",): 1}
    assert rows["client_server_connections_peak"] == {("a",): 2}
    assert rows["client_connection_limit"] == {("a",): 3}
    assert rows["client_waiting"] == {("a",): 4}
    assert rows["client_sessions"] == {
        ("a", "login"): 0,
        ("a", "waiting"): 0,
        ("a", "linked"): 5,
        ("a", "closing"): 0,
        ("a", "a state of the future"): 6,
    }
    assert rows["refusals"] == {("a", "cap"): 7}
    assert rows["statements"]["a", "unscoped"] == 8
    assert len(rows["statements"]) == len(Verdict)


def test_the_numbers_of_the_process_come_from_its_counters():
    hub = FakeHub()
    counters = hub.counters
    counters.received_bytes, counters.sent_bytes = 1, 2
    counters.cache_hits, counters.cache_misses, counters.settled = 3, 4, 6
    counters.transactions = {"commit": 5, "rollback": 6}
    counters.errors = {"23505": 7}
    counters.loop_lag_seconds, counters.upstream_up = 0.5, True
    for number in range(3):
        hub.servers.add(FakeServer(number, hub.client("a"), state=State.IDLE))
    rows = {name: dict(family.samples) for name, family in every(hub, {}).items()}
    assert rows["received_bytes"] == {(): 1}
    assert rows["sent_bytes"] == {(): 2}
    assert rows["statement_cache_hits"] == {(): 10 - 6 + 3}
    assert rows["statement_cache_misses"] == {(): 4}
    assert rows["transactions"] == {("commit",): 5, ("rollback",): 6}
    assert rows["errors"] == {("23505",): 7}
    assert rows["loop_lag_seconds"] == {(): 0.5}
    assert rows["upstream_up"] == {(): 1}
    assert rows["server_connections"] == {
        ("connecting",): 0,
        ("idle",): 3,
        ("linked",): 0,
        ("closing",): 0,
    }
    assert rows["server_connections_limit"] == {(): 24}


def test_each_histogram_is_the_one_of_its_name():
    hub = FakeHub()
    counters = hub.counters
    rows = {name: dict(family.samples) for name, family in every(hub, {}).items()}
    for name in ("pool_wait_seconds", "idle_in_transaction_seconds", "analysis_seconds"):
        assert rows[name][()] is getattr(counters, name)
    assert rows["added_seconds"]["wait",] is counters.added_wait
    assert rows["added_seconds"]["analysis",] is counters.added_analysis
    assert rows["added_seconds"]["loop",] is counters.added_loop


def test_a_statement_of_its_own_counts_as_statement_and_as_committed_transaction():
    hub = FakeHub()
    counters = hub.counters
    counters.autocommit_seconds.observe(0.02)
    counters.statement_seconds.observe(3.0)
    counters.transaction_seconds.observe(7.0)
    counters.transactions = {"commit": 1, "rollback": 0}
    rows = {name: dict(family.samples) for name, family in every(hub, {}).items()}
    assert rows["statement_seconds"][()].sum == pytest.approx(3.02)
    assert rows["statement_seconds"][()].count == 2
    assert rows["transaction_seconds"][()].sum == pytest.approx(7.02)
    assert rows["transactions"] == {("commit",): 2, ("rollback",): 0}


def test_sqlstates_beyond_the_limit_are_added_up(monkeypatch):
    monkeypatch.setattr(families, "SQLSTATES", 2)
    hub = FakeHub()
    hub.counters.errors = {"23505": 1, "42601": 2, "53300": 3, "57014": 4}
    rows = dict(every(hub, {})["errors"].samples)
    assert rows == {("23505",): 1, ("42601",): 2, ("other",): 7}


def test_without_a_limit_there_is_no_value_for_it():
    hub = FakeHub()
    hub.admission.total = None
    assert dict(every(hub, {})["server_connections_limit"].samples) == {}
