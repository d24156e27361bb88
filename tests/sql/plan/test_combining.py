"""AND leaves out what says nothing, OR ends with it, and no subquery is lost."""

from __future__ import annotations

import pytest

from pgguard.sql.plan.combining import NEVER, all_queries, conjunction, disjunction
from pgguard.sql.plan.nodes import (
    NOTHING,
    Absent,
    All,
    Among,
    Column,
    Either,
    Equal,
    Exists,
    Fallback,
    Hope,
    IfNull,
    Member,
    Other,
    Predicate,
    Row,
    Says,
    Scalar,
    Value,
)
from pgguard.sql.statement import Constant

A, B = Column(("a",)), Column(("b",))
X, Y, Z = (Constant("literal", text) for text in "xyz")


def one(column: Column, constant: Constant) -> Equal:
    return Equal(column, Value(frozenset({constant})))


AX, AY, BX = one(A, X), one(A, Y), one(B, X)
ASIDE = Says((), ("q",))


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], NOTHING),
        ([NOTHING, Says()], NOTHING),
        ([AX], AX),
        ([AX, NOTHING], AX),
        ([AX, ASIDE], All((AX, ASIDE))),
        ([AX, All((AY, BX))], All((AX, AY, BX))),
        ([AX, NEVER], All((AX, NEVER))),
    ],
)
def test_and_keeps_all_that_says_something(items: list[Predicate], expected: Predicate) -> None:
    assert conjunction(items) == expected


@pytest.mark.parametrize(
    ("branches", "expected"),
    [
        ([], NEVER),
        ([NEVER, NEVER], NEVER),
        ([NEVER, AX], AX),
        ([AX, NOTHING], NOTHING),
        ([AX, Exists("q"), NOTHING], ASIDE),
        ([AX, ASIDE], Either((AX, ASIDE))),
        ([AX, AY], Among(A, frozenset({X, Y}))),
        ([AX, Equal(Value(frozenset({Y})), A)], Among(A, frozenset({X, Y}))),
        ([AX, Among(A, frozenset({Y, Z}))], Among(A, frozenset({X, Y, Z}))),
        ([AX, BX], Either((AX, BX))),
        ([AX, AY._replace(null_safe=True)], Either((AX, AY._replace(null_safe=True)))),
        ([AX, Equal(A, B)], Either((AX, Equal(A, B)))),
        ([AX, Among(Row((A,)), frozenset({Y}))], Either((AX, Among(Row((A,)), frozenset({Y}))))),
    ],
)
def test_or_says_what_every_branch_allows(branches: list[Predicate], expected: Predicate) -> None:
    assert disjunction(branches) == expected


@pytest.mark.parametrize(
    ("said", "queries"),
    [
        (Exists("q"), "q"),
        (Member(A, "q"), "q"),
        (Absent(A, "q"), "q"),
        (Says((A,), ("q", "r")), "qr"),
        (All((Exists("q"), AX, Either((Exists("r"), ASIDE)))), "qrq"),
        (Equal(A, Scalar("q")), "q"),
        (Equal(Row((Scalar("q"), A)), Fallback((A, Scalar("r")))), "qr"),
        (Equal(Other((), ("q",)), A), "q"),
        (Equal(A, Scalar(None)), ""),
        (Hope(Exists("q")), "q"),
        (IfNull(1, Exists("q"), Exists("r")), "qr"),
        (AX, ""),
        (NEVER, ""),
    ],
)
def test_every_subquery_is_found(said: Predicate, queries: str) -> None:
    assert "".join(all_queries(said)) == queries
