"""Every name, wherever it stands, and CTEs in the way."""

from __future__ import annotations

import pytest

from pgguard.sql.parse import parse
from pgguard.sql.scopes import Survey, survey
from pgguard.sql.statement import Name


def look(sql: str) -> Survey:
    tree = parse(sql)
    assert isinstance(tree, list)
    kind, body = next(iter(tree[0]["stmt"].items()))
    return survey(kind, body)


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT * FROM a", "a"),
        ("SELECT * FROM a, s.b JOIN c ON true", "a c s.b"),
        ("SELECT (SELECT 1 FROM b) FROM a", "a b"),
        ("SELECT * FROM a WHERE EXISTS (SELECT FROM b WHERE x IN (SELECT y FROM c))", "a b c"),
        ("SELECT * FROM a ORDER BY (SELECT 1 FROM b) LIMIT (SELECT 1 FROM c)", "a b c"),
        ("SELECT * FROM LATERAL (SELECT * FROM a) x, f((SELECT 1 FROM b))", "a b"),
        ("SELECT * FROM a UNION SELECT * FROM b EXCEPT TABLE c", "a b c"),
        ("VALUES ((SELECT 1 FROM a))", "a"),
        ("INSERT INTO a SELECT * FROM b RETURNING (SELECT 1 FROM c)", "a b c"),
        ("UPDATE a SET x = (SELECT 1 FROM b) FROM c", "a b c"),
        ("DELETE FROM a USING b WHERE EXISTS (SELECT FROM c)", "a b c"),
        ("MERGE INTO a USING b ON true WHEN MATCHED THEN DELETE", "a b"),
        ("SELECT * FROM a FOR UPDATE OF a", "a"),
        ("SELECT * INTO b FROM a", "a"),
        ("WITH x AS (SELECT * FROM a) SELECT * FROM x", "a"),
        ("WITH a AS (SELECT * FROM a) SELECT * FROM a", "a"),
        ("WITH a AS (SELECT 1), b AS (SELECT * FROM a) SELECT * FROM b", ""),
        ("WITH b AS (SELECT * FROM a), a AS (SELECT 1) SELECT * FROM b", "a"),
        ("WITH RECURSIVE b AS (SELECT * FROM a), a AS (SELECT 1) SELECT * FROM b", ""),
        ("WITH a AS (SELECT 1) SELECT * FROM s.a", "s.a"),
        ("WITH a AS (SELECT 1) INSERT INTO a SELECT * FROM a", "a"),
        ("WITH a AS (SELECT 1) UPDATE a SET x = 1", "a"),
        ("SELECT * FROM (WITH a AS (SELECT 1) SELECT * FROM a) x, a", "a"),
        ("WITH x AS (DELETE FROM a RETURNING *) SELECT * FROM x", "a"),
        ("WITH a AS (SELECT 1) SELECT (SELECT 1 FROM a) UNION SELECT * FROM a", ""),
        ("SELECT * FROM a TABLESAMPLE system (1)", "a"),
        ("SELECT * FROM ROWS FROM (f(1), g(2)) AS x", ""),
    ],
)
def test_relations_that_are_read_or_written(sql: str, names: str) -> None:
    assert " ".join(sorted(map(str, look(sql).relations))) == names


def test_functions_parameters_and_hindrances() -> None:
    seen = look("SELECT f(s.g($3)), count(*) FROM h(1) WHERE x = $12")
    assert sorted(map(str, seen.functions)) == ["count", "f", "h", "s.g"]
    assert seen.parameters == 12
    assert seen.table_function
    assert not any((seen.subquery, seen.cte, seen.set_operation, seen.cursor))


def words(found: dict[str, None]) -> str:
    return " ".join(sorted(found))


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT a + 1 FROM t WHERE b = 2 AND c LIKE 'x'", "+ = ~~"),
        ("SELECT a OPERATOR(s.+) 1, a OPERATOR(pg_catalog.-) 1", "+"),
        ("SELECT a FROM t WHERE a BETWEEN 1 AND 2", "< <= > >="),
        ("SELECT a FROM t ORDER BY a USING >", ">"),
        ("SELECT a < ANY (SELECT 1)", "<"),
        ("SELECT CASE a WHEN 1 THEN 2 END, CASE WHEN a THEN 1 END", "="),
        ("SELECT NULLIF(a, b), a IN (1, 2), a IS DISTINCT FROM b", "<> ="),
    ],
)
def test_operators(sql: str, names: str) -> None:
    # IS DISTINCT FROM asks for equality under either name.
    assert words(look(sql).operators) in {names, names.replace("<> ", "")}


def test_attributes_types_and_renamings() -> None:
    seen = look(
        "SELECT t.a, s.t.b, (t).c, (f(x)).d[1], e, t.* FROM t WHERE x::s.ty = 1::pg_catalog.int8"
    )
    assert words(seen.attributes) == "a b c d t"
    assert words(seen.types) == "int8 ty"
    assert not seen.renames
    assert look("SELECT 1 FROM t AS x (a)").renames
    assert look("SELECT 1 FROM f() AS x (a)").renames
    assert look("SELECT 1 FROM t TABLESAMPLE s.some (1)").functions == {Name("s", "some"): None}


@pytest.mark.parametrize(
    ("sql", "writes"),
    [
        ("INSERT INTO a (x) VALUES (1)", [("a", "i", ())]),
        ("INSERT INTO a VALUES (1) ON CONFLICT DO NOTHING", [("a", "i", ())]),
        ("INSERT INTO a VALUES (1) ON CONFLICT (x) DO UPDATE SET y = 1", [("a", "iu", ("y",))]),
        ("UPDATE a SET x = 1, (y, z) = (1, 2)", [("a", "u", ("x", "y", "z"))]),
        ("DELETE FROM s.a USING b", [("s.a", "d", ())]),
        ("MERGE INTO a USING b ON true WHEN MATCHED THEN DELETE", [("a", "iud", None)]),
        ("COPY a FROM STDIN", [("a", "i", ())]),
        ("COPY a TO STDOUT", []),
        ("WITH x AS (DELETE FROM a) UPDATE b SET c = 1", [("a", "d", ()), ("b", "u", ("c",))]),
        ("SELECT * FROM a FOR UPDATE", []),
    ],
)
def test_what_is_written(sql: str, writes: list[tuple[str, str, tuple[str, ...] | None]]) -> None:
    found = [(str(name), actions, columns) for name, actions, columns in look(sql).writes]
    assert sorted(found, key=str) == writes


@pytest.mark.parametrize(
    ("sql", "flag"),
    [
        ("SELECT (SELECT 1)", "subquery"),
        ("SELECT * FROM (SELECT 1) x", "subquery"),
        ("WITH a AS (SELECT 1) SELECT 1", "cte"),
        ("SELECT 1 UNION SELECT 2", "set_operation"),
        ("DELETE FROM a WHERE CURRENT OF c", "cursor"),
        ("SELECT * FROM xmltable('/a' PASSING x COLUMNS y int)", "table_function"),
    ],
)
def test_what_stands_in_the_way_of_a_simple_proof(sql: str, flag: str) -> None:
    assert getattr(look(sql), flag)
    assert not getattr(look("SELECT * FROM a WHERE b = 1"), flag)


def test_references_to_ctes_are_occurrences_too() -> None:
    assert look("WITH a AS (SELECT 1) SELECT * FROM a, a b").occurrences == 2
