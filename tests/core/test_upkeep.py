"""The texts that we run ourselves: each means one thing, whatever is put into it."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from pgguard.core import upkeep
from pgguard.wire.frontend import query_text


def read(digits: str) -> Any:
    return json.loads(bytes.fromhex(digits).decode())


NASTY = ["plain", "it's", "back\\slash", "both\\'", '"', "é 漢字", "$1", "; DROP TABLE x --", ""]


OF_THE_CHECK = {"statement_timeout": "0", "transaction_isolation": "read committed"}
"""Settings that it makes itself."""


def answer(connection: psycopg.Connection[Any], check: bytes) -> psycopg.Cursor[Any]:
    """At the last row of a check."""
    cursor = connection.execute(check)
    while cursor.nextset():
        pass
    return cursor


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("standard", ["on", "off"])
def test_a_literal_is_its_text_whatever_the_session_makes_of_backslashes(
    postgres, text: str, standard: str
) -> None:
    options = f"-c standard_conforming_strings={standard} -c escape_string_warning=off"
    with psycopg.connect(postgres.url, options=options) as connection:
        row = connection.execute(b"SELECT " + upkeep.literal(text)).fetchone()
    assert row == (text,)


def test_what_a_text_of_ours_says_is_what_postgres_does(postgres) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(upkeep.name_application("it's"))
        assert connection.execute("SHOW application_name").fetchone() == ("it's",)
        connection.execute("SET lock_timeout = '3s'")
        connection.execute(upkeep.reset("lock_timeout"))
        assert connection.execute("SHOW lock_timeout").fetchone() == ("0",)
        connection.execute(upkeep.mark("app.tenant"))
        assert connection.execute("SHOW app.tenant").fetchone() == ("",)
        connection.execute(upkeep.reset("app.tenant"))
        connection.execute('PREPARE "a""b" AS SELECT 1')
        connection.execute(upkeep.deallocate(b'a"b'))


def test_the_schema_for_temporary_objects_is_made_without_ddl(database: Any) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql"
            " AS $$ BEGIN RAISE 'DDL'; END $$;"
            "CREATE EVENT TRIGGER no ON ddl_command_start EXECUTE FUNCTION no();"
        )
        look = "SELECT pg_my_temp_schema() <> 0, current_setting('search_path')"
        before = connection.execute(look).fetchone()
        assert before == (False, '"$user", public')
        connection.execute("SET default_transaction_read_only = on")
        connection.execute(upkeep.SCHEMA)
        assert connection.execute(look).fetchone() == (True, '"$user", public')


def test_where_the_role_may_not_make_temporary_objects_there_is_no_schema(database: Any) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(f"REVOKE TEMPORARY ON DATABASE {database.name} FROM PUBLIC")
        connection.execute("SET SESSION AUTHORIZATION pg_monitor")
        connection.execute(upkeep.SCHEMA)
        assert connection.execute("SELECT pg_my_temp_schema()").fetchone() == (0,)


def test_the_reset_leaves_nothing_but_prepared_statements(postgres) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        for text in (
            "SET lock_timeout = '3s'",
            "LISTEN a",
            "SELECT pg_advisory_lock(1)",
            "CREATE TEMP TABLE a (b int)",
            "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
            "SET ROLE pg_monitor",
            "PREPARE p AS SELECT 1",
        ):
            connection.execute(text)
        connection.execute("SELECT set_config('app.tenant', 'a', false)")
        check = upkeep.check({"app.tenant", "app.other", upkeep.TEMPORARY})
        before = answer(connection, check).fetchone()
        assert before is not None
        assert before[:4] == (1, 1, 1, 1)
        assert before[4] > 0
        assert before[5:8] == ("pg_monitor", "role", None)
        assert read(before[8]) == {"lock_timeout": "3000", **OF_THE_CHECK}
        assert before[9] is True
        assert before[10] == 0
        assert read(before[11]) == {"app.tenant": "a"}
        connection.execute(upkeep.RESET)
        after = answer(connection, check).fetchone()
        assert after is not None
        assert after[:8] == (0, 0, 1, 0, 0, "none", "", None)
        assert read(after[8]) == OF_THE_CHECK
        assert after[9:11] == (True, 0)
        assert read(after[-1]) == {"app.tenant": ""}


def test_the_check_has_a_reason_for_each_of_its_columns(postgres) -> None:
    with psycopg.connect(postgres.url) as connection:
        cursor = answer(connection, upkeep.check([]))
        assert cursor.description is not None
        assert len(cursor.description) == upkeep.CHECKED


def test_several_texts_are_one_query() -> None:
    message = upkeep.query([b"RESET a; ", b"SET b = 1"])
    assert message[:1] == b"Q"
    assert query_text(message[5:]) == b"RESET a; SET b = 1"


@pytest.mark.parametrize(
    "text",
    [
        "SET work_mem = '8MB' -- why",
        "SET work_mem = '8MB'; -- why;",
        "-- why\nSET work_mem = '8MB'",
        "SET work_mem = '8MB' /* why */;;",
        "/* why -- */ SET work_mem /* -- */ = '8MB'",
        "SET work_mem = '8MB' --",
    ],
)
def test_no_comment_takes_the_next_text_away(postgres, text: str) -> None:
    message = upkeep.query([text.encode(), b"SET temp_buffers = '9MB'"])
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(query_text(message[5:]))
        shown = [connection.execute(f"SHOW {n}").fetchone() for n in ("work_mem", "temp_buffers")]
    assert shown == [("8MB",), ("9MB",)]


@pytest.mark.parametrize(
    ("text", "values", "made"),
    [
        (
            b"SELECT set_config('a.b', $1, false)",
            [b"it's"],
            b"SELECT set_config('a.b', 'it''s', false)",
        ),
        (b"SELECT set_config($2, $1, false)", [None, b"x"], b"SELECT set_config('x', NULL, false)"),
        (b"SELECT set_config('$1', $1, false)", [b"$1"], b"SELECT set_config('$1', '$1', false)"),
        (
            b"SELECT set_config('a''$1', $1, false)",
            [b"v"],
            b"SELECT set_config('a''$1', 'v', false)",
        ),
        (b"SELECT set_config('a', $2, false)", [b"x"], None),
        (b"SELECT set_config('a', $$$1$$, false)", [b"x"], None),
        (b"SELECT set_config('a', $1, false) -- it's", [b"x"], None),
        (b"SELECT set_config(E'\\'', $1, false)", [b"x"], None),
        (b"SELECT \"set_config\"('a', $1, false)", [b"x"], None),
    ],
)
def test_bound_values_become_constants(
    text: bytes, values: list[bytes | None], made: bytes | None
) -> None:
    assert upkeep.with_values(text, values) == made


def test_no_session_is_refused_because_servers_of_other_clients_cannot_be_reset(
    start_guard: Any, database: Any
) -> None:
    """Each turn meets two of them, and closes them."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE unresettable LOGIN PASSWORD 'secret'")
        connection.execute("REVOKE EXECUTE ON FUNCTION pg_advisory_unlock_all() FROM PUBLIC")
        guard = start_guard(database.url, limits__total=2)
        login = {"user": "unresettable", "password": "secret"}
        sessions = [guard.connect(name, **login) for name in ("a", "a", "b", "b", "c", "c")]
        for session in [*sessions, *reversed(sessions), *sessions]:
            assert session.execute("SELECT 1").fetchone() == (1,)
        for session in sessions:
            session.close()
        guard.close()
        connection.execute("DROP ROLE unresettable")


@pytest.mark.parametrize(("shown", "value"), [("0", 0), ("7ms", 7), ("2min", 120_000), ("x", None)])
def test_times_are_read_as_they_are_shown(shown: str, value: int | None) -> None:
    assert upkeep.milliseconds(shown) == value


def test_no_statement_timeout_of_the_session_ends_a_check(start_guard: Any, database: Any) -> None:
    guard = start_guard(database.url, limits__total=1)
    with guard.connect("a") as session, guard.connect("b") as other:
        session.execute(
            "CREATE FUNCTION hurry() RETURNS void LANGUAGE plpgsql"
            " AS $$ BEGIN PERFORM set_config('statement_timeout', '1', false); END $$"
        )
        other.execute("SELECT 1")
        for text, shown in (("SELECT hurry()", "1ms"), ("RESET ALL; SELECT version()", "0")):
            session.execute(text)
            for _ in range(3):
                assert other.execute("SHOW statement_timeout").fetchone() == ("0",)
                assert session.execute("SHOW statement_timeout").fetchone() == (shown,)
                session.execute("DO $$ BEGIN END $$")
