"""What a session says, as a server gets it that may lack what the session has."""

from __future__ import annotations

import pytest
from shared import Shared

from pgguard.core.pins import Reason
from pgguard.tenancy.catalogue import Catalogue


def words(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines]


def prepared(shared: Shared, name: str = "s", text: str = "SELECT $1"):
    """A session with one prepared statement, answered."""
    session = shared.session()
    server = session.shared
    shared.says(session, f'Parse "{name}" "{text}"', "Sync")
    shared.heard(server)
    shared.says(server, "ParseComplete", "ParameterDescription 25", "NoData", "ReadyForQuery I")
    assert shared.heard(session) == ["ParseComplete", "ReadyForQuery I"]
    return session, server


def test_a_name_stands_under_another_and_its_types_are_asked_for() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.says(session, 'Parse "s" "SELECT $1"', "Sync")
    parse, describe, sync = shared.heard(server)
    name = parse.split('"')[1]
    assert name != "s"
    assert name.endswith(".s")
    assert describe == f'Describe S "{name}"'
    assert sync == "Sync"
    shared.world.end()


def test_a_bind_is_renamed_and_nothing_is_made_again_where_it_stands() -> None:
    shared = Shared()
    session, server = prepared(shared)
    shared.says(session, 'Bind "" "s" "x"', 'Execute "" 0', "Sync")
    bind, execute, sync = shared.heard(server)
    assert bind.startswith('Bind "" "pgg')
    assert (execute, sync) == ('Execute "" 0', "Sync")
    shared.world.end()


def test_a_server_that_lacks_the_statement_is_given_it_with_its_types() -> None:
    shared = Shared()
    session, server = prepared(shared)
    server.stand.cleared()
    shared.says(session, 'Bind "" "s" "x"', 'Execute "" 0', "Sync")
    parse, bind, *_ = shared.heard(server)
    assert parse.endswith('"SELECT $1" 25')
    assert bind.split('"')[3] == parse.split('"')[1]
    shared.says(
        server, "ParseComplete", "BindComplete", 'DataRow "x"', 'CommandComplete "SELECT 1"'
    )
    shared.says(server, "ReadyForQuery I")
    assert words(shared.heard(session)) == [
        "BindComplete",
        "DataRow",
        "CommandComplete",
        "ReadyForQuery",
    ]
    shared.world.end()


def test_after_ddl_a_statement_is_compared_before_it_is_bound() -> None:
    shared = Shared()
    session, server = prepared(shared)
    server.stand.cleared()
    shared.hub.sharing.catalogue_changed(session.database)
    shared.says(session, 'Bind "" "s" "x"', 'Execute "" 0', "Sync")
    assert words(shared.heard(server)) == ["Parse", "Describe", "Flush"]
    shared.says(server, "ParseComplete", "ParameterDescription 25", "NoData")
    assert words(shared.heard(server)) == ["Bind", "Execute", "Sync"]
    shared.says(server, "BindComplete", 'CommandComplete "SELECT 1"', "ReadyForQuery I")
    assert words(shared.heard(session)) == ["BindComplete", "CommandComplete", "ReadyForQuery"]
    shared.world.end()


def test_a_statement_that_returns_something_else_fails_in_the_words_of_postgres() -> None:
    shared = Shared()
    session, server = prepared(shared)
    server.stand.cleared()
    shared.hub.sharing.catalogue_changed(session.database)
    shared.says(session, 'Bind "" "s" "x"', 'Execute "" 0', "Sync")
    shared.heard(server)
    shared.world.receive(
        server,
        b"1\0\0\0\4" + b"t\0\0\0\6\0\0" + b"T\0\0\0\x1b\0\1id\0" + bytes(18),
    )
    bind, execute, sync = shared.heard(server)
    assert bind.split('"')[3] not in {"s", ""}
    shared.says(server, 'ErrorResponse ERROR 26000 "no such statement"', "ReadyForQuery I")
    error, ready = shared.heard(session)
    assert "0A000" in error
    assert "cached plan must not change result type" in error
    assert "RevalidateCachedQuery" in error
    assert (execute, sync, ready) == ('Execute "" 0', "Sync", "ReadyForQuery I")
    shared.world.end()


def test_an_unknown_name_goes_as_it_is_so_that_the_error_is_postgres_own() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.says(session, 'Bind "" "none"', 'Describe S "none"', 'Close S "none"', "Sync")
    assert shared.heard(server) == [
        'Bind "" "none"',
        'Describe S "none"',
        'Close S "none"',
        "Sync",
    ]
    shared.world.end()


