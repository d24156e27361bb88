"""What a condition says where it is TRUE, and its near twin that says nothing of the column."""

from __future__ import annotations

from typing import Any

import pytest
from planning import planned

from pgguard.sql.facts.reading import read
from pgguard.sql.plan.combining import all_queries
from pgguard.sql.plan.nodes import (
    Absent,
    All,
    Among,
    Column,
    Either,
    Equal,
    Exists,
    Hope,
    IfNull,
    Member,
    Never,
    Null,
    Says,
    Value,
)


def shown(item: Any) -> str:
    """A predicate or an expression in short."""
    match item:
        case Column(names):
            return ".".join(names)
        case frozenset():
            return "|".join(sorted(one.value or one.kind for one in item))
        case Value(constants):
            return shown(constants)
        case Equal(left, right, null_safe):
            return f"{shown(left)}{'==' if null_safe else '='}{shown(right)}"
        case Among(left, constants):
            return f"{shown(left)} in {shown(constants)}"
        case All(items):
            return " & ".join(shown(one) for one in items)
        case Either(items):
            return " / ".join(shown(one) for one in items)
        case Says(strict, queries):
            columns = ",".join(sorted(shown(one) for one in strict))
            return f"says({columns})" + "+" * len(queries)
        case Hope(held, conditional):
            return f"hope({'' if conditional else shown(held)})"
        case IfNull(number, absent, present):
            return f"{number} ? {shown(absent)} : {shown(present)}"
        case Member(left, _):
            return f"{shown(left)} member"
        case Absent(left, _):
            return f"{shown(left)} absent"
        case Null(one):
            return f"{shown(one)} null"
        case Never():
            return "never"
        case Exists():
            return "exists"
    return "?"


def where(condition: str) -> Any:
    return planned(f"SELECT FROM t WHERE {condition}").where


@pytest.mark.parametrize(
    ("condition", "said", "twin", "less"),
    [
        ("a = $1", "a=1", "a > $1", "says(a)"),
        ("NOT a <> $1", "a=1", "NOT a = $1", "says(a)"),
        ("NOT NOT a = $1", "a=1", "NOT NOT NOT a = $1", "says(a)"),
        ("NOT (a <> $1 OR b <> $2)", "a=1 & b=2", "NOT (a <> $1 AND b <> $2)", "a=1 / b=2"),
        ("NOT (a <> 'x' AND a <> 'y')", "a in x|y", "NOT (a <> 'x' AND b <> 'y')", "a=x / b=y"),
        ("(a = $1) IS TRUE", "a=1", "(a = $1) IS NOT FALSE", "says()"),
        ("NOT (a = $1) IS NOT TRUE", "a=1", "(a = $1) IS NOT TRUE", "says()"),
        ("(a <> $1) IS FALSE", "a=1", "(a <> $1) IS UNKNOWN", "says()"),
        ("(a = 'x') IS NOT FALSE", "a in null|x", "(a <> 'x') IS NOT FALSE", "says()"),
        ("(a = $1) = true", "a=1", "(a = $1) = false", "says(a)"),
        ("a IS NULL", "a null", "a IS NOT NULL", "says(a)"),
        ("a IS NOT DISTINCT FROM $1", "a==1", "a IS DISTINCT FROM $1", "says()"),
        ("a IN ($1, $2)", "a in 1|2", "a NOT IN ($1, $2)", "says(a)"),
        ("a IN ('x', NULL)", "a in x", "a IN (NULL, NULL)", "never"),
        ("a = ANY (ARRAY[$1, $2])", "a in 1|2", "a <> ANY (ARRAY[$1, $2])", "says(a)"),
        ("a = ANY ($1)", "a in 1", "a <> ALL ($1)", "says()"),
        ("a BETWEEN $1 AND $1", "a=1", "a BETWEEN $1 AND $2", "says(a)"),
        ("a BETWEEN 'x' AND 'x'", "a=x", "a NOT BETWEEN 'x' AND 'x'", "says()"),
        ("(a, b) = ($1, $2)", "a=1 & b=2", "(a, b) > ($1, $2)", "says()"),
        ("a = COALESCE($1, a)", "1 ? a=a : a in 1 & says(a)", "a = COALESCE(b, a)", "a=?"),
        ("a = COALESCE($1, 'x', b)", "1 ? a in x & says(a) : a in 1 & says(a)", "a = b", "a=b"),
        ("$1 IS NULL", "1 ? says() : never", "$1 IS NOT NULL", "1 ? never : says()"),
        ("$1::text IS NULL", "1 ? says() : never", "$1::json IS NULL", "hope()"),
        ("COALESCE(a, $1) = $1", "a in 1|null", "COALESCE(a, b) = $1", "?=1"),
        ("CASE WHEN b = 1 THEN a = $1 END", "b=1 & a=1", "CASE WHEN b = 1 THEN true END", "b=1"),
        ("a = $1 OR false", "a=1", "a = $1 OR true", "says()"),
        ("a = $1 OR $2", "a=1 / hope()", "a = $1 AND $2", "a=1 & hope()"),
        ("EXISTS (SELECT FROM u)", "exists", "NOT EXISTS (SELECT FROM u)", "says()+"),
        ("a IN (SELECT b FROM u)", "a member", "a NOT IN (SELECT b FROM u)", "a absent"),
        ("a <> ALL (SELECT b FROM u)", "a absent", "a <> ANY (SELECT b FROM u)", "says()+"),
        ("NOT a <> ALL (SELECT b FROM u)", "a member", "NOT a <> ANY (SELECT b FROM u)", "says()+"),
        ("a OPERATOR(pg_catalog.=) $1", "a=1", "a OPERATOR(s.=) $1", "says()"),
    ],
)
def test_what_a_condition_says_and_its_twin_does_not(
    condition: str, said: str, twin: str, less: str
) -> None:
    assert (shown(where(condition)), shown(where(twin))) == (said, less)


