"""What DDL makes and changes, as its text says."""

from __future__ import annotations

import pytest

from pgguard.sql.definitions import ANYTHING, Definitions, Link, may_define
from pgguard.sql.facts.reading import read


def defined(text: str) -> Definitions:
    found = read(text.encode()).defined
    assert found is not None, text
    return found


@pytest.mark.parametrize(
    "text",
    ["SELECT 1", "INSERT INTO t VALUES (1)", "BEGIN", "SET a.b = 1", "TRUNCATE t", "nonsense"],
)
def test_what_is_no_ddl_defines_nothing(text: str) -> None:
    assert read(text.encode()).defined is None


@pytest.mark.parametrize(
    "text",
    [
        "DROP TABLE t",
        "DROP FUNCTION f()",
        "CREATE SEQUENCE s",
        "CREATE SCHEMA s",
        "CREATE INDEX ON t (a, b varchar_pattern_ops)",
        "COMMENT ON TABLE t IS 'x'",
        "GRANT SELECT ON t TO PUBLIC",
        "ALTER TYPE e ADD VALUE 'b'",
    ],
)
def test_ddl_after_which_nothing_sets_off_more_is_known_as_such(text: str) -> None:
    assert defined(text) == Definitions()


def test_a_table_is_born_with_all_that_a_write_to_it_may_call() -> None:
    (born,) = defined(
        "CREATE TABLE s.t (id serial PRIMARY KEY, a int DEFAULT f(1) CHECK (a === 1), b mood,"
        " c text GENERATED ALWAYS AS (upper(b::text)) STORED, LIKE other INCLUDING ALL)"
        " INHERITS (above)"
    ).born
    assert str(born.name) == "s.t"
    assert {str(name) for name in born.calls.functions} == {"f", "upper"}
    assert born.calls.operators == ("===",)
    assert set(born.calls.types) == {"serial", "int4", "mood", "text"}
    assert {str(name) for name in born.calls.models} == {"other", "above"}


def test_foreign_keys_and_parents_are_links() -> None:
    links = defined(
        "CREATE TABLE c (a int REFERENCES p ON DELETE CASCADE, b int REFERENCES q,"
        " FOREIGN KEY (a) REFERENCES r ON UPDATE SET NULL) INHERITS (above)"
    ).links
    assert set(links) == {Link("above", "c", "iud"), Link("p", "c", "d"), Link("r", "c", "u")}
    assert defined("ALTER TABLE c ADD FOREIGN KEY (a) REFERENCES p ON DELETE CASCADE").links == (
        Link("p", "c", "d"),
    )


def test_a_table_of_a_query_has_the_types_of_the_query() -> None:
    for text in ("CREATE TABLE t AS SELECT 1", "SELECT 1 INTO t"):
        (born,) = defined(text).born
        assert born.calls.drawn


def test_a_view_calls_what_its_query_does() -> None:
    (born,) = defined("CREATE VIEW v AS SELECT f(a) FROM t").born
    assert born.shows
    assert [str(name) for name in (*born.calls.functions, *born.calls.reads)] == ["f", "t"]
    assert defined("CREATE OR REPLACE VIEW v AS SELECT 1").relations == {"v"}


@pytest.mark.parametrize(
    ("text", "relations"),
    [
        ("CREATE TABLE IF NOT EXISTS t (id int)", {"t"}),
        ("CREATE TABLE t OF kind", {"t"}),
        ("CREATE TABLE t (a int) PARTITION BY LIST (f(a))", {"t"}),
        ("CREATE TABLE t (a int, EXCLUDE USING gist (a WITH &&))", {"t"}),
        ("CREATE TRIGGER x AFTER INSERT ON s.t EXECUTE FUNCTION f()", {"t"}),
        ("CREATE RULE r AS ON INSERT TO t DO ALSO DELETE FROM u", {"t", "u"}),
        ("CREATE POLICY p ON t USING (f())", {"t"}),
        ("ALTER TABLE p ATTACH PARTITION t FOR VALUES IN (1)", {"p", "t"}),
        ("ALTER TABLE c INHERIT p", {"c", "p"}),
        ("ALTER TABLE t ENABLE TRIGGER ALL", {"t"}),
        ("ALTER TABLE t DROP COLUMN a", {"t"}),
        ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", {"t"}),
        ("ALTER TABLE t RENAME TO u", {"t", "u"}),
        ("ALTER TABLE t SET SCHEMA s", {"t"}),
    ],
)
def test_what_is_not_all_told_is_doubted_by_name(text: str, relations: set[str]) -> None:
    assert defined(text) == Definitions(relations=frozenset(relations))


def test_parts_of_alter_table_that_say_all_are_known() -> None:
    (changed,) = defined(
        "ALTER TABLE t ADD COLUMN a int DEFAULT f(), ALTER b SET DEFAULT g()"
    ).changed
    assert changed.name == "t"
    assert {str(name) for name in changed.calls.functions} == {"f", "g"}
    (changed,) = defined("CREATE INDEX ON t (f(a)) WHERE g(a) > 1").changed
    assert {str(name) for name in changed.calls.functions} == {"f", "g"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", {"f"}),
        ("CREATE OR REPLACE PROCEDURE p() LANGUAGE sql AS 'SELECT 1'", {"p"}),
        ("ALTER FUNCTION f() VOLATILE", {"f"}),
    ],
)
def test_functions_are_others_from_now_on(text: str, expected: set[str]) -> None:
    assert defined(text).functions == expected


def test_types() -> None:
    assert defined("CREATE DOMAIN s.d AS int CHECK (f(VALUE))").types == {"d"}
    assert defined("CREATE TYPE c AS (a int)").types == {"c"}
    assert defined("CREATE TYPE s.e AS ENUM ('a')").enums == {"e"}


@pytest.mark.parametrize(
    "text",
    [
        "DO $$ BEGIN END $$",
        "CALL p()",
        "COMMIT PREPARED 'x'",
        "CREATE EXTENSION x",
        "CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = f)",
        "CREATE CAST (a AS b) WITH FUNCTION f(a)",
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f()",
        "ALTER DOMAIN d ADD CHECK (f(VALUE))",
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER SCHEMA a RENAME TO b",
        "CREATE SCHEMA s CREATE TABLE t (id int); DO $$ BEGIN END $$",
        "CREATE NONSENSE",
        "SELECT 1; /* so */ create nonsense",
    ],
)
def test_other_ddl_may_have_changed_anything(text: str) -> None:
    assert defined(text).anything


def test_several_statements_are_taken_together() -> None:
    found = defined("CREATE TABLE a (id int); SELECT 1; CREATE TRIGGER x AFTER INSERT ON b"
                    " EXECUTE FUNCTION f()")  # fmt: skip
    assert [str(born.name) for born in found.born] == ["a"]
    assert found.relations == {"b"}


def test_a_text_that_is_not_read_may_be_ddl_where_a_statement_of_it_begins_so() -> None:
    assert may_define(b"INSERT INTO t VALUES ('we create or drop')") is None
    assert may_define(b"INSERT INTO t VALUES ('');\n  DROP TABLE t") == ANYTHING
    assert may_define(b"-- a\ncreate table t (id int)") == ANYTHING


@pytest.mark.parametrize("gap", [b"\n", b" ", b"(", b"\t\n"])
def test_a_gap_of_a_million_bytes_is_read_once(gap: bytes) -> None:
    gaps = gap * (1_000_000 // len(gap))
    assert may_define(b"x" + gaps) is None
    assert may_define(b"x;" + gaps + b"drop table t") == ANYTHING
