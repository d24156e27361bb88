"""Names of prepared statements: which statement each means, and how many are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_fakes import World

from pgguard.core import named
from pgguard.wire import backend, frontend

if TYPE_CHECKING:
    import pytest


def test_names_of_prepared_statements_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "PREPARED_LIMIT", 3)
    world = World()
    client, server = world.link()
    for number in range(10):
        world.receive(client, frontend.parse_message(b"s%d" % number, b"selec") + frontend.sync())
        world.receive(server, backend.ready_for_query(b"I"))
    assert client.prepared is not None
    assert list(client.prepared) == [b"s7", b"s8", b"s9"]
    world.end()


def test_the_empty_name_is_the_unnamed_statement_and_no_other_is_touched() -> None:
    world = World()
    client, _ = world.link()
    world.receive(client, frontend.parse_message(b"one", b"select 1"))
    world.receive(client, frontend.parse_message(b"", b"select 2"))
    assert client.prepared is not None
    assert {name: each.text for name, each in client.prepared.items()} == {b"one": b"select 1"}
    assert client.unnamed is not None
    assert client.unnamed.text == b"select 2"
    world.receive(client, frontend.parse_message(b"one", b"select 3"))
    assert client.prepared[b"one"].text == b"select 3"
    world.end()


def test_a_name_that_may_have_been_forgotten_counts_as_not_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(named, "PREPARED_LIMIT", 2)
    world = World()
    client, _ = world.link()
    assert client.judge is not None
    assert named.unseen(client, b"s0") is None
    for number in range(3):
        named.name(client, b"s%d" % number, client.judge.statement(b"SELECT %d" % number))
    assert named.unseen(client, b"s0") is client.judge.forgotten()
    world.end()


def test_names_are_told_apart_by_as_many_bytes_as_postgres_looks_at() -> None:
    world = World()
    client, _ = world.link()
    name = b"n" * 70
    world.receive(client, frontend.parse_message(name, b"select 1"))
    found = named.unseen(client, name[:63] + b"another end")
    assert found is not None
    assert found.text == b"select 1"
    world.end()
