"""Floods of long or flagged statements: the gate keeps a bounded part of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_fakes import World

from pgguard.core import gate
from pgguard.findings import Verdict
from pgguard.sql.cache import SHAPED
from pgguard.sql.facts.reading import read
from pgguard.tenancy.model import Catalogue
from pgguard.wire import frontend

if TYPE_CHECKING:
    import pytest

    from pgguard.core.session import Session


def test_of_long_texts_few_wait_for_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BACKLOG", 3 * SHAPED)
    world = World()
    world.hub.gate.catalogue_read("shop", Catalogue())
    client, _ = world.link()
    texts = [b"select %d, '" % number + b"x" * SHAPED + b"'" for number in range(5)]
    for text in texts:
        world.receive(client, frontend.query(text))
    analysing = [request for request in world.net.requests if request[0] == "analyse"]
    assert len(analysing) == 2
    assert world.hub.gate.waiting() == 2
    counted = client.client.counters.statements
    assert counted[Verdict.unknown] == 3
    for _, judge, statement in analysing:
        world.hub.gate.analysed(judge, statement, read(statement.text), 0.0)
    assert counted[Verdict.no_tenant_data] == 2
    world.receive(client, frontend.query(b"select 9, '" + b"x" * SHAPED + b"'"))
    assert world.hub.gate.waiting() == 1
    world.end()


def test_of_a_flagged_statement_no_more_is_kept_than_reports_show() -> None:
    world = World()
    client, _ = world.link()
    text = b"with a as (select 1) select '" + b"x" * 50_000 + b"' from bookings"
    world.receive(client, frontend.query(text))
    world.hub.gate.catalogue_read("shop", Catalogue())
    world.hub.gate.give_up_waiting("shop", 0.0)
    statement = client.last
    assert statement is not None
    world.hub.gate.flag(client.client, statement, 0.0)
    assert len(statement.text) == gate.FLAGGED_TEXT
    assert statement.masked == "with a as (select ?) select '?' from bookings"
    world.end()


def test_flagged_statements_are_bounded_over_all_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "FLAGGED_IN_ALL", 3)
    world = World()
    sessions = [world.link(application_name=f"{number}.py")[0] for number in range(2)]
    for number in range(4):
        session = sessions[number % 2]
        world.receive(session, frontend.query(b"select a%d from b" % number))
        assert session.last is not None
        world.hub.gate.flag(session.client, session.last, 0.0)
    assert sum(len(client.flagged) for client in world.hub.clients.values()) == 3
    assert world.hub.counters.events_dropped == 1
    world.end()


def with_five_waiting(monkeypatch: pytest.MonkeyPatch) -> tuple[World, Session]:
    """Verdicts of five statements that wait although there is a catalogue, judged in twos."""
    monkeypatch.setattr(gate, "STEP", 2)
    world = World()
    client, _ = world.link()
    for number in range(5):
        world.receive(client, frontend.query(b"select 1 as c%d" % number))
    world.hub.gate.catalogue_read("shop", Catalogue())
    return world, client


def test_sessions_are_served_between_the_verdicts_of_many_waiting_statements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, client = with_five_waiting(monkeypatch)
    left = []
    for _ in world.hub.gate.giving_up("shop", 0.0):
        left.append(world.hub.gate.waiting())
        world.receive(client, frontend.query(b"select 1 as c0"))
    assert left == [4, 2]
    assert world.hub.gate.waiting() == 0
    assert client.client.counters.statements[Verdict.no_tenant_data] == 7
    world.end()


def test_what_has_no_verdict_yet_when_the_catalogue_changes_again_waits_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, client = with_five_waiting(monkeypatch)
    steps = world.hub.gate.giving_up("shop", 0.0)
    next(steps)
    world.hub.gate.changed("shop")
    assert list(steps) == []
    assert world.hub.gate.waiting() == 4
    world.hub.gate.catalogue_read("shop", Catalogue(search_path=()))
    world.hub.gate.give_up_waiting("shop", 0.0)
    assert client.client.counters.statements[Verdict.no_tenant_data] == 5
    world.end()
