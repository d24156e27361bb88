"""Row security that does not do what its policies promise, on a real catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from schemas import read_catalogue

from pgguard.tenancy.model import Model, TenancySettings
from pgguard.tenancy.reality import gaps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Database

OWN = "tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid"
TRAP = "tenant_id = current_setting('app.tenant_id', true)::uuid"
SCHEMA = f"""
CREATE ROLE rl_owner; CREATE ROLE rl_app; CREATE ROLE rl_reports;
CREATE TABLE tenants (id uuid PRIMARY KEY);
CREATE TABLE notes (id int, tenant_id uuid NOT NULL REFERENCES tenants);
ALTER TABLE notes OWNER TO rl_owner;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING ({OWN});
CREATE TABLE countries (code text);
ALTER TABLE countries ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_of_them ON countries USING (true);
"""


@pytest.fixture
def connection(database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.url, autocommit=True) as opened:
        opened.execute(SCHEMA.encode())
        yield opened
        opened.execute("DROP OWNED BY rl_owner, rl_app, rl_reports CASCADE")
        opened.execute("DROP ROLE rl_owner, rl_app, rl_reports")


def found(connection: psycopg.Connection, *roles: str) -> list[tuple[str, str]]:
    model = Model(read_catalogue(connection), TenancySettings())
    return [(gap.why, gap.fix) for gap in gaps(model, roles)]


def test_row_security_that_binds_has_no_gap(connection: psycopg.Connection) -> None:
    assert found(connection, "rl_app") == []


def test_each_role_that_it_does_not_bind_is_named(connection: psycopg.Connection) -> None:
    owner, superuser = found(connection, "rl_owner", "pgguard", "rl_app")[::-1]
    why = "rl_owner owns it, and FORCE ROW LEVEL SECURITY is not set"
    assert owner == (
        f"policies of notes do not bind rl_owner: {why}",
        "ALTER TABLE notes FORCE ROW LEVEL SECURITY",
    )
    assert superuser[0] == "policies of notes do not bind pgguard: pgguard is a superuser"
    connection.execute("ALTER TABLE notes FORCE ROW LEVEL SECURITY")
    assert found(connection, "rl_owner") == []


def test_policies_that_are_switched_off_are_told_once(connection: psycopg.Connection) -> None:
    connection.execute("ALTER TABLE notes DISABLE ROW LEVEL SECURITY")
    assert found(connection, "rl_owner", "rl_app") == [
        (
            "notes has policies, but row security is not enabled",
            "ALTER TABLE notes ENABLE ROW LEVEL SECURITY",
        )
    ]


def test_a_policy_that_is_always_true_is_told_to_whom_it_applies(
    connection: psycopg.Connection,
) -> None:
    connection.execute("CREATE POLICY see ON notes FOR SELECT TO rl_reports USING (true)")
    assert found(connection, "rl_app") == []
    ((why, fix),) = found(connection, "rl_reports")
    assert why == "policy see of notes lets rl_reports see every tenant's rows"
    assert fix == f"ALTER POLICY see ON notes USING ({OWN})"
    connection.execute("ALTER POLICY see ON notes TO PUBLIC")
    assert found(connection)[0][0].startswith("policy see of notes lets everybody see")


def test_the_empty_setting_is_a_trap_unless_it_is_made_null(
    connection: psycopg.Connection,
) -> None:
    connection.execute(f"CREATE POLICY trap ON notes FOR INSERT WITH CHECK ({TRAP})".encode())
    connection.execute(
        "CREATE POLICY text ON notes USING (tenant_id::text = current_setting('app.t', true)::text)"
    )
    ((why, fix),) = found(connection)
    assert why.startswith("policy trap of notes fails once a transaction has used SET LOCAL")
    assert fix == "write NULLIF(current_setting('app.tenant_id', true), '') there"


def test_the_trap_is_one_in_postgres(connection: psycopg.Connection) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL app.tenant_id = '0e3c0b7e-8a52-4a8e-9d5c-0a5b8f6f0c11'")
    connection.execute("SET ROLE rl_app")
    with pytest.raises(psycopg.Error, match=r"invalid input syntax for type uuid|permission"):
        connection.execute("SELECT current_setting('app.tenant_id', true)::uuid")
    connection.execute("RESET ROLE")


def test_views_that_see_more_than_their_readers_are_told(connection: psycopg.Connection) -> None:
    connection.execute("CREATE VIEW seen AS SELECT * FROM notes")
    connection.execute("CREATE VIEW own WITH (security_invoker = true) AS SELECT * FROM notes")
    connection.execute("CREATE MATERIALIZED VIEW kept AS SELECT * FROM notes")
    kept, seen = found(connection, "rl_app")
    assert kept[0] == "kept holds rows of notes to which no policy is applied"
    assert seen == (
        "seen reads notes as its owner pgguard, whom policies do not bind: pgguard is a superuser",
        "ALTER VIEW seen SET (security_invoker = true)",
    )
    connection.execute("ALTER VIEW seen OWNER TO rl_app")
    assert found(connection, "rl_app") == [kept]


def test_what_belongs_to_no_tenant_is_left_alone(connection: psycopg.Connection) -> None:
    connection.execute("ALTER TABLE countries DISABLE ROW LEVEL SECURITY")
    assert found(connection, "rl_app") == []