def test_the_unnamed_statement_is_made_again_on_another_server() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.says(session, 'Parse "" "SELECT 7"', "Sync")
    shared.says(server, "ParseComplete", "ReadyForQuery I")
    shared.heard(server)
    server.stand.unnamed = None
    shared.says(session, 'Bind "" ""', 'Execute "" 0', "Sync")
    assert words(shared.heard(server)) == ["Parse", "Bind", "Execute", "Sync"]
    shared.world.end()


def test_a_name_in_sql_lays_the_statements_bare() -> None:
    shared = Shared()
    session, server = prepared(shared)
    shared.says(session, "Query \"EXECUTE s('x')\"")
    assert shared.heard(server) == [
        'Query "DEALLOCATE ALL"',
        'Parse "s" "SELECT $1" 25',
        "Sync",
        "Query \"EXECUTE s('x')\"",
    ]
    shared.world.end()


def test_a_parse_of_a_name_that_prepare_has_given_lays_the_statements_bare() -> None:
    shared = Shared()
    session, server = prepared(shared)
    shared.says(session, 'Query "PREPARE p AS SELECT 2"')
    shared.done(server, "PREPARE")
    shared.heard(server)
    shared.says(session, 'Parse "other" "SELECT 3"', "Sync")
    assert words(shared.heard(server)) == ["Parse", "Describe", "Sync"]
    shared.says(server, "ParseComplete", "ParameterDescription", "NoData", "ReadyForQuery I")
    shared.says(session, 'Parse "p" "SELECT 3"', "Sync")
    heard = shared.heard(server)
    assert 'Parse "p" "SELECT 3"' in heard
    assert "DEALLOCATE" in heard[0]
    assert heard[0] != 'Query "DEALLOCATE ALL"'
    shared.world.end()


def waits_behind_a_query(shared: Shared, name: str):
    """A batch without its Sync, a Query that takes all names away, and a Parse that waits."""
    session, server = prepared(shared)
    shared.says(session, 'Bind "" "s" "x"', 'Execute "" 0', 'Query "DEALLOCATE ALL"')
    shared.says(session, f'Parse "{name}" "SELECT 2"', "Sync")
    assert words(shared.heard(server)) == ["Bind", "Execute", "Query"]
    return session, server


def test_what_follows_a_query_without_a_sync_that_takes_all_names_away_waits_for_it() -> None:
    shared = Shared()
    _, server = waits_behind_a_query(shared, "s")
    shared.says(server, "BindComplete", 'CommandComplete "SELECT 1"')
    shared.done(server, "DEALLOCATE ALL")
    assert words(shared.heard(server)) == ["Parse", "Describe", "Sync"]
    shared.world.end()


def test_what_waits_for_a_query_that_is_passed_over_goes_on() -> None:
    shared = Shared()
    session, server = waits_behind_a_query(shared, "t")
    shared.says(server, 'ErrorResponse ERROR 22023 "no"')
    assert words(shared.heard(server))[-1] == "Sync"
    shared.says(server, "ReadyForQuery I")
    assert words(shared.heard(session))[-2:] == ["ErrorResponse", "ReadyForQuery"]
    assert session.names.get(b"s") is not None
    shared.world.end()


@pytest.mark.parametrize("text", ["DEALLOCATE s", "EXECUTE s"])
def test_a_name_in_sql_right_behind_its_parse_waits_for_that(text: str) -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.heard(server)
    shared.says(session, 'Parse "s" "SELECT 1"', "Sync", f'Query "{text}"', "Sync")
    assert words(shared.heard(server)) == ["Parse", "Describe", "Sync"]
    shared.says(server, "ParseComplete", "ParameterDescription", "NoData", "ReadyForQuery I")
    assert words(shared.heard(server)) == ["Query", "Parse", "Sync", "Query", "Sync"]
    shared.done(server, "DEALLOCATE ALL")
    shared.says(server, "ParseComplete", "ReadyForQuery I")
    shared.done(server, text)
    assert words(shared.heard(session))[-2:] == ["CommandComplete", "ReadyForQuery"]
    shared.world.end()


