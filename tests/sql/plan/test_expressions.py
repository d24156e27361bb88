"""Columns seen through casts, and what is left of other expressions."""

from __future__ import annotations

import pytest
from planning import planned

from pgguard.sql.plan.nodes import Column, Fallback, Other, Scalar, Select, Value


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("a", Column(("a",))),
        ("x.a", Column(("x", "a"))),
        ("s.t.a", Column(("s", "t", "a"))),
        ("a::text", Column(("a",))),
        ("a::character varying", Column(("a",))),
        ("a::uuid", Column(("a",), "uuid")),
        ("a::int8::int", Column(("a",), "integer")),
        ("a::uuid::text", Column(("a",), "uuid")),
        ('a COLLATE "C"', Column(("a",))),
        ("a::int::uuid", None),
        ("a::varchar(3)", None),
        ("a::text[]", None),
        ("a::s.text", None),
        ("a::name", None),
        ('a COLLATE "de_DE"', None),
        ("a + 1", None),
        ("(x).a", None),
    ],
)
def test_columns_seen_through_casts(sql: str, expected: Column | None) -> None:
    value = planned(f"SELECT {sql}").targets[0].value
    assert value == expected if expected is not None else isinstance(value, Other)


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("$1", Value),
        ("lower($1)", Value),
        ("COALESCE(a, 1)", Fallback),
        ("(SELECT 1)", Scalar),
        ("ARRAY(SELECT 1)", Scalar),
        ("(SELECT 1)::text", Scalar),
        ("lower(a)", Other),
        ("count(*)", Other),
    ],
)
def test_values_by_kind(sql: str, kind: type) -> None:
    assert isinstance(planned(f"SELECT {sql}").targets[0].value, kind)


@pytest.mark.parametrize(
    ("sql", "strict"),
    [
        ("a + b.c", ["a", "b.c"]),
        ("lower(a)::int", ["a"]),
        ("a || b", []),
        ("COALESCE(a, b) + c", ["c"]),
        ("a OPERATOR(s.+) b", []),
        ("f(a)", []),
    ],
)
def test_the_columns_without_which_there_is_no_value(sql: str, strict: list[str]) -> None:
    where = planned(f"SELECT FROM t WHERE {sql} > 0").where
    assert sorted(".".join(column.names) for column in where.strict) == strict


@pytest.mark.parametrize(
    ("sql", "aggregated", "windowed"),
    [
        ("SELECT count(*) FROM t", True, False),
        ("SELECT 1 + sum(1) FROM t", True, False),
        ("SELECT my(DISTINCT a) FROM t", True, False),
        ("SELECT count(*) OVER () FROM t", False, True),
        ("SELECT lower(a) FROM t", False, False),
        ("SELECT (SELECT count(*) FROM u) FROM t", False, False),
    ],
)
def test_aggregates_and_windows_are_noticed(sql: str, aggregated: bool, windowed: bool) -> None:
    query = planned(sql)
    assert isinstance(query, Select)
    assert (query.aggregated, query.windowed) == (aggregated, windowed)
