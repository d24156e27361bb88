"""Values of INSERT and SET."""

from __future__ import annotations

import pytest

from pgguard.sql.facts.reading import read
from pgguard.sql.statement import Constant, Part, Term


def part(sql: str) -> Part:
    return read(sql.encode()).parts[0]


def words(one: Constant | Term) -> str:
    if isinstance(one, Term):
        return f"{one.source}.{one.column}".removeprefix(".")
    return one.value if one.kind in {"literal", "parameter"} else one.kind


@pytest.mark.parametrize(
    ("sql", "columns", "values"),
    [
        ("INSERT INTO t (a, b) VALUES ($1, 'x')", ("a", "b"), ["1", "x"]),
        ("INSERT INTO t VALUES (1, DEFAULT), (2, NULL)", None, ["1 2", "default null"]),
        ("INSERT INTO t DEFAULT VALUES", None, []),
        ("INSERT INTO t (a) SELECT $1", ("a",), ["1"]),
        (
            "INSERT INTO t (a, b) SELECT $1, g FROM generate_series(1, 2) g",
            ("a", "b"),
            ["1", "opaque"],
        ),
        ("INSERT INTO t (a) VALUES (now() - '1 d'::interval)", ("a",), ["expression"]),
    ],
)
def test_inserted_values_by_position(
    sql: str, columns: tuple[str, ...] | None, values: list[str]
) -> None:
    found = part(sql)
    assert found.columns == columns
    assert [" ".join(sorted(map(words, one))) for one in found.values] == values


def test_rows_that_come_from_a_star_are_not_read() -> None:
    assert part("INSERT INTO t SELECT * FROM f()").obstacle
    assert part("INSERT INTO t SELECT (f()).*").obstacle


@pytest.mark.parametrize(
    ("sql", "assigned"),
    [
        ("UPDATE t SET a = $1, b = b + 1", {"a": "1", "b": "opaque"}),
        ("UPDATE t SET a = DEFAULT, b = c", {"a": "default", "b": "c"}),
        ("UPDATE t SET (a, b) = ($1, 'x')", {"a": "1", "b": "x"}),
        ("UPDATE t SET (a, b) = ROW($1, c)", {"a": "1", "b": "c"}),
        ("UPDATE t SET a[1] = $1", {"a": "opaque"}),
        ("UPDATE t SET a.x = $1", {"a": "opaque"}),
        ("UPDATE t SET a = b::uuid", {"a": "opaque"}),
        (
            "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = excluded.a",
            {"a": "excluded.a"},
        ),
    ],
)
def test_assigned_values_by_column(sql: str, assigned: dict[str, str]) -> None:
    assert {name: words(one) for name, one in part(sql).assigned.items()} == assigned


def test_a_conflict_says_what_it_is_about() -> None:
    found = part(
        "INSERT INTO t AS x VALUES (1) ON CONFLICT (a, lower(b)) WHERE c > 1 "
        "DO UPDATE SET d = 1 WHERE x.a = excluded.a AND x.e = $1"
    ).conflict
    assert found is not None
    assert found.columns == ("a",)
    assert found.known.equal == (frozenset({Term("a"), Term("a", "excluded")}),)
    assert words(next(iter(found.known.constants[Term("e")]))) == "1"
    named = part("INSERT INTO t VALUES (1) ON CONFLICT ON CONSTRAINT k DO UPDATE SET d = 1")
    assert named.conflict is not None
    assert named.conflict.constraint == "k"
    assert part("INSERT INTO t VALUES (1) ON CONFLICT (a) DO NOTHING").conflict is None
