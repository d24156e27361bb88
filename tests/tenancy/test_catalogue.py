"""The catalogue of a real Postgres, and the text that tells whether it has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from schemas import read_catalogue, text_rows

from pgguard.tenancy.catalogue import (
    CATALOGUE_QUERIES,
    NEWEST_ROW_QUERY,
    Catalogue,
    Column,
    ForeignKey,
    Key,
    catalogue_from_rows,
    undisturbed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgguard.launch.embedded import EmbeddedPostgres


def test_tables_have_their_columns_keys_and_foreign_keys(catalogues: dict[str, Catalogue]) -> None:
    table = catalogues["booking"].tables["public", "bookings"]
    assert [column.name for column in table.columns[:3]] == ["id", "tenant_id", "package_id"]
    assert table.column("tenant_id") == Column("tenant_id", "uuid", not_null=True)
    assert table.column("status") == Column("status", "text")
    assert Key("bookings_pkey", ("id",), primary=True) in table.keys
    assert Key("bookings_tenant_reference", ("tenant_id", "reference")) in table.keys
    assert (
        ForeignKey("bookings_package_id_fkey", ("package_id",), ("public", "packages"), ("id",))
        in table.foreign_keys
    )


def test_defaults_are_told_as_the_server_prints_them(catalogues: dict[str, Catalogue]) -> None:
    column = catalogues["booking"].tables["public", "payments"].column("tenant_id")
    assert column is not None
    assert "current_setting('app.tenant_id'" in column.default


def test_views_partitions_triggers_and_sequences(catalogues: dict[str, Catalogue]) -> None:
    tables = catalogues["booking"].tables
    assert tables["public", "open_bookings"].depends == {("public", "bookings")}
    assert tables["public", "events_2024"].parents == [("public", "events")]
    assert tables["public", "invoice_numbers"].kind == "S"
    assert tables["public", "audit"].fills
    assert not tables["public", "bookings"].fills
    assert not tables["public", "open_bookings"].rules


def test_functions_and_their_volatility(catalogues: dict[str, Catalogue]) -> None:
    catalogue = catalogues["booking"]
    (function,) = catalogue.functions["any_tenant"]
    assert (function.schema, function.volatility, function.language) == ("public", "v", "sql")
    assert {"now", "count", "current_setting", "generate_series"} <= catalogue.builtins
    assert {"random", "nextval", "gen_random_uuid"} <= catalogue.volatile_builtins
    assert "now" not in catalogue.volatile_builtins
    assert catalogue.database == "scopes_booking"
    assert catalogue.search_path == ("public",)


def test_names_of_every_kind_survive(database: object) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:  # type: ignore[attr-defined]
        connection.execute(
            """CREATE SCHEMA "My Schema";
               CREATE TABLE "My Schema"."T ""x"" {a,b}" ("a,b" int, "{c}" int, "d\\e" text,
                 PRIMARY KEY ("a,b", "{c}"));
               ALTER TABLE "My Schema"."T ""x"" {a,b}" DROP COLUMN "d\\e";
               CREATE DOMAIN tenant AS uuid;
               CREATE TABLE d (t tenant, n int GENERATED ALWAYS AS IDENTITY);
               CREATE UNIQUE INDEX whole ON d (t) INCLUDE (n);
               CREATE UNIQUE INDEX partial ON d (n) WHERE n > 1;
               CREATE UNIQUE INDEX expression ON d ((n + 1));
               CREATE RULE r AS ON DELETE TO d DO INSTEAD NOTHING;
               CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
               CREATE VIEW v AS SELECT f() FROM d"""
        )
        catalogue = read_catalogue(connection)
    table = catalogue.tables["My Schema", 'T "x" {a,b}']
    assert [column.name for column in table.columns] == ["a,b", "{c}"]
    assert table.keys[0].columns == ("a,b", "{c}")
    assert table.shown == 'My Schema.T "x" {a,b}'
    other = catalogue.tables["public", "d"]
    assert other.columns[0].type == "uuid"
    assert [(key.name, key.columns) for key in other.keys] == [("whole", ("t",))]
    assert other.rules
    assert catalogue.tables["public", "v"].calls == {("public", "f")}


def test_an_empty_answer_is_an_empty_catalogue() -> None:
    assert catalogue_from_rows({}) == Catalogue()


def test_event_triggers_at_login_are_told_from_those_that_ddl_sets_off() -> None:
    rows = {"event_triggers": [["public", "notes", "f"], ["public", "greets", "t"]]}
    catalogue = catalogue_from_rows(rows)
    assert catalogue.event_calls == {("public", "notes")}
    assert catalogue.login_events
    assert set(CATALOGUE_QUERIES) >= {"tables", "columns", "keys", "foreign_keys", "views"}


@pytest.fixture(scope="module")
def changing(schemas: dict[str, psycopg.Connection]) -> Iterator[psycopg.Connection]:
    connection = schemas["booking"]
    connection.execute("CREATE TABLE base (id int PRIMARY KEY, tenant int, note text)")
    connection.execute("CREATE TABLE parent (id int)")
    yield connection
    connection.execute("DROP TABLE IF EXISTS base, renamed, parent CASCADE")


CHANGES = [
    "CREATE TABLE empty ()",
    "DROP TABLE empty",
    "ALTER TABLE base ADD COLUMN more int",
    "ALTER TABLE base DROP COLUMN more",
    "ALTER TABLE base RENAME COLUMN note TO remark",
    "ALTER TABLE base RENAME TO renamed",
    "ALTER TABLE renamed RENAME TO base",
    "ALTER TABLE base ALTER COLUMN tenant SET NOT NULL",
    "ALTER TABLE base ALTER COLUMN tenant SET DEFAULT 1",
    "ALTER TABLE base ADD CONSTRAINT own FOREIGN KEY (tenant) REFERENCES base",
    "ALTER TABLE base DROP CONSTRAINT own",
    "CREATE UNIQUE INDEX one ON base (tenant)",
    "DROP INDEX one",
    "CREATE VIEW seen AS SELECT id FROM base",
    "CREATE OR REPLACE VIEW seen AS SELECT tenant AS id FROM base",
    "DROP VIEW seen",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER FUNCTION f() IMMUTABLE",
    "DROP FUNCTION f()",
    "CREATE SCHEMA elsewhere",
    "ALTER TABLE base SET SCHEMA elsewhere",
    "ALTER TABLE elsewhere.base SET SCHEMA public",
    "DROP SCHEMA elsewhere",
    "ALTER TABLE base INHERIT parent",
    "ALTER TABLE base NO INHERIT parent",
    "CREATE TRIGGER t BEFORE INSERT ON base FOR EACH ROW EXECUTE FUNCTION fill_tenant()",
    "DROP TRIGGER t ON base",
    "CREATE RULE r AS ON DELETE TO base DO INSTEAD NOTHING",
    "DROP RULE r ON base",
    "CREATE POLICY p ON base USING (id = 1)",
    "ALTER POLICY p ON base USING (id = 2)",
    "DROP POLICY p ON base",
    "CREATE OPERATOR ~~~~ (function = int4eq, leftarg = int, rightarg = int)",
    "DROP OPERATOR ~~~~ (int, int)",
    "CREATE DOMAIN narrow AS int CHECK (VALUE > 0)",
    "DROP DOMAIN narrow",
]

NO_CHANGES = [
    "INSERT INTO base VALUES (1, 1, 'x')",
    "UPDATE base SET tenant = 2",
    "TRUNCATE base",
    "ANALYZE base",
    "VACUUM base",
    "CREATE TEMP TABLE mine (id int PRIMARY KEY)",
    "DROP TABLE mine",
    "CREATE INDEX plain ON base (tenant)",
]


def test_every_change_shows_in_the_newest_row_and_nothing_else_does(
    changing: psycopg.Connection,
) -> None:
    told = []
    for sql in [*NO_CHANGES, *CHANGES]:
        before = text_rows(changing, NEWEST_ROW_QUERY)
        changing.execute(sql.encode())
        after = text_rows(changing, NEWEST_ROW_QUERY)
        told.append((sql, before != after))
    # Columns of a plain index are rows of pg_attribute: one look too many, not one too few.
    assert told == [(sql, sql.startswith("CREATE INDEX")) for sql in NO_CHANGES] + [
        (sql, True) for sql in CHANGES
    ]


def test_a_transaction_that_began_early_and_commits_late_shows(
    changing: psycopg.Connection,
) -> None:
    with psycopg.connect(changing.info.dsn, password=changing.info.password) as early:
        early.execute("ALTER TABLE parent ADD COLUMN late int")
        changing.execute("CREATE TABLE quick ()")
        between = text_rows(changing, NEWEST_ROW_QUERY)
        early.commit()
        assert text_rows(changing, NEWEST_ROW_QUERY) != between
    changing.execute("DROP TABLE quick")


@pytest.fixture
def two_views(postgres: EmbeddedPostgres) -> Iterator[str]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE viewing")
    url = postgres.url_of("viewing")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE a (id int DEFAULT 7)")
        connection.execute("CREATE TABLE b (id int)")
        connection.execute("CREATE VIEW of_a AS SELECT id FROM a")
        connection.execute("CREATE VIEW of_b AS SELECT id FROM b")
    yield url
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE viewing WITH (FORCE)")


def test_nobody_who_has_a_table_for_himself_meets_the_reading_of_views(two_views: str) -> None:
    with psycopg.connect(two_views) as owner, psycopg.connect(two_views) as reader:
        owner.execute("LOCK TABLE b IN ACCESS EXCLUSIVE MODE")
        reader.execute("SET lock_timeout = '5s'")
        catalogue = read_catalogue(reader)
        owner.execute("SET lock_timeout = '1s'")
        reader.commit()
        owner.execute("LOCK TABLE a IN ACCESS EXCLUSIVE MODE")
        assert catalogue.tables["public", "of_a"].definition
        assert not catalogue.tables["public", "of_b"].definition
        assert catalogue.tables["public", "a"].columns[0].default == "7"
        owner.rollback()
        assert read_catalogue(reader).tables["public", "of_b"].definition


def test_no_lock_is_waited_for_and_nothing_is_left_set(two_views: str) -> None:
    with psycopg.connect(two_views) as owner, psycopg.connect(two_views) as reader:
        owner.execute("LOCK TABLE b IN ACCESS EXCLUSIVE MODE")
        reader.autocommit = True
        for name in ("", "definitions"):
            with pytest.raises(psycopg.errors.LockNotAvailable):
                reader.execute(undisturbed("SELECT pg_get_viewdef('public.of_b')", name).encode())
        for name, value in (("lock_timeout", "0"), ("search_path", '"$user", public')):
            assert reader.execute(f"SHOW {name}".encode()).fetchone() == (value,)


def test_operators_of_the_user_have_no_say(two_views: str) -> None:
    with psycopg.connect(two_views, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION and_not(int2, int4) RETURNS int4 LANGUAGE plpgsql"
            " AS $$ BEGIN RAISE 'called'; END $$;"
            "CREATE OPERATOR & (FUNCTION = and_not, LEFTARG = int2, RIGHTARG = int4);"
            "CREATE TRIGGER t BEFORE UPDATE ON a FOR EACH ROW"
            " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        )
        for name, query in CATALOGUE_QUERIES.items():
            connection.execute(undisturbed(query, name).encode())


def test_nobody_who_has_a_table_for_himself_meets_the_reading_of_its_columns_and_policies(
    two_views: str,
) -> None:
    with psycopg.connect(two_views) as owner, psycopg.connect(two_views) as reader:
        owner.execute("ALTER TABLE a ADD twice int GENERATED ALWAYS AS (id * 2) STORED")
        owner.execute("CREATE POLICY own ON a USING (id = 1)")
        owner.execute("CREATE POLICY other ON a USING (EXISTS (SELECT FROM b WHERE b.id = a.id))")
        owner.execute("CREATE TABLE c (id int)")
        owner.execute("CREATE POLICY mine ON c USING (id = 1)")
        owner.commit()
        reader.execute("SET lock_timeout = '5s'")
        found = {}
        for table in ("a", "b", "c"):
            owner.execute(f"TRUNCATE {table}".encode())
            catalogue = read_catalogue(reader)
            owner.rollback()
            reader.rollback()
            reader.execute("SET lock_timeout = '5s'")
            twice = catalogue.tables["public", "a"].column("twice")
            assert twice is not None
            assert twice.generated
            policies = catalogue.tables["public", "a"].row_policies
            found[table] = [bool(twice.default), *(bool(p.using) for p in policies)]
        # The column, the policy on b, that on the table alone.
        assert found == {"a": [False] * 3, "b": [True, False, True], "c": [True] * 3}