@pytest.mark.parametrize(
    "condition",
    [
        "NOT (a = 1 OR EXISTS ({}))",
        "a = 1 OR EXISTS ({}) OR b > 2",
        "CASE WHEN EXISTS ({}) THEN true ELSE false END",
        "CASE WHEN a = 1 THEN b IN ({}) ELSE true END",
        "COALESCE(a IN ({}), true)",
        "(a IN ({})) IS NOT FALSE",
        "(a + ({})) IN (1, 2)",
        "(({}), a) = (1, 2)",
        "f(({})) > 1",
        "a = ANY (ARRAY({}))",
        "a NOT BETWEEN 1 AND ({})",
        "a BETWEEN 1 AND ({})",
        "({}) NOT IN (1, 2)",
        "(({}) IS NULL)",
        "NULL = ({})",
    ],
)
def test_no_subquery_is_lost(condition: str) -> None:
    assert all_queries(where(condition.format("SELECT c FROM u")))


@pytest.mark.parametrize(
    ("condition", "by_value", "depends"),
    [
        ("1 = 2", True, False),
        ("a = 2", False, False),
        ("true = true", False, False),
        ("a BETWEEN 1 AND 2", True, False),
        ("a BETWEEN $1 AND 2", False, False),
        ("a = ALL ('{1}')", True, False),
        ("a = ANY ('{1}')", False, False),
        ("$1 = 2 OR a = 1", False, True),
        ("$1 IS NULL OR a = 1", False, True),
        ("b IS NULL OR a = 1", False, False),
    ],
)
def test_what_hangs_on_values_is_noted(condition: str, by_value: bool, depends: bool) -> None:
    found = read(f"SELECT FROM t WHERE {condition}".encode())
    assert (found.by_value, found.parts[0].depends) == (by_value, depends)


def test_the_parameters_that_decide_by_being_null_are_noted() -> None:
    (part,) = read(b"SELECT FROM t WHERE a = COALESCE($3, a) AND ($1 IS NULL OR b = $2)").parts
    assert part.nulls == (1, 3)


def test_a_long_coalesce_is_read_only_so_far() -> None:
    (part,) = read(f"SELECT FROM t WHERE a = COALESCE({'$1, ' * 2000}a)".encode()).parts
    assert not part.obstacle


@pytest.mark.parametrize(("branches", "kind"), [(500, Either), (501, Says)])
def test_very_many_branches_say_something_together_or_not_at_all(branches: int, kind: type) -> None:
    mixed = " OR ".join(f"{'ab'[n % 2]} = {n}" for n in range(branches))
    assert isinstance(where(mixed), kind)
    assert isinstance(where(mixed.replace("b", "a")), Among)
