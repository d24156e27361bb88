"""What a table sets off has changed a moment ago: no state of a function comes to a neighbour.

A writes, B changes what that sets off, A writes again; then two neighbours take both servers. The
function makes a setting, which a neighbour would see.
"""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from guard import RunningGuard, settings_for, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgguard.launch.embedded import EmbeddedPostgres

pytestmark = pytest.mark.slow

SCHEMA = """
CREATE FUNCTION sets() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN SET lock_timeout = '6s'; RETURN 1; END $$;
CREATE FUNCTION on_write() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN SET lock_timeout = '6s'; RETURN NULL; END $$;
CREATE FUNCTION harmless() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
CREATE TABLE known (x int, y int CHECK (harmless() = 1));
CREATE TABLE parent (x int PRIMARY KEY);
"""
TRIGGER = "CREATE TRIGGER t AFTER {} ON {} FOR EACH ROW EXECUTE FUNCTION on_write()"
REPLACED = """
CREATE OR REPLACE FUNCTION harmless() RETURNS int VOLATILE LANGUAGE plpgsql AS
  $$ BEGIN SET lock_timeout = '6s'; RETURN 1; END $$
"""
WRITE = "INSERT INTO known VALUES (1)"
LOOK = "SHOW lock_timeout"

CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "trigger": ((WRITE,), (TRIGGER.format("INSERT", "known"),), (WRITE,)),
    "trigger in a transaction of one's own": (
        (WRITE,),
        (),
        ("BEGIN", TRIGGER.format("INSERT", "known"), WRITE, "COMMIT"),
    ),
    "trigger by DO": (
        (WRITE,),
        (f"DO $do$ BEGIN EXECUTE '{TRIGGER.format('INSERT', 'known')}'; END $do$",),
        (WRITE,),
    ),
    "rule": ((WRITE,), ("CREATE RULE r AS ON INSERT TO known DO ALSO SELECT sets()",), (WRITE,)),
    "default": ((WRITE,), ("ALTER TABLE known ALTER y SET DEFAULT sets()",), (WRITE,)),
    "function": (
        (WRITE,),
        (
            REPLACED,
        ),
        (WRITE,),
    ),
    "domain": (
        (),
        ("CREATE DOMAIN checked AS int CHECK (sets() > 0)",),
        ("CREATE TABLE made (x checked)", "INSERT INTO made VALUES (1)"),
    ),
    "view": ((), ("CREATE VIEW shown AS SELECT sets() AS n",), ("SELECT * FROM shown",)),
    "view over a table with a trigger": (
        ("CREATE TABLE made (x int)",),
        ("CREATE VIEW shown AS TABLE made", TRIGGER.format("INSERT", "made")),
        ("INSERT INTO shown VALUES (1)",),
    ),
    "partition": (
        ("CREATE TABLE whole (x int) PARTITION BY LIST (x)",),
        (
            "CREATE TABLE part (x int CHECK (sets() > 0))",
            "ALTER TABLE whole ATTACH PARTITION part FOR VALUES IN (1)",
        ),
        ("INSERT INTO whole VALUES (1)",),
    ),
    "child": (
        (WRITE,),
        (
            "CREATE TABLE child () INHERITS (known)",
            "INSERT INTO child VALUES (1)",
            TRIGGER.format("UPDATE", "child"),
        ),
        ("UPDATE known SET x = 2",),
    ),
    "cascade": (
        ("INSERT INTO parent VALUES (1)",),
        (
            "CREATE TABLE made (x int REFERENCES parent ON DELETE CASCADE)",
            "INSERT INTO made VALUES (1)",
            TRIGGER.format("DELETE", "made"),
        ),
        ("DELETE FROM parent",),
    ),
    "another schema": (
        ("CREATE TABLE made (x int)",),
        (
            "CREATE SCHEMA evil",
            "CREATE TABLE evil.made (x int)",
            TRIGGER.format("INSERT", "evil.made"),
        ),
        ("SET search_path = evil, public", "INSERT INTO made VALUES (1)"),
    ),
    "temporary table": (
        (WRITE,),
        (),
        ("CREATE TEMP TABLE known (x int DEFAULT sets())", "INSERT INTO known DEFAULT VALUES"),
    ),
    "temporary table, dropped": (
        (WRITE,),
        (),
        (
            "CREATE TEMP TABLE known (x int)",
            TRIGGER.format("INSERT", "known"),
            "INSERT INTO known VALUES (1)",
            "DISCARD TEMP",
        ),
    ),
    "undone, and made by somebody else": (
        ("BEGIN", "CREATE TABLE made (x int)", "ROLLBACK"),
        ("CREATE TABLE IF NOT EXISTS made (x int CHECK (sets() > 0))",),
        ("INSERT INTO made VALUES (1)",),
    ),
    "undone to a savepoint": (
        (),
        (),
        (
            "BEGIN",
            "SAVEPOINT s",
            "CREATE TABLE made (x int)",
            "ROLLBACK TO s",
            "CREATE TABLE IF NOT EXISTS made (x int CHECK (sets() > 0))",
            "INSERT INTO made VALUES (1)",
            "COMMIT",
        ),
    ),
}  # fmt: skip

