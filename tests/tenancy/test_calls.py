"""What Postgres's catalogue says of functions that are called without being named."""

from __future__ import annotations

import psycopg
import pytest

from pgguard.tenancy.calls import CALL_QUERIES

SCHEMA = """
CREATE FUNCTION same(int, int) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION f(int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION notes() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE DOMAIN odd AS int CHECK (f(VALUE));
CREATE DOMAIN odder AS odd;
CREATE TABLE plain (id int);
CREATE TABLE checks (id int CHECK (f(id)));
CREATE TABLE defaults (id int, b bool DEFAULT f(1));
CREATE TABLE holds (id int, odds odder[]);
CREATE TABLE indexed (id int);
CREATE INDEX ON indexed (f(id));
CREATE TABLE fired (id int);
CREATE TRIGGER x BEFORE INSERT OR DELETE ON fired FOR EACH ROW EXECUTE FUNCTION fires();
CREATE TABLE silent (id int);
CREATE TRIGGER x BEFORE INSERT ON silent FOR EACH ROW EXECUTE FUNCTION fires();
ALTER TABLE silent DISABLE TRIGGER x;
CREATE VIEW shows AS SELECT f(id) FROM plain;
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = same);
CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION notes();
"""

pytestmark = pytest.mark.slow


def test_everything_that_calls_is_found_whatever_search_path_says(database) -> None:
    with psycopg.connect(database.url, autocommit=True) as admin:
        admin.execute(SCHEMA)
        # A table in front of Postgres's own, for who would forget to name the schema.
        admin.execute("CREATE SCHEMA s; CREATE TABLE s.pg_proc (oid int)")
        admin.execute("SET search_path = s, pg_catalog")
        found = {name: admin.execute(query).fetchall() for name, query in CALL_QUERIES.items()}
        names = dict(admin.execute("SELECT oid, relname FROM pg_class").fetchall())
    assert {(names[oid], kind, call) for oid, kind, _, call in found["calls"]} >= {
        ("checks", "write", "f"),
        ("defaults", "write", "f"),
        ("holds", "write", "f"),
        ("indexed", "write", "f"),
        ("shows", "read", "f"),
        ("fired", "id", "fires"),
    }
    assert not {"plain", "silent"} & {names[oid] for oid, *_ in found["calls"]}
    assert {("odd", "f", True), ("odder", "f", True)} <= {
        (name, call, checks) for name, _, call, checks in found["types"]
    }
    assert [(one[0], one[4]) for one in found["operators"]] == [("===", "same")]
    assert "int4" in found["known_types"][0][0].split()
    assert found["event_triggers"] == [("public", "notes", False)]
