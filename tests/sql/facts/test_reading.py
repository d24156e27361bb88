"""From texts to parts, for every kind of statement, and for texts made to hurt."""

from __future__ import annotations

import pickle
from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgguard.sql import effects
from pgguard.sql.facts.reading import MOST_STATEMENTS, read
from pgguard.sql.plan.nodes import Says
from pgguard.sql.statement import OPAQUE, Name


@pytest.mark.parametrize(
    ("sql", "kind", "obstacle"),
    [
        ("SELECT * FROM a", "read", ""),
        ("SELECT 1", "read", ""),
        ("SELECT * FROM f()", "read", ""),
        ("INSERT INTO a VALUES (1)", "insert", ""),
        ("UPDATE a SET b = 1", "update", ""),
        ("DELETE FROM a WHERE CURRENT OF c", "delete", ""),
        ("MERGE INTO a USING f() ON true WHEN MATCHED THEN DELETE", "merge", ""),
        ("TRUNCATE a, b", "truncate", ""),
        ("COPY a TO STDOUT", "copy_to", ""),
        ("COPY a FROM STDIN", "copy_from", ""),
        ("COPY (DELETE FROM a RETURNING *) TO STDOUT", "delete", ""),
        ("EXPLAIN ANALYZE UPDATE a SET b = 1", "update", ""),
        ("EXPLAIN (ANALYZE false) UPDATE a SET b = 1", "none", ""),
        ("EXPLAIN (ANALYZE 1) SELECT * FROM a", "read", ""),
        ("EXPLAIN ANALYZE EXECUTE p", "opaque", "EXECUTE"),
        ("CREATE TABLE b AS SELECT * FROM a", "read", ""),
        ("CREATE TABLE b AS EXECUTE p", "opaque", "EXECUTE"),
        ("CREATE MATERIALIZED VIEW b AS SELECT * FROM a", "none", ""),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT * FROM a", "read", ""),
        ("PREPARE p AS DELETE FROM a", "delete", ""),
        ("FETCH ALL FROM c", "opaque", "FETCH"),
        ("MOVE ALL FROM c", "none", ""),
        ("CALL p()", "opaque", "procedure"),
        ("DO 'BEGIN END'", "opaque", "DO"),
        ("GRANT SELECT ON a TO b", "none", ""),
        ("LOCK TABLE a", "none", ""),
        ("REFRESH MATERIALIZED VIEW a", "none", ""),
    ],
)
def test_statement_is_of_a_kind_and_may_have_an_obstacle(
    sql: str, kind: str, obstacle: str
) -> None:
    (part,) = read(sql.encode()).parts
    assert part.kind == kind
    assert (obstacle in part.obstacle) if obstacle else not part.obstacle


@pytest.mark.parametrize(
    ("sql", "created"),
    [
        ("CREATE TEMP TABLE a (b int)", (Name("", "a"),)),
        ("CREATE TABLE pg_temp.a AS SELECT 1", (Name("pg_temp", "a"),)),
        ("SELECT 1 AS b INTO TEMPORARY a", (Name("", "a"),)),
        ("EXPLAIN ANALYZE CREATE TEMP TABLE a AS SELECT 1", (Name("", "a"),)),
        ("CREATE TABLE a (b int)", ()),
        ("CREATE TEMP VIEW a AS SELECT 1", ()),
    ],
)
def test_temporary_tables_are_noted(sql: str, created: tuple[Name, ...]) -> None:
    assert read(sql.encode()).created == created


def test_the_parameters_are_counted() -> None:
    assert read(b"SELECT $3 FROM a WHERE b = $7").parts[0].parameters == 7


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"SELECT '\xff'", "UTF-8"),
        (b"SELECT 1\0", "NUL"),
        (b"SELECT", ""),
        (b"SELECT FROM FROM", "syntax error"),
    ],
)
def test_what_cannot_be_read_is_said_to_be_unread(text: bytes, reason: str) -> None:
    facts = read(text)
    assert reason in facts.unread
    assert bool(facts.unread) is bool(reason)
    assert facts.effects == (effects.ANY if reason else 0)


@pytest.mark.parametrize(
    ("sql", "known"),
    [
        ("IDENTIFY_SYSTEM", True),
        ('\n START_REPLICATION SLOT "s" LOGICAL 0/1 ("proto_version" \'1\')', True),
        ("BASE_BACKUP (LABEL 'x')", True),
        ("CREATE_REPLICATION_SLOT s LOGICAL test_decoding;", True),
        ("TIMELINE_HISTORY 1; DELETE FROM a", True),
        ("identify_system", False),
        ("IDENTIFY_SYSTEMS", False),
        ("IDENTIFY_SYSTEMs", False),
        ("SELECT 1; IDENTIFY_SYSTEM", False),
        ("/* */ IDENTIFY_SYSTEM", False),
    ],
)
def test_commands_of_replication_are_about_no_table(sql: str, known: bool) -> None:
    facts = read(sql.encode())
    assert bool(facts.unread) is not known
    assert [part.kind for part in facts.parts] == ["none"] * known
    assert known or facts.effects == effects.ANY


