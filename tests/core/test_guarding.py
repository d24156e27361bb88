"""Blocked statements without sockets: what Postgres gets instead, and the client back."""

from __future__ import annotations

import re

import pytest
from core_fakes import World

from pgguard.core.guarding import told, watch_of
from pgguard.tenancy.catalogue import Catalogue, Column, Table
from pgguard.tenancy.policy import Action, PolicySettings
from pgguard.wire import backend, frontend

ITEMS = Table("public", "items", columns=[Column("tenant_id", "text")])
LEAK = b"select * from items"


def world_of() -> World:
    world = World()
    world.hub.gate.policy.reconfigure(PolicySettings(mode=Action.block))
    return world


def read(world: World) -> None:
    tables = {ITEMS.key: ITEMS}
    world.hub.gate.catalogue_read("shop", Catalogue(database="shop", tables=tables))
    world.hub.gate.give_up_waiting("shop", world.clock())


def token_in(data: bytes) -> bytes:
    found = re.search(rb"pgguard_blocked_[0-9]+", data)
    assert found is not None
    return found[0]


def test_nothing_is_sent_before_the_first_catalogue_and_then_what_may() -> None:
    world = world_of()
    session, server = world.link()
    data = frontend.query(b"select 1") + frontend.query(LEAK)
    world.receive(session, data)
    assert world.outs[server].take() == b""
    world.receive(session, frontend.query(b"select 2"))
    read(world)
    sent = world.outs[server].take()
    assert sent.startswith(frontend.query(b"select 1"))
    assert sent.endswith(frontend.query(b"select 2"))
    assert LEAK not in sent
    assert session.client.counters.statements[5] == 1


@pytest.mark.parametrize("cut", range(1, 23))
def test_a_blocked_query_is_exchanged_however_it_is_cut(cut: int) -> None:
    world = world_of()
    session, server = world.link()
    read(world)
    data = frontend.query(LEAK)
    for piece in (data[:cut], data[cut:]):
        world.receive(session, piece)
    sent = world.outs[server].take()
    assert sent == frontend.query(token_in(sent))
    said = f'syntax error at or near "{token_in(sent).decode()}"'
    world.outs[session].take()
    answer = backend.error_response(sqlstate="42601", message=said) + backend.ready_for_query(b"E")
    world.receive(server, answer)
    heard = world.outs[session].take()
    assert b"C42501" in heard
    assert b"PGG101" in heard
    assert b"pgguard_blocked" not in heard
    assert heard.endswith(backend.ready_for_query(b"E"))


def test_a_batch_keeps_its_other_messages() -> None:
    world = world_of()
    session, server = world.link()
    read(world)
    tail = frontend.describe_message(0x50, b"") + frontend.execute_message(b"") + frontend.sync()
    world.receive(
        session,
        frontend.parse_message(b"", b"select 1")
        + frontend.bind_message(b"", b"")
        + frontend.parse_message(b"s", LEAK)
        + frontend.bind_message(b"", b"s")
        + tail,
    )
    sent = world.outs[server].take()
    assert LEAK not in sent
    assert sent.endswith(tail)
    assert frontend.parse_message(b"s", token_in(sent)) in sent
    assert session.client.counters.statements[5] == 1


@pytest.mark.parametrize(
    ("severity", "sqlstate"), [("FATAL", "42601"), ("ERROR", "57014"), ("PANIC", "26000")]
)
def test_no_other_error_is_exchanged(severity: str, sqlstate: str) -> None:
    world = world_of()
    session, _ = world.link()
    token = watch_of(session).token(b"ours")
    body = backend.error_response(severity=severity, sqlstate=sqlstate, message=token.decode())[5:]
    assert told(session, body) == body


def test_in_a_failed_transaction_postgres_has_the_word() -> None:
    world = world_of()
    session, server = world.link()
    read(world)
    world.receive(session, frontend.query(b"begin"))
    world.receive(server, backend.ready_for_query(b"E"))
    world.outs[server].take()
    world.receive(session, frontend.query(LEAK))
    assert world.outs[server].take() == frontend.query(LEAK)
    world.receive(server, backend.ready_for_query(b"E"))
    world.receive(session, frontend.query(b"rollback") + frontend.query(LEAK))
    assert LEAK not in world.outs[server].take()
