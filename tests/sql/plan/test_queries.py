"""Query blocks: what stands in FROM, what is a barrier, what has which name."""

from __future__ import annotations

import pickle

import pytest
from planning import planned

from pgguard.sql.facts.reading import read
from pgguard.sql.plan.nodes import Derived, Join, Relation, Rows, Select, SetOperation, Values


@pytest.mark.parametrize(
    ("tail", "limited"),
    [
        ("", False),
        ("LIMIT 1", True),
        ("LIMIT $1", True),
        ("LIMIT ALL", False),
        ("LIMIT NULL", False),
        ("OFFSET 0", False),
        ("OFFSET 1", True),
        ("FETCH FIRST 1 ROW ONLY", True),
    ],
)
def test_limit_and_offset_are_barriers(tail: str, limited: bool) -> None:
    assert planned(f"SELECT a FROM t {tail}").limited is limited


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("t", Relation),
        ("s.t AS x (a, b)", Relation),
        ("t TABLESAMPLE system (1)", Relation),
        ("(SELECT 1) AS x", Derived),
        ("(VALUES (1)) AS x", Derived),
        ("generate_series(1, 2) AS x", Rows),
        ("t JOIN u USING (a)", Join),
        ("t NATURAL FULL JOIN u", Join),
    ],
)
def test_what_stands_in_from(source: str, kind: type) -> None:
    (found,) = planned(f"SELECT FROM {source}").sources
    assert isinstance(found, kind)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("a", "a"),
        ("x.a", "a"),
        ("a AS b", "b"),
        ("count(*)", "count"),
        ("1::int", "int4"),
        ("a::text", "a"),
        ("COALESCE(a, 1)", "coalesce"),
        ("(SELECT c FROM u)", "c"),
        ("(SELECT 1 AS d)", "d"),
        ("1 + 1", ""),
    ],
)
def test_result_columns_have_the_names_that_postgres_gives_them(value: str, name: str) -> None:
    assert planned(f"SELECT {value} FROM x").targets[0].name == name


def test_chains_of_set_operations_are_one() -> None:
    query = planned(" UNION ALL ".join(["SELECT 1"] * 300))
    assert isinstance(query, SetOperation)
    assert len(query.arms) == 300
    mixed = planned("SELECT 1 EXCEPT SELECT 2 EXCEPT SELECT 3")
    assert [type(arm) for arm in mixed.arms] == [SetOperation, Select]


def test_what_all_rows_of_values_have_in_common_is_kept() -> None:
    query = planned("VALUES ($1, 'x', (SELECT 1)), ($1, 'y', 2)")
    assert isinstance(query, Values)
    assert [len(getattr(column, "constants", ())) for column in query.columns] == [1, 2, 0]
    assert len(query.queries) == 1


def test_windows_are_partitioned_by_their_names_too() -> None:
    sql = "SELECT sum(a) OVER w, sum(b) OVER (w ORDER BY b) FROM t WINDOW w AS (PARTITION BY c)"
    assert [[key.names for key in one] for one in planned(sql).partitions] == [[("c",)], [("c",)]]


def test_group_by_a_number_is_the_result_column() -> None:
    query = planned("SELECT a, b FROM t GROUP BY 2, 1 HAVING a = $1 AND count(*) > 1")
    assert [key.names for key in query.groups] == [("b",), ("a",)]


def test_a_recursive_query_names_itself() -> None:
    sql = "WITH RECURSIVE a AS (SELECT 1 UNION SELECT 2 FROM a), b AS (TABLE a) TABLE b"
    assert [one.itself for one in planned(sql).common] == [True, False]


def test_a_plan_can_be_pickled() -> None:
    sql = "WITH a AS (SELECT 1) SELECT *, (SELECT 2) FROM a JOIN b USING (c) WHERE d = $1 OR e"
    assert pickle.loads(pickle.dumps(planned(sql))) == planned(sql)


def test_columns_that_nobody_reads_are_left_out_of_a_plan() -> None:
    def names(sql: str) -> list[str]:
        (part,) = read(sql.encode()).parts
        return [target.name for target in part.plan.targets]

    assert names("SELECT a, x.b, count(*), (SELECT c FROM u) FROM x") == ["count", "c"]
    assert names("SELECT DISTINCT a FROM x") == ["a"]
    assert names("SELECT a FROM x GROUP BY 1") == ["a"]
    (part,) = read(b"SELECT 1 FROM (SELECT a FROM x) AS y").parts
    assert [target.name for target in part.plan.sources[0].query.targets] == ["a"]
