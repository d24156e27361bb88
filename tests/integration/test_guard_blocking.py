"""Block and warn modes through real drivers: what a session gets, and how it goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import pytest
from guard import RunningGuard, settings_for, until
from psycopg.pq import DiagnosticField, TransactionStatus

from pgguard.core import named
from pgguard.findings import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgguard.launch.embedded import EmbeddedPostgres

pytestmark = pytest.mark.slow

SCHEMA = """
CREATE TABLE tenants (id text PRIMARY KEY);
CREATE TABLE items (
    id int PRIMARY KEY, tenant_id text NOT NULL REFERENCES tenants, note text
);
INSERT INTO tenants VALUES ('a'), ('b');
INSERT INTO items VALUES (1, 'a', 'one'), (2, 'b', 'two');
"""
LEAK = "SELECT * FROM items ORDER BY id"
OWN = "SELECT note FROM items WHERE tenant_id = 'a'"


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Iterator[str]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE blocking")
    url = postgres.url_of("blocking")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA)
    yield url
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE blocking WITH (FORCE)")


@pytest.fixture(scope="module", params=["session", "transparent"])
def blocking(request: pytest.FixtureRequest, database: str) -> Iterator[RunningGuard]:
    """A guard that blocks, in each way of pooling."""
    settings = settings_for(database, pool__mode=request.param, tenancy__mode="block")
    guard = RunningGuard(settings).start()
    yield guard
    guard.close()


@pytest.fixture
def session(blocking: RunningGuard) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(blocking.url(), autocommit=True, application_name="a.py") as connection:
        yield connection


def refused(session: psycopg.Connection[Any], text: str, *values: object) -> psycopg.Error:
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as raised:
        session.execute(text, values or None)
    return raised.value


def test_the_very_first_statement_is_judged_before_it_runs(database: str) -> None:
    settings = settings_for(database, pool__mode="session", tenancy__mode="block")
    guard = RunningGuard(settings).start()
    with psycopg.connect(guard.url(), autocommit=True) as connection:
        refused(connection, "DELETE FROM items")
    guard.close()
    with psycopg.connect(database) as direct:
        assert direct.execute("SELECT count(*) FROM items").fetchone() == (2,)


def test_a_blocked_query_says_which_rule_where_and_what_to_do(
    session: psycopg.Connection[Any],
) -> None:
    error = refused(session, LEAK)
    assert error.sqlstate == "42501"
    told = error.diag
    assert told.severity == "ERROR"
    assert told.message_primary == (
        "pgguard: statement is not scoped to a tenant: items: there is no condition on tenant_id"
        " (PGG101)"
    )
    assert told.message_detail is not None
    assert "Rule PGG101 (unscoped), not executed (tenancy.mode = block)" in told.message_detail
    assert told.message_hint == "Add WHERE tenant_id = $1. pgguard explain PGG101."
    assert session.execute(OWN).fetchall() == [("one",)]


@pytest.mark.parametrize("values", [(), ("one",)])
def test_outside_of_a_transaction_the_session_is_idle_again(
    session: psycopg.Connection[Any], values: tuple[str, ...]
) -> None:
    refused(session, "SELECT * FROM items" + " WHERE note = %s" * len(values), *values)
    assert session.info.transaction_status == TransactionStatus.IDLE
    assert session.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("values", [(), ("one",)])
def test_within_a_transaction_it_has_failed_until_it_is_rolled_back(
    session: psycopg.Connection[Any], values: tuple[str, ...]
) -> None:
    session.execute("BEGIN")
    session.execute("INSERT INTO items VALUES (3, 'a', 'x')")
    refused(session, "SELECT * FROM items" + " WHERE note = %s" * len(values), *values)
    assert session.info.transaction_status == TransactionStatus.INERROR
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        session.execute("SELECT 1")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        session.execute(LEAK)
    session.execute("ROLLBACK")
    assert session.info.transaction_status == TransactionStatus.IDLE
    assert session.execute("SELECT count(*) FROM items WHERE tenant_id = 'a'").fetchone() == (1,)


def test_a_rollback_in_the_same_text_does_not_open_the_gate(
    session: psycopg.Connection[Any],
) -> None:
    session.execute("BEGIN")
    refused(session, LEAK)
    refused(session, f"ROLLBACK; {LEAK}")
    session.execute("ROLLBACK")


def test_a_savepoint_brings_the_transaction_back(session: psycopg.Connection[Any]) -> None:
    session.execute("BEGIN")
    session.execute("SAVEPOINT s")
    refused(session, LEAK)
    session.execute("ROLLBACK TO s")
    assert session.execute(OWN).fetchall() == [("one",)]
    session.execute("COMMIT")


def test_a_string_with_several_statements_is_blocked_as_a_whole(
    session: psycopg.Connection[Any],
) -> None:
    refused(session, f"INSERT INTO items VALUES (9, 'a', 'x'); {LEAK}")
    assert session.execute("SELECT 1 FROM items WHERE tenant_id = 'a' AND id = 9").fetchall() == []


def test_in_a_pipeline_what_came_before_is_answered_and_what_follows_is_skipped(
    session: psycopg.Connection[Any],
) -> None:
    answers: list[Any] = []

    def run() -> None:
        with session.pipeline():
            answers.append(session.execute("SELECT 1"))
            session.execute("SELECT * FROM items WHERE note = %s", ["one"])
            session.execute("DELETE FROM items WHERE tenant_id = %s", ["a"])

    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run()
    assert answers[0].fetchall() == [(1,)]
    assert session.info.transaction_status == TransactionStatus.IDLE
    assert session.execute(OWN).fetchall() == [("one",)]


def test_a_statement_that_was_prepared_before_it_was_bad_is_blocked_when_it_is_bound(
    session: psycopg.Connection[Any], database: str
) -> None:
    with psycopg.connect(database, autocommit=True) as direct:
        direct.execute("CREATE TABLE IF NOT EXISTS later (id int, note text)")
    query = "SELECT note FROM later WHERE note = %s"
    session.execute(query, ["x"], prepare=True)
    session.execute("ALTER TABLE later ADD tenant_id text")
    refused(session, query, "x")
    assert session.info.transaction_status == TransactionStatus.IDLE
    session.execute("DROP TABLE later")


def test_a_text_too_long_to_be_checked_is_refused(
    session: psycopg.Connection[Any], blocking: RunningGuard
) -> None:
    padding = "x" * blocking.settings.tenancy.max_statement
    error = refused(session, f"SELECT '{padding}'")
    assert error.diag.message_primary is not None
    assert "was not checked" in error.diag.message_primary
    assert session.execute("SELECT 1").fetchone() == (1,)


def test_a_long_text_is_read_first(session: psycopg.Connection[Any]) -> None:
    padding = "x" * 300_000
    refused(session, f"SELECT '{padding}' FROM items")
    assert session.execute(f"SELECT length('{padding}')").fetchone() == (300_000,)


def test_a_text_in_an_encoding_that_we_do_not_read_is_refused(
    blocking: RunningGuard,
) -> None:
    with psycopg.connect(blocking.url(), autocommit=True) as session:
        session.execute("SET client_encoding = 'SJIS'")
        refused(session, "SELECT 1")
        assert session.info.transaction_status == TransactionStatus.IDLE


def test_what_postgres_rejects_itself_is_its_own_word(session: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.SyntaxError, match="syntax error at or near"):
        session.execute("SELEC 1")
    with pytest.raises(psycopg.errors.UndefinedTable):
        session.execute("SELECT * FROM nowhere")


def test_asyncpg_is_refused_when_it_prepares_and_goes_on(blocking: RunningGuard) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(blocking.url())
        for _ in range(2):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch("SELECT * FROM items WHERE note = $1", "one")
        assert await connection.fetchval("SELECT note FROM items WHERE tenant_id = $1", "a")
        async with connection.transaction():
            await connection.execute("INSERT INTO items VALUES (5, $1, $2)", "a", "x")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with connection.transaction():
                    await connection.fetch("SELECT * FROM items WHERE note = $1", "two")
            await connection.execute("DELETE FROM items WHERE tenant_id = $1 AND id = 5", "a")
        await connection.close()

    asyncio.run(main())


def test_a_blocked_statement_is_counted_and_reported_once(
    session: psycopg.Connection[Any], blocking: RunningGuard
) -> None:
    query = "SELECT id FROM items WHERE note = %s"
    for _ in range(3):
        refused(session, query, "x")
    (found,) = until(
        lambda: [
            tally
            for client in list(blocking.guard.hub.clients.values())
            for statement, tally in client.flagged.items()
            if statement.masked == query.replace("%s", "$1")
        ]
    )
    assert (found.count, found.action) == (3, "block")


def test_a_warning_comes_once_and_the_rows_come_too(database: str) -> None:
    settings = settings_for(database, pool__mode="session", tenancy__mode="warn")
    guard = RunningGuard(settings).start()
    heard: list[str] = []
    with psycopg.connect(guard.url(), autocommit=True) as connection:
        connection.add_notice_handler(lambda told: heard.append(str(told.message_primary)))
        until(lambda: len(connection.execute(LEAK).fetchall()) == 2 and heard)
        for _ in range(3):
            assert len(connection.execute(LEAK).fetchall()) == 2
    guard.close()
    assert len(heard) == 1
    assert "(PGG101)" in heard[0]


OPTIONAL = "SELECT note FROM items WHERE tenant_id = COALESCE({}, tenant_id)"


@pytest.mark.parametrize(
    "text",
    [OPTIONAL.format("%s"), "SELECT note FROM items WHERE %s::text IS NULL OR tenant_id = %s"],
)
def test_a_filter_that_null_takes_away_is_judged_by_each_execution(
    session: psycopg.Connection[Any], text: str
) -> None:
    for prepare in (False, True):
        for tenant, note in (("a", "one"), ("b", "two")):
            found = session.execute(text, [tenant] * text.count("%s"), prepare=prepare)
            assert found.fetchall() == [(note,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"where \$1 is NULL"):
            session.execute(text, [None] * text.count("%s"), prepare=prepare)
    assert session.execute(OWN).fetchall() == [("one",)]


def test_binary_drivers_are_judged_by_each_execution(blocking: RunningGuard) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(blocking.url())
        own = await connection.prepare(OPTIONAL.format("$1"))
        assert [row["note"] for row in await own.fetch("a")] == ["one"]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await own.fetch(None)
        assert [row["note"] for row in await own.fetch("b")] == ["two"]
        await connection.close()

    asyncio.run(main())


def test_the_values_of_execute_are_those_of_what_was_prepared(
    session: psycopg.Connection[Any],
) -> None:
    session.execute(
        "PREPARE two (text, text) AS SELECT note FROM items WHERE tenant_id IN ($1, $2)"
    )
    session.execute("PREPARE own (text) AS " + OPTIONAL.format("$1"))
    assert session.execute("EXECUTE two('a', 'a')").fetchall() == [("one",)]
    assert session.execute("EXECUTE own('b')").fetchall() == [("two",)]
    assert "2 different tenants" in str(refused(session, "EXECUTE two('a', 'b')"))
    assert "where $1 is NULL" in str(refused(session, "EXECUTE own(NULL)"))
    # By Parse and Bind, without a name and with one.
    result = session.pgconn.exec_params(b"EXECUTE two('a', 'b')", [])
    assert result.error_field(DiagnosticField.SQLSTATE) == b"42501"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("EXECUTE two('b', 'a')", prepare=True)
    session.execute("DEALLOCATE two")
    session.execute("DEALLOCATE own")


def test_literals_of_what_was_prepared_are_its_own(session: psycopg.Connection[Any]) -> None:
    for name, tenant in (("one", "a"), ("other", "b")):
        session.execute(
            f"PREPARE {name} (text) AS SELECT note FROM items WHERE tenant_id IN ('{tenant}', $1)"
        )
    assert session.execute("EXECUTE other('b')").fetchall() == [("two",)]
    refused(session, "EXECUTE other('a')")
    session.execute("DEALLOCATE ALL")


def test_a_name_that_was_prepared_twice_does_not_pass_for_the_second(
    blocking: RunningGuard,
) -> None:
    with psycopg.connect(blocking.url(), autocommit=True, application_name="twice.py") as session:
        session.execute("PREPARE p (text) AS " + OPTIONAL.format("$1"))
        with pytest.raises(psycopg.errors.DuplicatePreparedStatement):
            session.execute("PREPARE p (text) AS SELECT note FROM items WHERE tenant_id = $1")
        session.execute("EXECUTE p('a')")
        verdicts = blocking.ask(lambda one: one.hub.clients.get("twice.py").counters.statements)
        assert verdicts[Verdict.unknown] == 2
        session.execute("DEALLOCATE ALL")
        session.execute("PREPARE p (text) AS SELECT note FROM items WHERE tenant_id = $1")
        assert session.execute("EXECUTE p('a')").fetchall() == [("one",)]


def test_values_of_execute_that_are_computed_are_not_taken_for_one_tenant(
    blocking: RunningGuard,
) -> None:
    with psycopg.connect(
        blocking.url(), autocommit=True, application_name="computed.py"
    ) as session:
        session.execute(
            "PREPARE two (text, text) AS SELECT note FROM items WHERE tenant_id IN ($1, $2)"
        )
        session.execute("EXECUTE two('a', lower('B'))")
        client = blocking.ask(lambda one: one.hub.clients.get("computed.py").counters.statements)
        assert client[Verdict.unknown] == 1
        session.execute("DEALLOCATE two")


def test_what_one_string_prepares_and_executes_is_judged_by_its_values(
    blocking: RunningGuard,
) -> None:
    text = (
        "PREPARE two (text, text) AS SELECT note FROM items WHERE tenant_id IN ($1, $2);"
        " EXECUTE two('a', '{}'); DEALLOCATE two"
    )
    with psycopg.connect(blocking.url(), autocommit=True, application_name="string.py") as session:
        refused(session, text.format("b"))
        session.execute(text.format("a"))
        refused(session, "SELECT 1; " + LEAK + "; " + text.format("a"))
        refused(session, "DECLARE c CURSOR WITH HOLD FOR " + LEAK + "; FETCH ALL FROM c")
        counted = blocking.ask(lambda one: one.hub.clients.get("string.py").counters.statements)
        assert counted[Verdict.unknown] == 0


def test_a_bind_of_what_prepare_has_named_is_judged(session: psycopg.Connection[Any]) -> None:
    session.execute("PREPARE own (text) AS " + OPTIONAL.format("$1"))
    result = session.pgconn.exec_prepared(b"own", [b"a"])
    assert result.get_value(0, 0) == b"one"
    result = session.pgconn.exec_prepared(b"own", [None])
    assert result.error_field(DiagnosticField.SQLSTATE) == b"42501"
    session.execute("DEALLOCATE own")


def test_a_prepared_statement_that_is_forgotten_is_refused_as_one_that_is_not_there(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named, "PREPARED_LIMIT", 2)
    settings = settings_for(database, pool__mode="session", tenancy__mode="block")
    guard = RunningGuard(settings).start()
    with psycopg.connect(guard.url(), autocommit=True) as session:
        for name in (b"one", b"two", b"three"):
            session.pgconn.prepare(name, OWN.encode())
        result = session.pgconn.exec_prepared(b"one", [])
        assert result.error_field(DiagnosticField.SQLSTATE) == b"26000"
        assert b"statement was not checked" in (
            result.error_field(DiagnosticField.MESSAGE_PRIMARY) or b""
        )
        assert session.pgconn.exec_prepared(b"three", []).get_value(0, 0) == b"one"
        session.execute("DEALLOCATE one")
        session.pgconn.prepare(b"one", OWN.encode())
        assert session.pgconn.exec_prepared(b"one", []).get_value(0, 0) == b"one"
    guard.close()
