"""Values of executions through real drivers: tenants of statements and of transactions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import psycopg
import pytest
from guard import RunningGuard, settings_for, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgguard.launch.embedded import EmbeddedPostgres

pytestmark = pytest.mark.slow

A, B = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
SCHEMA = f"""
CREATE TABLE tenants (id uuid PRIMARY KEY);
CREATE TABLE items (id int PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants, note text);
INSERT INTO tenants VALUES ('{A}'), ('{B}');
INSERT INTO items VALUES (1, '{A}', 'one'), (2, '{B}', 'two');
"""
BOTH = "SELECT a.note FROM items a, items b WHERE a.tenant_id = {} AND b.tenant_id = {}"
OWN = "SELECT note FROM items WHERE tenant_id = %s"


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Iterator[str]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE valued")
    url = postgres.url_of("valued")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
    yield url
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE valued WITH (FORCE)")


@pytest.fixture(scope="module", params=["session", "transparent"])
def blocking(request: pytest.FixtureRequest, database: str) -> Iterator[RunningGuard]:
    settings = settings_for(database, pool__mode=request.param, tenancy__mode="block")
    guard = RunningGuard(settings).start()
    yield guard
    guard.close()


@pytest.fixture(scope="module", params=["session", "transparent"])
def observing(request: pytest.FixtureRequest, database: str) -> Iterator[RunningGuard]:
    guard = RunningGuard(settings_for(database, pool__mode=request.param)).start()
    with psycopg.connect(guard.url(), autocommit=True, application_name="first.py") as session:
        session.execute("SELECT 1")
        until(lambda: guard.ask(lambda one: one.hub.gate.judges["valued"].model is not None))
    yield guard
    guard.close()


def connect(guard: RunningGuard, name: str) -> psycopg.Connection[Any]:
    return psycopg.connect(guard.url(), autocommit=True, application_name=name)


def codes(guard: RunningGuard, name: str) -> dict[str, int]:
    """Findings about the client's statements: code and how often."""

    def ask(running: Any) -> dict[str, int]:
        client = running.hub.clients.get(name)
        found: dict[str, int] = {}
        for statement, tally in client.flagged.items() if client is not None else ():
            found[statement.code] = found.get(statement.code, 0) + tally.count
        return found

    return guard.ask(ask)


