"""Values of INSERT, SET, ON CONFLICT and MERGE."""

from __future__ import annotations

from typing import Any

import pytest
from planning import planned

from pgguard.sql.facts.reading import read
from pgguard.sql.plan.nodes import Column, Equal, Value


def words(one: Any) -> str:
    if isinstance(one, Column):
        return ".".join(one.names)
    if isinstance(one, Value):
        plain = {"literal", "parameter"}
        return " ".join(sorted(c.value if c.kind in plain else c.kind for c in one.constants))
    return getattr(one, "kind", "") or "opaque"


@pytest.mark.parametrize(
    ("sql", "columns", "values"),
    [
        ("INSERT INTO t (a, b) VALUES ($1, 'x')", ("a", "b"), ["1", "x"]),
        ("INSERT INTO t VALUES (1, DEFAULT), (2, DEFAULT)", None, ["1 2", "default"]),
        ("INSERT INTO t VALUES (1, a), (2, DEFAULT)", None, ["1 2", "opaque"]),
        ("INSERT INTO t (a) VALUES (now() - '1 d'::interval)", ("a",), ["expression"]),
    ],
)
def test_inserted_values_by_position(
    sql: str, columns: tuple[str, ...] | None, values: list[str]
) -> None:
    found = planned(sql)
    assert found.columns == columns
    assert [words(one) for one in found.source.columns] == values


@pytest.mark.parametrize(
    ("sql", "assigned"),
    [
        ("UPDATE t SET a = $1, b = b + 1", {"a": "1", "b": "opaque"}),
        ("UPDATE t SET a = DEFAULT, b = c", {"a": "default", "b": "c"}),
        ("UPDATE t SET (a, b) = ($1, 'x')", {"a": "1", "b": "x"}),
        ("UPDATE t SET (a, b) = ROW($1, c)", {"a": "1", "b": "c"}),
        ("UPDATE t SET (a, b) = (SELECT 1, 2)", {"a": "opaque", "b": "opaque"}),
        ("UPDATE t SET a[1] = $1", {"a": "opaque"}),
        ("UPDATE t SET a.x = $1", {"a": "opaque"}),
    ],
)
def test_assigned_values_by_column(sql: str, assigned: dict[str, str]) -> None:
    assert {name: words(one) for name, one in planned(sql).assigned} == assigned


def test_a_conflict_says_what_it_is_about() -> None:
    found = planned(
        "INSERT INTO t AS x VALUES (1) ON CONFLICT (a, lower(b)) WHERE c > 1 "
        "DO UPDATE SET d = 1 WHERE x.a = excluded.a"
    ).conflict
    assert found.columns == ("a",)
    assert found.where == Equal(Column(("x", "a")), Column(("excluded", "a")))
    named = planned("INSERT INTO t VALUES (1) ON CONFLICT ON CONSTRAINT k DO UPDATE SET d = 1")
    assert named.conflict.constraint == "k"
    assert planned("INSERT INTO t VALUES (1) ON CONFLICT (a) DO NOTHING").conflict is None


def test_the_actions_of_merge() -> None:
    found = planned(
        "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN UPDATE SET b = s.b "
        "WHEN NOT MATCHED THEN INSERT (a) VALUES (s.a) "
        "WHEN NOT MATCHED BY SOURCE THEN DELETE WHEN MATCHED THEN DO NOTHING"
    )
    assert [(one.kind, one.when) for one in found.actions] == [
        ("update", "matched"),
        ("insert", "missing"),
        ("delete", "left_over"),
        ("", "matched"),
    ]


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT " + "COALESCE(" * 300 + "a" + ", 1)" * 300, "nested"),
        ("SELECT * FROM t WHERE " + " AND ".join(f"a{n} = b{n}" for n in range(9000)), "large"),
        ("INSERT INTO t (a[1]) VALUES (1)", "nested"),
    ],
)
def test_what_is_too_deep_or_too_large_has_no_plan(sql: str, why: str) -> None:
    (part,) = read(sql.encode()).parts
    assert part.plan is None
    assert why in part.obstacle or part.kind == "opaque"
