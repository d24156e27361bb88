"""Executions and their verdicts: counted once, under the newest catalogue that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from core_fakes import World

from pgguard.core import gate as gates
from pgguard.core.gate import readable
from pgguard.findings import Verdict
from pgguard.tenancy.catalogue import Catalogue
from pgguard.tenancy.model import TenancySettings
from pgguard.wire import frontend

if TYPE_CHECKING:
    from pgguard.core.session import Session

LONG = b"select 1 -- " + b"x" * 200_000


@pytest.fixture
def world() -> World:
    return World()


def counted(session: Session) -> int:
    return sum(session.client.counters.statements)


def read(world: World, **catalogue: object) -> None:
    world.hub.gate.catalogue_read("shop", Catalogue(database="shop", **catalogue))
    world.hub.gate.give_up_waiting("shop", world.clock())


def test_the_catalogue_is_asked_for_at_the_first_session_of_a_database(world: World) -> None:
    world.link()
    world.link()
    world.link(database="other")
    assert [database for _, database in world.net.asked("read_catalogue")] == ["shop", "other"]


def test_an_execution_waits_for_the_first_catalogue_and_is_counted_once(world: World) -> None:
    session, _ = world.link()
    world.receive(session, frontend.query(b"begin"))
    world.receive(session, frontend.query(b"begin"))
    assert (counted(session), world.hub.gate.waiting()) == (0, 2)
    read(world)
    assert (counted(session), world.hub.gate.waiting()) == (2, 0)
    read(world)
    assert counted(session) == 2


def test_an_execution_after_the_catalogue_is_counted_at_once(world: World) -> None:
    session, _ = world.link()
    read(world)
    world.receive(session, frontend.query(b"begin"))
    world.receive(session, frontend.query(b"begin"))
    assert session.client.counters.statements[Verdict.no_tenant_data] == 2
    assert world.hub.gate.waiting() == 0


def test_a_statement_names_an_unknown_relation_and_the_catalogue_is_read_again(
    world: World,
) -> None:
    session, _ = world.link()
    read(world)
    world.net.requests.clear()
    world.receive(session, frontend.query(b"select * from brand_new"))
    assert world.net.asked("read_catalogue") == [("read_catalogue", "shop")]
    assert (counted(session), world.hub.gate.waiting()) == (0, 1)
    world.hub.gate.give_up_waiting("shop", world.clock())
    assert (counted(session), world.hub.gate.waiting()) == (1, 0)


def test_each_client_is_counted_for_what_it_executed_itself(world: World) -> None:
    (first, _), (second, _) = world.link(), world.link(application_name="b.py")
    for session in (first, first, second):
        world.receive(session, frontend.query(b"begin"))
    read(world)
    assert (counted(first), counted(second)) == (2, 1)


def test_a_long_text_goes_to_the_worker_once_and_waits_for_it(world: World) -> None:
    session, _ = world.link()
    read(world)
    for _ in range(2):
        world.receive(session, frontend.query(LONG))
    ((_, judge, statement),) = world.net.asked("analyse")
    assert (counted(session), world.hub.gate.waiting()) == (0, 2)
    world.hub.gate.analysed(judge, statement, None, world.clock())
    assert session.client.counters.statements[Verdict.unknown] == 2
    assert world.hub.gate.waiting() == 0


def test_flagged_statements_are_kept_with_count_and_times(world: World) -> None:
    session, _ = world.link()
    read(world)
    world.receive(session, frontend.query(b"this is no sql"))
    world.wait(1)
    world.receive(session, frontend.query(b"this is no sql"))
    ((statement, flagged),) = session.client.flagged.items()
    assert statement.text == b"this is no sql"
    assert flagged.count == 2
    assert flagged.last - flagged.first == pytest.approx(1)


def test_what_is_kept_of_flagged_statements_is_bounded_and_the_rest_is_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "FLAGGED_LIMIT", 2)
    session, _ = world.link()
    read(world)
    for text in (b"no sql a", b"no sql b b", b"no sql c c c", b"no sql a"):
        world.receive(session, frontend.query(text))
    assert len(session.client.flagged) == 2
    assert world.hub.counters.events_dropped == 1
    assert counted(session) == 4


def test_what_waits_is_bounded_and_the_rest_counts_as_unknown(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "WAITING_LIMIT", 2)
    session, _ = world.link()
    for text in (b"begin", b"commit", b"rollback", b"begin"):
        world.receive(session, frontend.query(text))
    assert world.hub.gate.waiting() == 3
    assert counted(session) == 1


def test_new_tenancy_settings_replace_every_judge_and_its_verdicts(world: World) -> None:
    session, _ = world.link()
    read(world)
    world.receive(session, frontend.query(b"begin"))
    old = session.judge
    assert not world.hub.gate.reconfigure(world.hub.settings.tenancy)
    assert world.hub.gate.reconfigure(TenancySettings(columns=("org_id",)))
    judge = world.hub.gate.judge("shop")
    assert judge is not old
    assert old is not None
    assert judge.version >= old.version


def test_at_the_end_what_has_no_verdict_counts_as_unknown(world: World) -> None:
    session, _ = world.link()
    world.receive(session, frontend.query(LONG))
    world.hub.gate.close(world.clock())
    assert session.client.counters.statements[Verdict.unknown] == 1
    assert world.hub.gate.waiting() == 0


@pytest.mark.parametrize(
    ("encoding", "strings", "is_readable"),
    [
        ("UTF8", "on", True),
        ("utf-8", "on", True),
        ("UNICODE", "on", True),
        ("SQL_ASCII", "on", True),
        ("SJIS", "on", False),
        ("LATIN1", "on", False),
        ("UTF8", "off", False),
    ],
)
def test_texts_are_readable_in_utf8_with_conforming_strings(
    encoding: str, strings: str, is_readable: bool
) -> None:
    told = {"client_encoding": encoding, "standard_conforming_strings": strings}
    assert readable(told) is is_readable
    assert readable({})


def test_the_same_bytes_in_another_encoding_are_another_statement(world: World) -> None:
    session, server = world.link()
    read(world)
    world.receive(session, frontend.query(b"begin"))
    from notation import BACKEND, encode

    world.receive(server, encode('ParameterStatus "client_encoding" "SJIS"', BACKEND))
    world.receive(session, frontend.query(b"begin"))
    statements = session.client.counters.statements
    assert (statements[Verdict.no_tenant_data], statements[Verdict.unknown]) == (1, 1)
