"""What single conditions say of a tenant column; on real rows see test_verdict."""

from __future__ import annotations

import pytest

from pgguard.sql.facts.reading import read as facts_of
from pgguard.tenancy.catalogue import Catalogue, Column, Table
from pgguard.tenancy.changes import Builder
from pgguard.tenancy.inference import Solver
from pgguard.tenancy.model import Model, TenancySettings

TABLE = Table("public", "t", columns=[Column(name, "text") for name in "abc"])
MODEL = Model(Catalogue(tables={TABLE.key: TABLE}), TenancySettings(columns=("a",)))


def values(condition: str, *, hopeful: bool = False, nulls: frozenset[int] | None = None) -> str:
    """Constants of column a, as text; `-` if nothing is known, `!` if no row passes."""
    built = Builder(MODEL, hopeful=hopeful, nulls=nulls)
    built.statement(facts_of(f"SELECT FROM t WHERE {condition}".encode()).parts[0].plan)
    Solver(built).solve()
    (one,) = built.occurrences
    if one.env.is_false():
        return "!"
    found = one.env.constants(one.tenant[0])
    return "-" if found is None else " ".join(sorted(c.value or c.kind for c in found))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("a = $1", "1"),
        ("a = 'x' AND b = $1", "x"),
        ("a = b AND b = c AND c = 'x'", "x"),
        ("a IN ('x', 'y', NULL)", "x y"),
        ("a = ANY ($1)", "1"),
        ("a = ANY (NULL)", "!"),
        ("a = ANY (ARRAY['x', NULL])", "x"),
        ("a = ANY (ARRAY[]::text[])", "!"),
        ("a = ALL (ARRAY[]::text[])", "-"),
        ("a <> ANY (ARRAY['x'])", "-"),
        ("NOT (a <> ANY (ARRAY['x', 'y']))", "x"),
        ("(a, b) IN (('x', 1), ('y', 2))", "x y"),
        ("((a, b) = ('x', 1)) IS TRUE", "x"),
        ("NOT ((a, b) <> ('x', 1))", "x"),
        ("a IS NULL", "null"),
        ("NOT (a IS NOT NULL)", "null"),
        ("'x' IS NULL", "!"),
        ("NOT ('x' IS NOT NULL)", "!"),
        ("a = 'x' IS NOT UNKNOWN", "-"),
        ("CASE b WHEN 1 THEN a = 'x' ELSE a = 'y' END", "x y"),
        ("CASE WHEN a = 'x' THEN true END", "x"),
        ("COALESCE(a = 'x', NULL, false)", "x"),
        ("(a = 'x')::bool", "x"),
        ("COALESCE(a, 'z') = 'x'", "null x"),
        ("'x' = COALESCE(a, b)", "-"),
        ("a BETWEEN SYMMETRIC $1 AND $1", "1"),
        ("a BETWEEN 'x' AND 'x'", "x"),
        ("a BETWEEN 'x' AND 'y'", "-"),
        ("(a = 'x') IS NOT DISTINCT FROM true", "x"),
        ("true = (a = 'x')", "x"),
        ("true <> (a <> 'x')", "x"),
        ("(a = 'x') = 'x'", "-"),
        ("true = false", "!"),
        ("1 <> 1", "!"),
        ("NOT 1 = 1", "!"),
        ("a = 'x' OR 1 <> 1", "x"),
        ("a = 'x' OR 1 <> 2", "-"),
        ("a OPERATOR(s.=) 'x'", "-"),
        ("a OPERATOR(pg_catalog.=) 'x'", "x"),
        ("a ~ 'x'", "-"),
        ("a = ('x')", "x"),
        ("(a = 'x' OR a = 'y') AND (a = 'y' OR a = 'z' OR a = 'w')", "x y"),
    ],
)
def test_predicate_says_what_the_column_may_be(condition: str, expected: str) -> None:
    assert values(condition) == expected


@pytest.mark.parametrize(
    ("condition", "none", "first"),
    [
        ("a = 'x' OR $1 IS NULL", "x", "-"),
        ("a = 'x' OR $1 IS NOT NULL", "-", "x"),
        ("a = COALESCE($1, a)", "1", "-"),
        ("a = COALESCE($1, 'z', b)", "1", "z"),
        ("a = COALESCE($1, $2, a)", "1", "2"),
        ("(a = 'x' OR $1 IS NULL) AND (b = $2 OR $2 IS NULL)", "x", "-"),
    ],
)
def test_what_is_null_takes_its_side(condition: str, none: str, first: str) -> None:
    assert values(condition, nulls=frozenset()) == none
    assert values(condition, nulls=frozenset({1})) == first


@pytest.mark.parametrize(
    ("condition", "plain", "hopeful"),
    [
        ("a = 'x' OR $1", "-", "x"),
        ("a = 'x' OR $1 IS NULL", "-", "x"),
        ("($1 IS NOT NULL AND a = 'x') OR $1 IS NULL", "-", "x"),
        ("a = COALESCE($1, a)", "-", "1"),
        ("a = 'x' OR current_setting('a.b') = 'on'", "-", "x"),
        ("$1 = 'y'", "-", "-"),
        ("a = 'x' OR (b = 1 AND $1)", "-", "x"),
    ],
)
def test_what_depends_on_values_is_told_apart(condition: str, plain: str, hopeful: str) -> None:
    assert values(condition) == plain
    assert values(condition, hopeful=True) == hopeful
    assert facts_of(f"SELECT FROM t WHERE {condition}".encode()).parts[0].depends


@pytest.mark.parametrize(
    ("condition", "by_value"),
    [
        ("1 = 1", True),
        ("'x' = 'y' OR a = 'x'", True),
        ("1 <> 0", True),
        ("true = true", False),
        ("a = 'x' AND b = 5", False),
        ("a IN ('x', 'y')", False),
        ("a BETWEEN 'x' AND 'x'", True),
        ("'x' IS NULL", False),
    ],
)
def test_literals_that_decide_are_noticed(condition: str, by_value: bool) -> None:
    assert facts_of(f"SELECT FROM t WHERE {condition}".encode()).by_value is by_value
