"""Row security, read from a real catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from schemas import read_catalogue

from pgguard.tenancy.catalogue import NEWEST_ROW_QUERY, Table
from pgguard.tenancy.rowpolicies import DatabaseRole, RowPolicy, applying, unbound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Database

SCHEMA = """
CREATE ROLE rp_staff; CREATE ROLE rp_app IN ROLE rp_staff; CREATE ROLE rp_boss BYPASSRLS;
CREATE ROLE rp_lone NOINHERIT IN ROLE rp_staff;
CREATE TABLE notes (id int, tenant_id int);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE notes FORCE ROW LEVEL SECURITY;
ALTER TABLE notes OWNER TO rp_staff;
CREATE POLICY own ON notes FOR SELECT TO rp_staff, rp_boss
  USING (tenant_id = current_setting('app.tenant_id')::int);
CREATE POLICY adds ON notes AS RESTRICTIVE FOR INSERT WITH CHECK (true);
CREATE TABLE open (id int);
CREATE VIEW invoked WITH (security_invoker = on) AS SELECT * FROM notes;
"""


@pytest.fixture
def connection(database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.url, autocommit=True) as opened:
        opened.execute(SCHEMA.encode())
        yield opened
        opened.execute("DROP OWNED BY rp_staff, rp_boss CASCADE")
        opened.execute("DROP ROLE rp_app, rp_boss, rp_lone, rp_staff")


def test_switches_owners_policies_and_roles_are_read(connection: psycopg.Connection) -> None:
    catalogue = read_catalogue(connection)
    notes = catalogue.tables["public", "notes"]
    assert (notes.owner, notes.secured, notes.forced) == ("rp_staff", True, True)
    assert notes.row_policies == [
        RowPolicy("adds", "a", False, (), "", "true"),
        RowPolicy(
            "own",
            "r",
            True,
            ("rp_boss", "rp_staff"),
            "(tenant_id = (current_setting('app.tenant_id'::text))::integer)",
        ),
    ]
    assert catalogue.tables["public", "invoked"].invoker
    assert not catalogue.tables["public", "open"].secured
    roles = catalogue.roles
    assert roles.get(roles.user).superuser
    assert roles.get("rp_boss").bypasses
    assert roles.get("rp_app").has == {"rp_app", "rp_staff"}
    assert roles.get("rp_lone").has == {"rp_lone"}
    assert roles.get("nobody of that name").has == {"nobody of that name"}


def test_a_switch_is_a_change_of_the_catalogue(connection: psycopg.Connection) -> None:
    def newest() -> object:
        return connection.execute(NEWEST_ROW_QUERY.encode()).fetchone()

    seen = [newest()]
    for change in (
        "ALTER TABLE open ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE open FORCE ROW LEVEL SECURITY",
        "ALTER ROLE rp_app BYPASSRLS",
    ):
        connection.execute(change.encode())
        assert newest() not in seen, change
        seen.append(newest())


APP = DatabaseRole("app", has=frozenset({"app", "staff"}))


@pytest.mark.parametrize(
    ("role", "table", "words"),
    [
        (APP, {"secured": False}, "not enabled"),
        (DatabaseRole("su", superuser=True), {}, "superuser"),
        (DatabaseRole("by", bypasses=True), {"forced": True}, "BYPASSRLS"),
        (APP, {"owner": "staff"}, "owns it"),
        (APP, {"owner": "staff", "forced": True}, ""),
        (APP, {"owner": "another"}, ""),
    ],
)
def test_whom_policies_do_not_bind(role: DatabaseRole, table: dict[str, bool], words: str) -> None:
    secured = Table("public", "t", **{"secured": True, **table})  # type: ignore[arg-type]
    why = unbound(secured, role)
    assert words in why
    assert bool(words) == bool(why)


def test_which_policies_a_role_meets() -> None:
    every = RowPolicy("every")
    read = RowPolicy("read", "r", roles=("staff",))
    others = RowPolicy("others", "r", roles=("others",))
    table = Table("public", "t", row_policies=[every, read, others])
    assert applying(table, APP, "r") == [every, read]
    assert applying(table, APP, "d") == [every]
