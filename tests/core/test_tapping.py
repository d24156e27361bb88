"""Which replies are looked at."""

from __future__ import annotations

from core_fakes import World

from pgguard.core.tapping import sample
from pgguard.tenancy.catalogue import Catalogue, Column, Table
from pgguard.wire import backend, frontend

ITEMS = Table("public", "items", columns=[Column("tenant_id", "text", number=1)], oid=900)


def read(world: World) -> None:
    tables = {ITEMS.key: ITEMS}
    world.hub.gate.catalogue_read("shop", Catalogue(database="shop", tables=tables))
    world.hub.gate.give_up_waiting("shop", world.clock())


def test_a_flagged_statement_is_looked_at_until_it_is_answered() -> None:
    world = World()
    session, server = world.link()
    read(world)
    world.receive(session, frontend.query(b"select * from items where tenant_id = 'a'"))
    assert server.tap is None
    world.receive(server, backend.ready_for_query(b"I"))
    world.receive(session, frontend.query(b"select * from items"))
    assert server.tap is not None
    world.receive(server, backend.ready_for_query(b"I"))
    assert server.tap is None
    world.receive(session, frontend.query(b"select * from items") * 2)
    assert server.tap is None


def test_a_server_that_owes_nothing_is_sampled() -> None:
    world = World()
    session, server = world.link()
    read(world)
    world.receive(session, frontend.query(b"select 1"))
    sample(world.hub, world.clock())
    assert server.tap is None
    world.receive(server, backend.ready_for_query(b"I"))
    sample(world.hub, world.clock())
    assert server.tap is not None
