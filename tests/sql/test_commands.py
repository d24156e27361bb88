"""What texts do to their session, with their values."""

from __future__ import annotations

import pytest

from pgguard.sql.commands import OTHER, Argument, Command, arguments, bound, commands

SET = {
    "SET app.t = 'a'": ("a", False),
    "SET LOCAL app.t TO 7": ("7", True),
    "SET SESSION app.t = a, b": ("a, b", False),
    "SELECT set_config('App.T', 'a', true)": ("a", True),
    "SELECT pg_catalog.set_config('app.t', 'a'::text, 'off'::bool)": ("a", False),
    "SELECT set_config('app.t', $1, false)": (None, False),
    "SELECT set_config('app.t', NULL, false)": (None, False),
}


@pytest.mark.parametrize("text", SET)
def test_a_setting_gets_its_value(text: str) -> None:
    value, local = SET[text]
    assert commands(text) == [Command("set", "app.t", value, local)]


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("SET ROLE app", Command("set", "role", "app")),
        ("SET SESSION AUTHORIZATION app", Command("set", "session_authorization", "app")),
        ("RESET app.t", Command("reset", "app.t")),
        ("SET app.t TO DEFAULT", Command("reset", "app.t")),
        ("RESET ALL", Command("reset")),
        ("DISCARD ALL", Command("reset")),
        ("DISCARD TEMP", OTHER),
        ("SET TRANSACTION READ ONLY", OTHER),
        ("PREPARE p AS SELECT $1", Command("prepare", "p")),
        ("DEALLOCATE p", Command("deallocate", "p")),
        ("DEALLOCATE ALL", Command("deallocate")),
        ("DECLARE c CURSOR FOR SELECT 1", Command("declare", "c")),
        ("FETCH 3 FROM c", Command("fetch", "c")),
        ("MOVE c", Command("fetch", "c")),
        ("CLOSE c", Command("close", "c")),
        ("EXECUTE p", Command("execute", "p")),
        ("EXECUTE p('a'::uuid, -2, true)", Command("execute", "p", arguments=("a", "-2", "true"))),
        ("EXECUTE p(NULL, 1.5)", Command("execute", "p", arguments=(None, "1.5"))),
        ("EXECUTE p(now())", Command("execute", "p", arguments=None)),
        ("EXPLAIN ANALYZE EXECUTE p(1)", Command("execute", "p", arguments=("1",))),
        ("EXPLAIN SELECT 1", OTHER),
        ("START TRANSACTION", Command("begin")),
        ("END", Command("commit")),
        ("ABORT", Command("rollback")),
        ("SAVEPOINT s", OTHER),
        ("SELECT 1", OTHER),
    ],
)
def test_a_command_is_read(text: str, command: Command) -> None:
    assert commands(text) == [command]


def test_commands_stand_in_the_order_of_the_text() -> None:
    kinds = [command.kind for command in commands("BEGIN; SET x.y = 1; SELECT 1; COMMIT")]
    assert kinds == ["begin", "set", "other", "commit"]


def test_what_cannot_be_parsed_does_nothing() -> None:
    assert commands("SELEC") == []


@pytest.mark.parametrize(
    ("text", "values", "written"),
    [
        ("SELECT $1", ["it's"], "SELECT  'it''s' "),
        ("SELECT $2, $1", ["a", None], "SELECT  NULL ,  'a' "),
        ("SELECT $1", ["a\\b"], "SELECT  'a\\b' "),
        ("SELECT '$1', \"$1\", $$ $1 $$, a$1, $3 -- $1", ["a"], None),
        ("é $1", ["ü"], "é  'ü' "),
    ],
)
def test_parameters_are_written_out(text: str, values: list[str | None], written: str) -> None:
    assert bound(text, values) == (written or text)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("'it''s'", "it's"),
        ("E'\\x41'", "A"),
        ("5", "5"),
        ("-3", "-3"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("'k'::text", "k"),
        ("'7'::int8", "7"),
    ],
)
def test_a_literal_argument_of_execute_is_known(written: str, value: str) -> None:
    assert arguments(f"EXECUTE p({written})", "") == [Argument(True, value)]


@pytest.mark.parametrize("written", ["NULL", "NULL::text", "NULL::json"])
def test_null_is_known(written: str) -> None:
    assert arguments(f"EXECUTE p({written})", "") == [Argument(True)]


@pytest.mark.parametrize(
    "written", ["lower('K')", "'kb'::char(1)", "'kb'::name", "1.5", "1.5::int", "'k' || 'b'", "$1"]
)
def test_what_is_computed_or_cut_off_is_not_known(written: str) -> None:
    assert arguments(f"EXECUTE p('a', {written})", "") == [Argument(True, "a"), Argument(False)]


def test_a_declared_type_may_cut_values_off() -> None:
    prepared = 'PREPARE p (text, varchar(3), "char", "char") AS SELECT 1'
    assert arguments("EXECUTE p('a', 'a', 'a', NULL)", prepared) == [
        Argument(True, "a"),
        Argument(True, "a"),
        Argument(False),
        Argument(True),
    ]


@pytest.mark.parametrize(
    "text", ["SELECT 1", "EXECUTE p", "EXECUTE p('a'); SELECT 1", "EXECUTE p("]
)
def test_what_is_no_execute_gives_nothing(text: str) -> None:
    assert arguments(text, "") == []
