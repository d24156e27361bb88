"""What calls of functions may hide."""

from __future__ import annotations

import pytest

from pgguard.sql.statement import DEFAULT, NULL, OPAQUE, Constant, Name
from pgguard.tenancy.catalogue import Catalogue, Function
from pgguard.tenancy.functions import configured, is_constant, obstacle, operator_obstacle
from pgguard.tenancy.model import Model, TenancySettings

CATALOGUE = Catalogue(
    functions={
        "stable": [Function("public", "s", "sql")],
        "pure": [Function("public", "i", "sql")],
        "wild": [Function("public", "v", "plpgsql")],
        "mixed": [Function("public", "i", "sql"), Function("app", "v", "sql")],
        "lower": [Function("app", "v", "sql")],
        "uuid_generate_v4": [Function("public", "v", "c")],
        "dblink": [Function("public", "v", "c")],
        "silent": [Function("public", "v", "plpgsql", quiet=True)],
    },
    operators={
        "+++": [Function("public", "i", "sql")],
        "%": [Function("public", "s", "c")],
        "###": [Function("public", "i", "sql"), Function("app", "s", "plpgsql")],
    },
    builtins=frozenset({"now", "upper", "lower", "random", "query_to_xml", "current_setting"}),
    volatile_builtins=frozenset({"random", "query_to_xml"}),
)
MODEL = Model(CATALOGUE, TenancySettings(functions=("tenant", "app.other")))


def name(word: str) -> Name:
    schema, _, last = word.rpartition(".")
    return Name(schema, last)


@pytest.mark.parametrize(
    "word", ["now", "random", "pg_catalog.extract", "pure", "public.mixed", "silent"]
)
def test_calls_that_read_no_table(word: str) -> None:
    assert obstacle([name(word)], MODEL, in_from=False) == ""


@pytest.mark.parametrize("word", ["tenant", "any.tenant", "app.other", "uuid_generate_v4"])
def test_functions_that_are_known_by_name(word: str) -> None:
    assert obstacle([name(word)], MODEL, in_from=False) == ""


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("stable", "cannot be seen"),
        ("wild", "cannot be seen"),
        ("mixed", "cannot be seen"),
        ("app.mixed", "cannot be seen"),
        ("lower", "cannot be seen"),
        ("dblink", "cannot be seen"),
        ("query_to_xml", "what its argument says"),
        ("pg_catalog.query_to_xml", "what its argument says"),
        ("missing", "not in the catalogue"),
        ("app.missing", "not in the catalogue"),
    ],
)
def test_calls_that_may_read_anything(word: str, words: str) -> None:
    assert words in obstacle([name("now"), name(word)], MODEL, in_from=False)


def test_in_from_even_an_immutable_function_of_the_user_is_not_trusted() -> None:
    assert obstacle([name("pure")], MODEL, in_from=True)
    assert not obstacle([name("now")], MODEL, in_from=True)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("now", True),
        ("upper", True),
        ("pure", True),
        ("tenant", True),
        ("random", False),
        ("silent", False),
        ("stable", True),
        ("mixed", False),
        ("lower", False),
        ("missing", False),
        ("uuid_generate_v4", False),
    ],
)
def test_a_call_is_a_constant_only_if_it_is_known_not_to_change(word: str, expected: bool) -> None:
    assert is_constant(Constant("expression", "", (name(word),)), MODEL) is expected


def test_constants_without_calls() -> None:
    assert is_constant(NULL, MODEL)
    assert is_constant(Constant("parameter", "1"), MODEL)
    assert not is_constant(DEFAULT, MODEL)
    assert not is_constant(OPAQUE, MODEL)


def test_configured_functions_go_with_or_without_a_schema() -> None:
    assert configured(name("app.tenant"), MODEL)
    assert configured(name("app.other"), MODEL)
    assert not configured(name("other"), MODEL)


def test_an_operator_is_trusted_if_it_is_postgres_s_own_immutable_or_written_in_c() -> None:
    assert operator_obstacle(["=", "+++", "%"], MODEL) == ""
    assert operator_obstacle(["=", "###"], MODEL) == "what operator ### reads cannot be seen"
