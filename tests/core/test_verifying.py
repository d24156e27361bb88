"""Suspicions: dropped by a newer catalogue, or asked of Postgres, now and then without pressure."""

from __future__ import annotations

import pytest
from doubting import KNOWN, is_suspect, runs
from shared import Shared

from pgguard.core import verifying
from pgguard.core.pins import MOST_SUSPECTS, Reason
from pgguard.sql.facts.reading import read
from pgguard.sql.sources import Source
from pgguard.tenancy.catalogue import Catalogue, Function, Table

UNKNOWN = "INSERT INTO late VALUES (1)"
CLEAN = 'DataRow "0" "0" "0" "0" "0" "none" "" NULL NULL "f" "0" NULL'
LATER = Catalogue(
    tables=KNOWN.tables | {("public", "late"): Table("public", "late")},
    functions=KNOWN.functions
    | {"seeds": [Function("public", "v", "plpgsql", source=Source(seeds=True))]},
    types=KNOWN.types,
    builtins=KNOWN.builtins,
)


def scene(**settings: int) -> Shared:
    shared = Shared(**settings)
    reads(shared, KNOWN)
    return shared


def reads(shared: Shared, catalogue: Catalogue, moment: int | None = None) -> None:
    gate = shared.hub.gate
    news = gate.judge("shop").news
    gate.catalogue_read("shop", catalogue, moment=news.moment if moment is None else moment)
    verifying.catalogue_read(shared.hub, "shop")


def answers(shared: Shared, server: object) -> None:
    """The check that is under way finds nothing."""
    shared.says(server, CLEAN, 'CommandComplete "SELECT 1"', "ReadyForQuery I")  # type: ignore[arg-type]


def test_a_suspicion_goes_when_the_catalogue_knows_better() -> None:
    shared = scene()
    a = shared.session()
    runs(shared, a, UNKNOWN)
    assert is_suspect(a)
    assert ("read_catalogue", "shop") in shared.world.net.requests
    reads(shared, LATER)
    assert not a.pinned
    shared.world.end()


def test_it_stays_where_the_catalogue_says_that_a_function_is_called() -> None:
    shared = scene()
    a = shared.session()
    runs(shared, a, UNKNOWN)
    guarded = Table("public", "late", write_calls={"i": {("public", "f")}})
    tables = KNOWN.tables | {guarded.key: guarded}
    reads(shared, Catalogue(tables=tables, functions=KNOWN.functions, types=KNOWN.types))
    assert is_suspect(a)
    shared.world.end()


def test_it_stays_if_ddl_was_under_way_since() -> None:
    shared = scene(connection_limit=3)
    a, b = shared.session(), shared.session()
    runs(shared, a, UNKNOWN)
    shared.says(b, 'Query "DROP TRIGGER x ON late"')
    shared.connect()
    shared.done(b.shared, "DROP TRIGGER")
    reads(shared, LATER)
    assert is_suspect(a)
    shared.world.end()


def test_what_no_check_finds_comes_to_light_with_the_catalogue() -> None:
    shared = scene(connection_limit=1)
    a = shared.session()
    server = a.shared
    runs(shared, a, "SELECT seeds()")
    b = shared.session()
    shared.heard(server)
    shared.says(b, 'Query "SELECT 1"')
    assert shared.heard(server) == [], "no check tells of seeds, so none is made yet"
    reads(shared, LATER)
    assert Reason.SEED in a.pinned
    shared.world.wait(0.2)
    assert a.server is server
    shared.world.end()


def test_under_pressure_what_is_known_is_checked_at_once() -> None:
    shared = scene(connection_limit=1)
    a = shared.session()
    server = a.shared
    runs(shared, a, "SELECT f()")
    b = shared.session()
    shared.heard(server)
    shared.says(b, 'Query "SELECT 1"')
    assert len(shared.heard(server)) == 1
    answers(shared, server)
    assert b.shared is server
    shared.world.end()


