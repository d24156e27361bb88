"""Constants, and columns seen through casts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pgguard.sql.facts.constants import array_of, constant
from pgguard.sql.parse import parse
from pgguard.sql.statement import NULL, Name


def expression(sql: str) -> dict[str, Any]:
    tree = parse(f"SELECT {sql}")
    assert isinstance(tree, list)
    value: dict[str, Any] = tree[0]["stmt"]["SelectStmt"]["targetList"][0]["ResTarget"]["val"]
    return value


@pytest.mark.parametrize(
    ("sql", "kind", "value"),
    [
        ("$2", "parameter", "2"),
        ("$2::uuid", "parameter", "2"),
        ("$2::text::varchar", "parameter", "2"),
        ("'a'", "literal", "a"),
        ("''", "literal", ""),
        ("0", "literal", "0"),
        ("15", "literal", "15"),
        ("1.5", "literal", "1.5"),
        ("true", "literal", "t"),
        ("false", "literal", "f"),
        ("'a'::uuid", "literal", "a"),
        ("NULL", "null", ""),
        ("NULL::date", "null", ""),
        ("current_setting('App.Tenant')", "setting", "app.tenant"),
        ("current_setting('a.b', true)::uuid", "setting", "a.b"),
        ("pg_catalog.current_setting('a.b')", "setting", "a.b"),
    ],
)
def test_constants_by_kind(sql: str, kind: str, value: str) -> None:
    found = constant(expression(sql))
    assert found is not None
    assert (found.kind, found.value) == (kind, value)


@pytest.mark.parametrize(
    "sql",
    [
        "lower($1)",
        "$1 || 'a'",
        "current_user",
        "ARRAY[$1]",
        "'a'::varchar(2)",
        "CASE WHEN $1 THEN 2 END",
    ],
)
def test_expressions_without_columns_are_constants(sql: str) -> None:
    found = constant(expression(sql))
    assert found is not None
    assert found.kind == "expression"


@pytest.mark.parametrize(
    "sql",
    ["a", "t.a", "lower(a)", "(SELECT 1)", "count(*)", "row_number() OVER ()", "$1 + a", "t.*"],
)
def test_what_depends_on_rows_is_no_constant(sql: str) -> None:
    assert constant(expression(sql)) is None


def test_an_expression_names_the_functions_whose_volatility_decides() -> None:
    found = constant(expression("lower(s.f($1)) || lower('x')"))
    assert found is not None
    assert set(found.functions) == {Name("", "lower"), Name("s", "f")}


def test_equal_expressions_are_equal_wherever_they_stand() -> None:
    one, other = constant(expression("lower($1)")), constant(expression("  lower( $1 )"))
    third = constant(expression("lower($2)"))
    assert one is not None
    assert other is not None
    assert third is not None
    assert one.same(other)
    assert not one.same(third)


def test_literals_in_different_places_are_kept_apart() -> None:
    row = expression("ROW('a', 'a', current_setting('b'), current_setting('b'), $1, $1)")
    found = [constant(item) for item in row["RowExpr"]["args"]]
    assert len(set(found)) == 5


def test_a_long_literal_is_kept_as_a_digest() -> None:
    found = constant(expression("'" + "a" * 100_000 + "'"))
    assert found is not None
    assert len(found.value) < 100


@pytest.mark.parametrize(
    ("literal", "elements"),
    [
        ("{}", []),
        ("{a,b,a}", ["a", "b"]),
        ("{ a , b }", ["a", "b"]),
        ('{"a,b","c\\"d","NULL",null}', ["a,b", 'c"d', "NULL"]),
        ("{{a,b},{c,d}}", ["a", "b", "c", "d"]),
        ("[0:1]={a,b=c}", ["a", "b=c"]),
        ('{"a\nb","a\\\nb"}', ["a\nb"]),
        ('{"a,b', ["a,b"]),
    ],
)
def test_elements_of_an_array_literal(literal: str, elements: list[str]) -> None:
    found = array_of(expression("'" + literal + "'"))
    assert found is not None
    assert json.loads(found.value) == elements


def test_other_arrays_keep_their_elements_to_themselves() -> None:
    parameter = array_of(expression("$1"))
    assert parameter is not None
    assert (parameter.kind, parameter.value) == ("array", "1")
    assert array_of(expression("NULL")) == NULL
    assert array_of(expression("a")) is None