def test_a_text_over_the_limit_is_not_read() -> None:
    assert "max_statement" in read(b"SELECT 1", 4).unread


HOSTILE = {
    "operators": b"SELECT * FROM t WHERE a = 1" + b" - 1" * 40_000,
    "list": b"SELECT * FROM t WHERE a IN (" + b",".join(b"%d" % n for n in range(200_000)) + b")",
    "ors": b"SELECT * FROM t WHERE " + b" OR ".join(b"a = %d" % n for n in range(100_000)),
    "ands": b"SELECT * FROM t WHERE " + b" AND ".join(b"a%d = a0" % n for n in range(50_000)),
    "nots": b"SELECT * FROM t WHERE " + b"NOT " * 200 + b"a = 1",
    "many nots": b"SELECT * FROM t WHERE " + b"NOT " * 20_000 + b"a = 1",
    "truths": b"SELECT * FROM t WHERE " + b"(" * 150 + b"a = 1" + b") = true" * 150,
    "casts": b"SELECT * FROM t WHERE a = 1" + b"::text" * 300,
    "unions": b" UNION ALL ".join([b"SELECT 1 FROM t"] * 15_000),
    "joins": b"SELECT * FROM t" + b" JOIN t ON true" * 20_000,
    "rows": b"INSERT INTO t VALUES " + b",".join(b"(%d,'x',$1)" % n for n in range(50_000)),
    "cases": b"SELECT * FROM t WHERE " + b"CASE WHEN a = 1 THEN " * 150 + b"true" + b" END" * 150,
    "array": b"SELECT * FROM t WHERE a = ANY ('{" + b'"\\' * 60_000 + b"}')",
    "functions": b"SELECT * FROM t WHERE a IN ("
    + b",".join(b"f%d(1)" % n for n in range(900))
    + b")",
    "statements": b"SELECT * FROM t;" * 8_000,
    "columns": b"SELECT * FROM t WHERE " + b" AND ".join(b"c%d = 1" % n for n in range(2_500)),
    "targets": b"UPDATE t SET " + b",".join(b"c%d = 1" % n for n in range(2_500)),
    "casts to": b"SELECT " + b",".join(b"1::t%d" % n for n in range(2_500)),
    "writes": b"WITH "
    + b",".join(b"x%d AS (DELETE FROM t)" % n for n in range(2_500))
    + b" TABLE t",
    "names": b"SELECT * FROM " + b",".join(b"t%d" % n for n in range(20_000)),
    "ctes": b"WITH " + b",".join(b"c%d AS (SELECT 1)" % n for n in range(2_000)) + b" SELECT 1",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_kills_us_or_takes_long(name: str) -> None:
    start = thread_time()
    read(HOSTILE[name])
    assert thread_time() - start < 15


def test_what_is_kept_of_a_text_is_bounded() -> None:
    parts = read(HOSTILE["statements"]).parts
    assert len(parts) == MOST_STATEMENTS + 1
    assert parts[-1].kind == "opaque"
    for name in ("names", "casts to", "writes"):
        assert read(HOSTILE[name]).parts[0].kind == "opaque"
    constants = read(HOSTILE["functions"]).parts[0].plan.where.constants
    assert OPAQUE in constants
    assert len(constants) < 200
    for name in HOSTILE:
        assert len(pickle.dumps(read(HOSTILE[name]).parts[:1])) < 1_000_000


def test_effects_of_all_statements_count() -> None:
    text = b"SELECT 1;" * MOST_STATEMENTS + b"CREATE TEMP TABLE x (); DROP TABLE y"
    facts = read(text)
    assert facts.effects == effects.TEMPORARY | effects.DDL
    assert facts.created == (Name("", "x"),)


@pytest.mark.parametrize(
    ("sql", "stale"), [("CREATE TABLE a (); TABLE b", True), ("SET x = 1; TABLE b", False)]
)
def test_a_statement_after_one_that_changes_the_schema_is_stale(sql: str, stale: bool) -> None:
    parts = read(sql.encode()).parts
    assert [part.stale for part in parts] == [False, stale]


@pytest.mark.parametrize("name", ["nots", "truths", "casts", "cases"])
def test_what_is_deep_but_can_be_read_is_read_rightly(name: str) -> None:
    facts = read(HOSTILE[name])
    assert not facts.unread
    assert facts.parts[0].plan.where != Says()


@given(text=st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode)))
def test_no_text_raises(text: bytes) -> None:
    read(text)


def test_a_statement_over_thousands_of_tables_brings_no_plan_of_them() -> None:
    few, many = (read(b"SELECT 1 FROM " + b", ".join([b"t"] * n)) for n in (100, 3000))
    assert few.parts[0].kind == "read"
    assert (many.parts[0].kind, many.parts[0].plan) == ("opaque", None)
    assert "2000 tables" in many.parts[0].obstacle
