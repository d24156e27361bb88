"""Rows have the documented columns in their order, and the numbers of the core."""

from __future__ import annotations

import math

from hubs import (
    FakeHub,
    FakePin,
    FakeProcess,
    FakeServer,
    FakeStatement,
    FakeTally,
    Reason,
    State,
)

from pgguard.admin import views
from pgguard.findings import Finding, Verdict


def test_a_client_has_its_row():
    hub = FakeHub()
    client = hub.client("tests/test_a.py", sessions=20, statements=7)
    client.counters.statements[Verdict.unknown] = 2
    client.counters.waits, client.counters.waited, client.counters.waited_max = 3, 4.00004, 2.5
    client.counters.refusals = {"cap": 1, "total": 2}
    client.share.held, client.share.peak, client.share.waiting = 4, 5, 6
    client.flagged[FakeStatement()] = FakeTally()
    hub.session(client)
    [row] = views.clients(hub, 100.0)
    assert row == {
        "client": "tests/test_a.py",
        "rule": "application_name",
        "sessions": 1,
        "sessions_total": 20,
        "waiting": 6,
        "server_connections": 4,
        "peak": 5,
        "connection_limit": 10,
        "pool_timeout": 20.0,
        "statements": 9,
        "unknown": 2,
        "waits": 3,
        "waited": 4.0,
        "waited_max": 2.5,
        "refused": 3,
        "flagged": 1,
    }


def test_an_endless_timeout_is_null():
    hub = FakeHub()
    hub.client("a").limits.pool_timeout = math.inf
    assert views.clients(hub, 0.0)[0]["pool_timeout"] is None


def test_a_server_has_its_row():
    hub = FakeHub()
    client = hub.client("a")
    session = hub.session(client)
    linked = FakeServer(2, client, session, status="T", transaction_since=98.5, due=1)
    hub.servers |= {linked, FakeServer(1, client, state=State.IDLE)}
    first, second = views.servers(hub, 100.0)
    assert (first["server"], first["state"], first["session"]) == (1, "idle", None)
    assert first["transaction_age"] is None
    assert second == {
        "server": 2,
        "pid": 900,
        "user": "app",
        "database": "shop",
        "state": "linked",
        "state_age": 95.0,
        "client": "a",
        "session": 1,
        "status": "T",
        "transaction_age": 1.5,
        "due": 1,
    }


def test_waiters_have_their_place_in_the_queue_of_their_client():
    hub = FakeHub()
    for key, since in (("b", 3.0), ("a", 9.0), ("a", 8.0), ("a", 7.0)):
        session = hub.session(hub.client(key), State.WAITING)
        session.since = since
    hub.session(hub.client("a"), State.LINKED)
    rows = views.waiters(hub, 10.0)
    places = [(row["client"], row["position"], row["waited"]) for row in rows]
    assert places == [("a", 1, 3.0), ("a", 2, 2.0), ("a", 3, 1.0), ("b", 1, 7.0)]


def test_a_waiter_shows_the_process_behind_it():
    hub = FakeHub()
    session = hub.session(hub.client("a"), State.WAITING)
    assert views.waiters(hub, 10.0)[0]["pid"] is None
    session.process = FakeProcess()
    assert views.waiters(hub, 10.0)[0]["pid"] == 4711


def test_a_pin_has_its_row_client_by_client():
    hub = FakeHub()
    later, first = hub.session(hub.client("b")), hub.session(hub.client("a"))
    hub.session(hub.client("a"))
    first.pinned = {Reason.LOCK: FakePin(95.0, "select pg_advisory_lock(?)")}
    first.server = FakeServer(7, first.client, first, pid=901)
    later.pinned = {Reason.LISTEN: FakePin(), Reason.LOCK: FakePin()}
    row, *others = views.pins(hub, 100.0)
    assert row == {
        "session": 2,
        "client": "a",
        "reason": "lock",
        "what": "advisory lock",
        "age": 5.0,
        "statement": "select pg_advisory_lock(?)",
        "user": "app",
        "database": "shop",
        "server": 7,
        "pid": 901,
    }
    assert [(of["client"], of["reason"], of["pid"]) for of in others] == [
        ("b", "listen", None),
        ("b", "lock", None),
    ]


def test_an_age_is_never_negative():
    hub = FakeHub()
    hub.session(hub.client("a"), State.WAITING).since = 11.0
    assert views.waiters(hub, 10.0)[0]["waited"] == 0.0


def test_columns_are_those_that_are_documented():
    hub = FakeHub()
    client = hub.client("a")
    hub.servers.add(FakeServer(1, client))
    hub.session(client, State.WAITING).pinned = {Reason.LOCK: FakePin()}
    rows = {
        "clients": views.clients(hub, 0.0),
        "servers": views.servers(hub, 0.0),
        "waiters": views.waiters(hub, 0.0),
        "pins": views.pins(hub, 0.0),
        "findings": views.findings([Finding("PGG101", "title", "a", "remedy")]),
    }
    assert {view: list(found[0]) for view, found in rows.items()} == {
        view: list(columns) for view, columns in views.COLUMNS.items()
    }
    assert all(text for columns in views.COLUMNS.values() for text in columns.values())