_numbers = count()


@pytest.fixture(scope="module")
def template(postgres: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE doubts")
        with psycopg.connect(postgres.url_of("doubts"), autocommit=True) as other:
            other.execute(SCHEMA)
        yield postgres
        connection.execute("DROP DATABASE doubts")


@pytest.fixture
def guard(template: EmbeddedPostgres) -> Iterator[RunningGuard]:
    """A client has two servers; the database is new."""
    name = f"doubts_{next(_numbers)}"
    with psycopg.connect(template.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE doubts")  # type: ignore[arg-type]
        settings = settings_for(
            template.url_of(name),
            pool__mode="transparent",
            limits__connection_limit=2,
            limits__pool_timeout="5s",
        )
        guard = RunningGuard(settings).start()
        yield guard
        guard.close()
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


def known(guard: RunningGuard) -> None:
    """The catalogue was read, and says that the table is harmless."""

    def has_it(it: Any) -> bool:
        judges = it.hub.gate.judges.values()
        return any(judge.model is not None and judge.model.by_name for judge in judges)

    until(lambda: guard.ask(has_it))


def asked(session: psycopg.Connection[Any]) -> Any:
    """What it sees, or the SQLSTATE."""
    try:
        return session.execute(LOOK).fetchall()
    except psycopg.Error as error:
        return error.sqlstate


@pytest.mark.parametrize("name", CASES)
def test_a_neighbour_sees_nothing_of_it(name: str, guard: RunningGuard) -> None:
    before, between, after = CASES[name]
    a, b = guard.connect("one"), guard.connect("one")
    a.execute("SELECT 1")
    known(guard)
    for text in before:
        a.execute(text)
    for text in between:
        b.execute(text)
    for text in after:
        a.execute(text)
    assert a.execute(LOOK).fetchone() == ("6s",), "the function has run"
    b.close()
    first, second = guard.connect("one"), guard.connect("one")
    first.execute("BEGIN")
    # Whose server nobody can take keeps it, and the second is refused.
    assert asked(second) in ([("0",)], "53300")
    assert first.execute(LOOK).fetchone() == ("0",)
    for session in (first, second):
        session.close()
    assert a.execute(LOOK).fetchone() == ("6s",)
    a.close()


def test_a_statement_that_waits_for_the_ddl_itself_is_suspected(guard: RunningGuard) -> None:
    a, b = guard.connect("one"), guard.connect("one")
    a.execute(WRITE)
    known(guard)
    b.execute("BEGIN")
    b.execute(TRIGGER.format("INSERT", "known"))
    writer = threading.Thread(target=a.execute, args=(WRITE,))
    writer.start()

    def waits(it: Any) -> bool:
        return sum(bool(server.pipeline.entries) for server in it.hub.servers) == 1

    until(lambda: guard.ask(waits))
    b.execute("COMMIT")
    writer.join()
    b.close()
    first, second = guard.connect("one"), guard.connect("one")
    for session in (first, second):
        session.execute("BEGIN")
        assert session.execute(LOOK).fetchone() == ("0",)
    for session in (first, second, a):
        session.close()


def test_a_new_table_lets_its_session_go_without_a_question(guard: RunningGuard) -> None:
    a = guard.connect("one")
    a.execute("SELECT 1")
    known(guard)
    with a.transaction():
        a.execute("CREATE TABLE made (id serial PRIMARY KEY, at timestamptz DEFAULT now())")
        a.execute("INSERT INTO made DEFAULT VALUES")
    a.execute("INSERT INTO made DEFAULT VALUES")
    assert guard.ask(lambda it: it.hub.counters.pinned_transactions) == {}
    a.close()


def test_code_that_deallocates_takes_nothing_of_others_away(postgres: EmbeddedPostgres) -> None:
    guard = RunningGuard(settings_for(postgres.url, limits__connection_limit=1)).start()
    other, owner = guard.connect("names"), guard.connect("names")
    for session in (other, owner):
        assert session.execute("SELECT 7", prepare=True).fetchall() == [(7,)]
    owner.execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")
    assert other.execute("SELECT 7", prepare=True).fetchall() == [(7,)]
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        owner.execute("SELECT 7", prepare=True)
    for session in (other, owner):
        session.close()
    guard.close()