def test_two_values_are_two_tenants_and_two_spellings_are_one(blocking: RunningGuard) -> None:
    with connect(blocking, "spelling.py") as session:
        query = BOTH.format("%s", "%s")
        session.execute(query, [A, "{" + A.upper().replace("-", "") + "}"])
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="PGG102"):
            session.execute(query, [A, B])
        assert session.execute(OWN, [A]).fetchall() == [("one",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="PGG102"):
            session.execute("SELECT note FROM items WHERE tenant_id = ANY(%s::uuid[])", [[A, B]])


def test_binary_values_are_compared_with_texts(blocking: RunningGuard) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(blocking.url())
        literal = BOTH.format("$1", f"'{A}'")
        assert await connection.fetch(literal, A)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(literal, B)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT id FROM items WHERE tenant_id = ANY($1)", [A, B])
        assert await connection.fetch("SELECT id FROM items WHERE tenant_id = ANY($1)", [A, A])
        await connection.close()

    asyncio.run(main())


def test_the_tenant_setting_counts_as_a_value(blocking: RunningGuard) -> None:
    with connect(blocking, "setting.py") as session:
        session.execute("SELECT set_config('app.tenant_id', %s, false)", [A])
        assert session.execute(OWN, [A]).fetchall() == [("one",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="PGG102"):
            session.execute(OWN, [B])
        session.execute("RESET app.tenant_id")
        assert session.execute(OWN, [B]).fetchall() == [("two",)]


def test_a_setting_of_a_transaction_ends_with_it(blocking: RunningGuard) -> None:
    with connect(blocking, "local.py") as session:
        session.execute("BEGIN")
        session.execute(f"SET LOCAL app.tenant_id = '{A}'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="PGG102"):
            session.execute(OWN, [B])
        session.execute("ROLLBACK")
        assert session.execute(OWN, [B]).fetchall() == [("two",)]


@pytest.mark.parametrize("text", [True, False])
def test_a_transaction_of_two_tenants_is_found_once(observing: RunningGuard, *, text: bool) -> None:
    name = f"transaction{text}.py"
    with connect(observing, name) as session:
        for tenant in (A, B):
            query = f"SELECT note FROM items WHERE tenant_id = '{tenant}'"
            session.execute(query if text else OWN, None if text else [tenant])
        assert codes(observing, name) == {}
        session.execute("BEGIN")
        for tenant in (A, A, B, A, B):
            query = f"SELECT note FROM items WHERE tenant_id = '{tenant}'"
            session.execute(query if text else OWN, None if text else [tenant])
        session.execute("COMMIT")
        assert codes(observing, name) == {"PGG103": 1}
        session.execute("BEGIN")
        session.execute(OWN, [B])
        session.execute("COMMIT")
        assert codes(observing, name) == {"PGG103": 1}


@pytest.mark.parametrize("text", [True, False])
def test_a_value_that_is_known_is_compared_with_another_setting(
    observing: RunningGuard, *, text: bool
) -> None:
    name = f"known{text}.py"
    query = f"SELECT note FROM items WHERE tenant_id = '{A}'"
    with connect(observing, name) as session:

        def own() -> None:
            for _ in range(3):
                session.execute(query if text else OWN, None if text else [A])

        for _ in range(2):
            session.execute("SELECT set_config('app.tenant_id', %s, false)", [A])
            session.execute("BEGIN")
            own()
            session.execute("COMMIT")
            own()
        assert codes(observing, name) == {}
        session.execute("BEGIN")
        session.execute(f"SET app.tenant_id = '{B}'")
        session.execute("ROLLBACK")
        own()
        assert codes(observing, name) == {}
        session.execute("SELECT set_config('app.tenant_id', %s, false)", [B])
        own()
        assert codes(observing, name) == {"PGG102": 3}


def test_a_savepoint_takes_a_setting_back(observing: RunningGuard) -> None:
    with connect(observing, "savepoint.py") as session:
        session.execute("BEGIN")
        session.execute(f"SET LOCAL app.tenant_id = '{A}'")
        session.execute("SAVEPOINT s")
        session.execute("ROLLBACK TO s")
        session.execute(OWN, [A])
        session.execute("COMMIT")
        assert codes(observing, "savepoint.py") == {}


def test_names_in_sql_carry_what_they_stand_for(blocking: RunningGuard, database: str) -> None:
    with connect(blocking, "names.py") as session:
        session.execute(f"PREPARE own AS SELECT note FROM items WHERE tenant_id = '{A}'")
        assert session.execute("EXECUTE own").fetchall() == [("one",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("PREPARE leak AS SELECT note FROM items")
        session.execute("BEGIN")
        session.execute(f"DECLARE c CURSOR FOR SELECT note FROM items WHERE tenant_id = '{A}'")
        assert session.execute("FETCH ALL FROM c").fetchall() == [("one",)]
        session.execute("COMMIT")
    assert codes(blocking, "names.py") == {"PGG101": 1}


def test_values_of_execute_are_compared_or_doubted(observing: RunningGuard) -> None:
    with connect(observing, "execute.py") as session:
        session.execute(
            "PREPARE two(uuid, uuid) AS SELECT note FROM items WHERE tenant_id IN ($1, $2)"
        )
        assert codes(observing, "execute.py") == {}
        session.execute(f"EXECUTE two('{A}', '{A}')")
        assert codes(observing, "execute.py") == {}
        session.execute(f"EXECUTE two('{A}', '{B}')")
        assert codes(observing, "execute.py") == {"PGG102": 1}
        session.execute(f"EXECUTE two('{A}', lower('{B}')::uuid)")
        assert codes(observing, "execute.py") == {"PGG102": 1, "PGG106": 1}


def test_a_row_for_each_of_two_tenants_is_refused_and_creating_tenants_is_not(
    blocking: RunningGuard,
) -> None:
    with connect(blocking, "rows.py") as session:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="PGG102"):
            session.execute("INSERT INTO items VALUES (7, %s, 'x'), (8, %s, 'x')", [A, B])
        new = [A.replace("1", "3"), A.replace("1", "4")]
        session.execute("INSERT INTO tenants VALUES (%s), (%s)", new)
        session.execute("DELETE FROM tenants WHERE id = %s", new[:1])
        session.execute("DELETE FROM tenants WHERE id = %s", new[1:])


def test_rows_of_two_tenants_are_proof_of_a_leak(observing: RunningGuard) -> None:
    with connect(observing, "leak.py") as session:
        assert len(session.execute("SELECT id, tenant_id FROM items").fetchall()) == 2
        assert codes(observing, "leak.py") == {"PGG101": 1, "PGG107": 1}
        session.execute("SELECT id FROM items WHERE note = %s", ["x"])
        assert codes(observing, "leak.py") == {"PGG101": 2, "PGG107": 1}


def test_a_row_chosen_by_its_key_is_known_by_what_was_seen(observing: RunningGuard) -> None:
    with connect(observing, "keys.py") as session:
        session.execute("SELECT id, tenant_id FROM items")
        by_id = "SELECT note FROM items WHERE id = %s"
        session.execute("BEGIN")
        session.execute(OWN, [A])
        session.execute(by_id, [1])
        assert codes(observing, "keys.py").keys() == {"PGG101", "PGG107"}
        session.execute(by_id, [2])
        assert codes(observing, "keys.py")["PGG102"] == 1
        session.execute("ROLLBACK")
        session.execute(by_id, [2])
        assert codes(observing, "keys.py")["PGG104"] == 1


def test_a_value_that_crosses_is_found_each_time(observing: RunningGuard) -> None:
    with connect(observing, "again.py") as session:
        session.execute(f"SET app.tenant_id = '{A}'")
        for tenant in (A, A, B, B, A, B):
            session.execute(OWN, [tenant])
        assert codes(observing, "again.py") == {"PGG102": 3}


def test_a_row_of_another_tenant_than_a_parameter_names_is_proof(observing: RunningGuard) -> None:
    query = (
        "SELECT i.tenant_id FROM items i JOIN items own ON own.tenant_id = %s AND i.note > own.note"
    )
    with connect(observing, "another.py") as session:
        assert session.execute(query, [A]).fetchall() == [(UUID(B),)]
        assert codes(observing, "another.py") == {"PGG101": 1, "PGG107": 1}


def test_a_row_of_another_tenant_than_the_setting_is_proof(observing: RunningGuard) -> None:
    with connect(observing, "other.py") as session:
        session.execute("SELECT set_config('app.tenant_id', %s, false)", [A])
        session.execute("SELECT tenant_id FROM items WHERE note = 'one'")
        assert codes(observing, "other.py") == {"PGG101": 1}
        session.execute("SELECT tenant_id FROM items WHERE note = 'two'")
        assert codes(observing, "other.py") == {"PGG101": 2, "PGG107": 1}


def test_results_that_were_described_when_they_were_prepared_are_looked_at(
    observing: RunningGuard,
) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(
            observing.url(), server_settings={"application_name": "described.py"}
        )
        # asyncpg describes once, in one batch with the first execution, and has its rows in binary.
        leak = await connection.prepare("SELECT tenant_id FROM items WHERE note <> $1")
        for word in ("x", "y", "z"):
            assert len(await leak.fetch(word)) == 2
        assert codes(observing, "described.py")["PGG107"] >= 2
        await connection.close()

    asyncio.run(main())
