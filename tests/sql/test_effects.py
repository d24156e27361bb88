"""Flags of statements."""

from __future__ import annotations

import pytest

from pgguard.sql import effects
from pgguard.sql.facts.reading import read

NONE = 0


@pytest.mark.parametrize(
    ("sql", "flags"),
    [
        ("SELECT 1", NONE),
        ("INSERT INTO t VALUES (1)", effects.SEQUENCES),
        ("TRUNCATE t", NONE),
        ("EXPLAIN CREATE TABLE t AS SELECT 1", effects.DDL),
        ("EXPLAIN SELECT 1", NONE),
        ("BEGIN", effects.TRANSACTION),
        ("COMMIT", effects.TRANSACTION),
        ("ROLLBACK TO s", effects.TRANSACTION),
        ("PREPARE TRANSACTION 'x'", effects.TRANSACTION),
        ("SET search_path = a", effects.SET),
        ("RESET ALL", effects.SET),
        ("SET LOCAL x.y = 'z'", effects.SET),
        ("SHOW x", NONE),
        ("COPY t TO STDOUT", effects.COPY),
        ("COPY t FROM STDIN", effects.COPY | effects.SEQUENCES),
        ("CREATE TABLE t (a int)", effects.DDL),
        ("CREATE TEMP TABLE t (a int)", effects.TEMPORARY),
        ("CREATE TABLE pg_temp.t (a int)", effects.TEMPORARY),
        ("CREATE TEMP TABLE t AS SELECT 1", effects.TEMPORARY),
        ("SELECT 1 INTO t", effects.DDL),
        ("SELECT 1 INTO TEMP t", effects.TEMPORARY),
        ("ALTER TABLE t ADD COLUMN a int", effects.DDL),
        ("ALTER TABLE t RENAME TO u", effects.DDL),
        ("DROP VIEW v", effects.DDL),
        ("CREATE UNIQUE INDEX ON t (a)", effects.DDL),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", effects.DDL),
        ("ALTER ROLE r SET search_path = a", effects.DDL),
        ("CREATE DATABASE d", effects.DATABASE_DDL),
        ("DROP DATABASE d", effects.DATABASE_DDL),
        ("ALTER DATABASE d RENAME TO e", effects.DATABASE_DDL),
        ("ALTER DATABASE d OWNER TO r", effects.DATABASE_DDL),
        ("ALTER DATABASE d SET search_path = a", effects.DATABASE_DDL | effects.DDL),
        ("LISTEN c", effects.OTHER),
        ("DISCARD ALL", effects.OTHER | effects.SET),
        ("DO 'BEGIN END'", effects.OTHER | effects.DDL),
        ("CALL p()", effects.OTHER | effects.DDL),
        ("BEGIN; CREATE TABLE t (); COMMIT", effects.TRANSACTION | effects.DDL),
        ("SELECT FROM FROM", effects.ANY),
    ],
)
def test_statement_has_its_flags(sql: str, flags: int) -> None:
    assert read(sql.encode()).effects == flags