def test_a_setting_made_with_a_bound_value_is_made_again_with_it() -> None:
    shared = Shared(connection_limit=1)
    session = shared.session()
    server = session.shared
    shared.hub.gate.catalogue_read(session.database, Catalogue(builtins=frozenset({"set_config"})))
    shared.says(session, 'Parse "" "SELECT set_config(\'lock_timeout\', $1, false)"')
    shared.says(session, 'Bind "" "" "7s"', 'Execute "" 0', "Sync")
    shared.says(server, "ParseComplete", "BindComplete", 'DataRow "7s"')
    shared.says(server, 'CommandComplete "SELECT 1"', "ReadyForQuery I")
    assert not session.pins
    text = b"SELECT set_config('lock_timeout', '7s', false)"
    assert session.tracked.settings == {"lock_timeout": text}
    shared.world.end()


@pytest.mark.parametrize(
    ("local", "settings"),
    [
        ("false", {"app.tenant": b"SELECT set_config('app.tenant', 'a', false)"}),
        ("true", {}),
    ],
)
def test_a_setting_whose_name_is_bound_is_known_by_it(
    local: str, settings: dict[str, bytes]
) -> None:
    shared = Shared(connection_limit=1)
    session = shared.session()
    server = session.shared
    shared.hub.gate.catalogue_read(session.database, Catalogue(builtins=frozenset({"set_config"})))
    shared.says(session, f'Parse "" "SELECT set_config($1, $2, {local})"')
    shared.says(session, 'Bind "" "" "app.tenant" "a"', 'Execute "" 0', "Sync")
    shared.says(server, "ParseComplete", "BindComplete", 'DataRow "a"')
    shared.says(server, 'CommandComplete "SELECT 1"', "ReadyForQuery I")
    assert not session.pins
    assert session.tracked.settings == settings
    assert session.dotted == server.dotted == {"app.tenant"}
    shared.world.end()


def test_execute_behind_a_prepare_that_was_only_flushed_finds_the_name() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.heard(server)
    shared.says(session, 'Parse "s" "SELECT 1"', "Flush")
    shared.says(server, "ParseComplete", "ParameterDescription", "NoData")
    shared.heard(server)
    shared.says(session, 'Parse "" "EXECUTE s"', "Sync")
    assert words(shared.heard(server)) == ["Sync", "Query", "Parse", "Sync", "Parse", "Sync"]
    shared.says(server, "ReadyForQuery I")
    shared.done(server, "DEALLOCATE ALL")
    shared.says(server, "ParseComplete", "ReadyForQuery I", "ParseComplete", "ReadyForQuery I")
    assert words(shared.heard(session))[-2:] == ["ParseComplete", "ReadyForQuery"]
    shared.world.end()


def test_execute_behind_what_a_sync_would_commit_finds_no_name() -> None:
    shared = Shared()
    session, server = prepared(shared)
    shared.says(session, 'Bind "" "s" "x"', 'Execute "" 0', "Flush")
    shared.says(server, "BindComplete", 'CommandComplete "SELECT 1"')
    shared.heard(server)
    shared.says(session, 'Parse "" "EXECUTE s"', "Sync")
    assert words(shared.heard(server)) == ["Parse", "Sync"]
    shared.says(server, "ParseComplete", "ReadyForQuery I")
    shared.world.end()


def test_execute_of_a_name_that_is_not_of_the_protocol_lays_nothing_bare() -> None:
    shared = Shared()
    session, server = prepared(shared)
    shared.heard(server)
    shared.says(session, 'Query "EXECUTE another"')
    assert shared.heard(server) == ['Query "EXECUTE another"']
    assert Reason.NAMES not in session.pinned
    shared.world.end()


def test_what_a_function_did_to_sequences_is_its_sessions_own() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    server.sequences_of = None
    shared.says(session, 'Query "SELECT unknown()"')
    assert server.sequences_of is session
    shared.world.end()


def test_behind_an_error_nothing_is_compared_that_postgres_would_not_answer() -> None:
    shared = Shared()
    session, server = prepared(shared)
    other = server.stand.cleared()
    assert other
    shared.says(session, 'Bind "" "none"', "Flush")
    shared.says(server, 'ErrorResponse ERROR 26000 "no"')
    shared.hub.sharing.catalogue_changed("shop")
    shared.heard(server)
    shared.says(session, 'Bind "" "s" "x"', "Sync")
    assert words(shared.heard(server)) == ["Parse", "Bind", "Sync"]
    shared.heard(session)
    shared.says(server, "ReadyForQuery I")
    assert shared.heard(session) == ["ReadyForQuery I"]
    shared.world.end()