def test_a_reading_that_had_begun_before_is_not_waited_for() -> None:
    shared = scene(connection_limit=1)
    a = shared.session()
    server = a.shared
    early = shared.hub.gate.judge("shop").news.moment
    runs(shared, a, UNKNOWN)
    b = shared.session()
    shared.heard(server)
    shared.says(b, 'Query "SELECT 1"')
    reads(shared, KNOWN, early)
    shared.world.wait(0.2)
    assert shared.heard(server) == []
    reads(shared, KNOWN)
    shared.world.wait(0.2)
    assert len(shared.heard(server)) == 1
    answers(shared, server)
    assert b.shared is server
    shared.world.end()


def test_nobody_is_suspected_for_ever_though_nobody_waits() -> None:
    shared = scene()
    a = shared.session()
    server = a.shared
    runs(shared, a, "SELECT f()")
    shared.heard(server)
    shared.world.wait(verifying.EVERY + 0.2)
    assert len(shared.heard(server)) == 1
    answers(shared, server)
    assert not a.pinned
    assert a.shared is server
    shared.world.end()


def test_who_has_no_rest_is_looked_at_between_two_transactions_now_and_then() -> None:
    shared = scene()
    a = shared.session()
    server = a.shared
    checks, step = 0, verifying.EVERY / 10
    for _ in range(30):
        shared.says(a, 'Query "SELECT f()"')
        shared.hub.clock.now += step  # type: ignore[attr-defined]
        shared.heard(server)
        shared.done(server)
        if shared.heard(server):
            checks += 1
            answers(shared, server)
    assert checks in (2, 3)
    shared.world.end()


def test_what_is_sure_to_pin_is_not_asked_for_again_and_again() -> None:
    shared = scene()
    a = shared.session()
    server = a.shared
    runs(shared, a, "LISTEN x")
    shared.heard(server)
    shared.world.wait(verifying.EVERY + 0.2)
    assert len(shared.heard(server)) == 1
    row = CLEAN.replace('"0" "0"', '"0" "1"', 1)
    shared.says(server, row, 'CommandComplete "SELECT 1"', "ReadyForQuery I")
    shared.world.wait(3.0)
    assert shared.heard(server) == []
    assert Reason.LISTEN in a.pinned
    shared.world.end()


@pytest.mark.parametrize("text", ["SELECT f()", "DO $$ BEGIN END $$"])
def test_a_catalogue_clears_nobody_of_what_it_cannot_tell(text: str) -> None:
    shared = scene()
    a = shared.session()
    runs(shared, a, text)
    reads(shared, LATER)
    assert is_suspect(a)
    shared.world.end()


def test_of_too_many_suspicions_only_postgres_can_tell() -> None:
    shared = scene()
    a = shared.session()
    for number in range(MOST_SUSPECTS + 1):
        runs(shared, a, f"INSERT INTO late_{number} VALUES (1)")
    tables = {("public", f"late_{n}"): Table("public", f"late_{n}") for n in range(99)}
    reads(shared, Catalogue(tables=tables, types=KNOWN.types))
    assert is_suspect(a)
    shared.world.end()


def test_nor_of_what_it_could_not_read() -> None:
    shared = scene(connection_limit=1)
    a = shared.session()
    server = a.shared
    shared.says(a, 'Query "SET standard_conforming_strings = off"')
    told = 'ParameterStatus "standard_conforming_strings" "off"'
    shared.says(server, 'CommandComplete "SET"', told, "ReadyForQuery I")
    shared.says(a, 'Query "RESET standard_conforming_strings"')
    told = 'ParameterStatus "standard_conforming_strings" "on"'
    shared.says(server, 'CommandComplete "RESET"', told, "ReadyForQuery I")
    reads(shared, LATER)
    assert is_suspect(a)
    b = shared.session()
    shared.says(b, 'Query "SELECT 1"')
    answers(shared, server)
    assert b.shared is server
    assert a.tracked.settings == {}
    shared.world.end()


def test_nor_of_what_was_read_only_after_it_was_sent() -> None:
    shared = scene()
    a = shared.session()
    text = f"SELECT pg_advisory_lock(1), '{'x' * 40_000}'"
    runs(shared, a, text)
    statement = a.last
    assert statement is not None
    assert statement.facts is None
    judge = a.judge
    assert judge is not None
    judge.judge_facts(statement, read(text.encode(), len(text)))
    reads(shared, LATER)
    assert statement.session
    assert a.pinned
    shared.world.end()
