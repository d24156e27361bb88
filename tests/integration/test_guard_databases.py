"""Statements about databases do not wait for us, and each database has a model of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from guard import until

from pgguard import app
from pgguard.findings import Verdict
from pgguard.net import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from guard import RunningGuard

    from pgguard.findings import Finding

pytestmark = pytest.mark.slow

TENANTS = "CREATE TABLE tenants (id int PRIMARY KEY)"
BOOKINGS = "CREATE TABLE bookings (id int, tenant_id int REFERENCES tenants)"


@pytest.fixture
def admin(database: Any) -> Iterator[psycopg.Connection[Any]]:
    """A direct connection to the guarded database."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        yield connection


def findings(guard: RunningGuard, code: str = "PGG101") -> list[Finding]:
    return [f for f in guard.ask(lambda g: g.findings()) if f.code == code]


def verdicts(guard: RunningGuard, name: str) -> dict[str, int]:
    counts = guard.client(name).counters.statements
    return {verdict.name: counts[verdict] for verdict in Verdict if counts[verdict]}


def settled(guard: RunningGuard) -> bool:
    return guard.ask(lambda g: g.hub.gate.waiting() == 0)


# T27


@pytest.mark.parametrize("simple", [True, False], ids=["simple", "extended"])
def test_databases_are_made_and_dropped_right_after_look_ups(
    start_guard: Callable[..., RunningGuard], postgres: Any, database: Any, simple: bool
) -> None:
    guard = start_guard(database.url)
    name = f"made_{database.name}"
    with guard.connect("inside") as inside, guard.connect("admin", database="postgres") as session:
        until(lambda: guard.ask(lambda g: g.hub.services), "a service connection")
        inside.close()
        prepare = None if simple else True
        session.execute(f"CREATE DATABASE {name} TEMPLATE {database.name}", prepare=prepare)
        with guard.connect("inside", database=name) as other:
            other.execute("SELECT 1")
        until(lambda: name in guard.guard.hub.gate.judges, "the judge")
        until(lambda: guard.guard.hub.gate.judges[name].version > 0, "the catalogue")
        session.execute(f"DROP DATABASE {name}", prepare=prepare)
    assert not guard.ask(lambda g: g.hub.blocking)


def test_look_ups_go_on_after_a_statement_about_databases(guard: RunningGuard) -> None:
    with guard.connect("admin") as session:
        with pytest.raises(psycopg.errors.InvalidCatalogName):
            session.execute("DROP DATABASE no_such_database")
        session.execute("BEGIN")
        with pytest.raises(psycopg.errors.ActiveSqlTransaction):
            session.execute("DROP DATABASE no_such_database")
        assert not guard.ask(lambda g: g.hub.blocking)
        session.execute("ROLLBACK")
        session.execute("BEGIN; SELECT current_database()")
        assert not guard.ask(lambda g: g.hub.blocking)
        session.execute("COMMIT")


# Models


def test_an_unscoped_statement_is_one_finding_with_count_and_client(
    guard: RunningGuard, admin: psycopg.Connection[Any]
) -> None:
    admin.execute(TENANTS)
    admin.execute(BOOKINGS)
    with guard.connect("tests/a.py") as session:
        for number in range(3):
            session.execute(f"SELECT id FROM bookings WHERE id > {number}")
        session.execute("SELECT id FROM bookings WHERE tenant_id = 1")
        session.execute("SELECT 1")
    until(lambda: settled(guard), "the verdicts")
    (finding,) = findings(guard)
    assert (finding.client, finding.count) == ("tests/a.py", 3)
    assert [relation.name for relation in finding.relations] == ["bookings"]
    assert "> 1" not in finding.text
    assert verdicts(guard, "tests/a.py") == {"no_tenant_data": 1, "scoped": 1, "unscoped": 3}
    (shown,) = [f for f in guard.http("/api/v1/findings")["findings"] if f["code"] == "PGG101"]
    assert shown["count"] == 3
    metrics = guard.http("/metrics")
    labels = 'code="PGG101",class="unscoped",client="tests/a.py",table="bookings",action="observe"'
    assert f"pgguard_findings_total{{{labels}}} 3" in metrics.splitlines()


def test_prepared_statements_are_counted_at_each_execution(
    guard: RunningGuard, admin: psycopg.Connection[Any]
) -> None:
    admin.execute(TENANTS)
    admin.execute(BOOKINGS)
    with guard.connect("p") as session:
        for number in range(7):
            session.execute("SELECT id FROM bookings WHERE id = %s + 0", [number], prepare=True)
    until(lambda: settled(guard), "the verdicts")
    assert sum(guard.client("p").counters.statements) == 7


def test_tables_made_through_the_guard_are_known_to_the_next_statement(
    guard: RunningGuard,
) -> None:
    with guard.connect("d") as session:
        session.execute(TENANTS)
        session.execute(BOOKINGS)
        session.execute("SELECT id FROM bookings")
    until(lambda: settled(guard), "the verdicts", 5)
    assert len(findings(guard)) == 1


def test_a_table_made_beside_the_guard_is_known_once_it_is_named(
    guard: RunningGuard, admin: psycopg.Connection[Any]
) -> None:
    with guard.connect("n") as session:
        session.execute("SELECT 1")
        until(lambda: guard.guard.hub.gate.judges, "the judge")
        (judge,) = guard.guard.hub.gate.judges.values()
        until(lambda: judge.version > 0, "the catalogue")
        admin.execute(TENANTS)
        admin.execute(BOOKINGS)
        session.execute("SELECT id FROM bookings")
        until(lambda: settled(guard), "the verdicts", 5)
        assert len(findings(guard)) == 1


def test_ddl_beside_the_guard_is_noticed(
    start_guard: Callable[..., RunningGuard],
    database: Any,
    admin: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "EVERY", 0.2)
    monkeypatch.setattr(watch, "AT_MOST_EVERY", 0.1)
    admin.execute(TENANTS)
    admin.execute("CREATE TABLE bookings (id int)")
    guard = start_guard(database.url)
    with guard.connect("m") as session:
        session.execute("SELECT id FROM bookings")
        until(lambda: settled(guard), "the verdict")
        assert findings(guard) == []
        admin.execute("ALTER TABLE bookings ADD tenant_id int REFERENCES tenants")

        def found() -> bool:
            session.execute("SELECT id FROM bookings")
            return bool(findings(guard))

        until(found, "the finding", 5)


def test_two_databases_have_two_models(
    guard: RunningGuard, postgres: Any, database: Any, admin: psycopg.Connection[Any]
) -> None:
    admin.execute(TENANTS)
    admin.execute(BOOKINGS)
    other = f"other_{database.name}"
    with psycopg.connect(postgres.url, autocommit=True) as maker:
        maker.execute(f"CREATE DATABASE {other}")
        with psycopg.connect(postgres.url_of(other), autocommit=True) as direct:
            direct.execute("CREATE TABLE bookings (id int)")
        with guard.connect("here") as one, guard.connect("there", database=other) as two:
            one.execute("SELECT id FROM bookings")
            two.execute("SELECT id FROM bookings")
        until(lambda: settled(guard), "the verdicts")
        assert [finding.client for finding in findings(guard)] == ["here"]
        assert verdicts(guard, "there") == {"no_tenant_data": 1}
        guard.idle()
        maker.execute(f"DROP DATABASE {other} WITH (FORCE)")


def test_texts_in_another_encoding_are_unknown_never_scoped(
    guard: RunningGuard, admin: psycopg.Connection[Any]
) -> None:
    admin.execute(TENANTS)
    admin.execute(BOOKINGS)
    with guard.connect("sjis") as session:
        session.execute("SELECT id FROM bookings WHERE tenant_id = 1")
        session.execute("SET client_encoding TO 'SJIS'")
        session.execute("SELECT id FROM bookings WHERE tenant_id = 1")
        session.execute("SELECT id FROM bookings WHERE tenant_id = 1")
        session.execute("SET client_encoding TO 'UTF8'")
    with guard.connect("sjis", client_encoding="SJIS") as session:
        session.execute("SELECT id FROM bookings WHERE tenant_id = 2")
    with guard.connect("sjis", options="-c standard_conforming_strings=off") as session:
        session.execute("SELECT id FROM bookings WHERE tenant_id = 3")
    until(lambda: settled(guard), "the verdicts")
    counts = verdicts(guard, "sjis")
    assert counts["scoped"] == 1
    assert counts["unknown"] >= 4


def test_a_long_statement_is_judged_beside_the_loop(
    guard: RunningGuard, admin: psycopg.Connection[Any]
) -> None:
    admin.execute(TENANTS)
    admin.execute(BOOKINGS)
    numbers = ",".join(map(str, range(60_000)))
    with guard.connect("long") as session:
        session.execute(f"SELECT id FROM bookings WHERE id IN ({numbers})")
        assert session.execute("SELECT 1").fetchone() == (1,)
        until(lambda: settled(guard), "the verdict")
    assert [finding.client for finding in findings(guard)] == ["long"]


def test_a_long_statement_that_nobody_could_judge_is_unknown_at_the_end(
    guard: RunningGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "LAST_LOOK", 0.2)
    with guard.connect("long") as session:
        session.execute("SELECT '" + "x" * 200_000 + "'")
    guard.stop()
    assert sum(guard.client("long").counters.statements) == 1
    assert verdicts(guard, "long").keys() <= {"unknown", "no_tenant_data"}


def test_no_statement_harms_the_process(guard: RunningGuard) -> None:
    with guard.connect("odd") as session:
        for text in ("SELECT " + "(" * 5_000 + "1" + ")" * 5_000, "SELECT '\udcff", "\x01", ";;"):
            try:
                session.execute(text.encode("utf-8", "surrogateescape"))
            except psycopg.Error:
                session.execute("ROLLBACK")
        assert session.execute("SELECT 1").fetchone() == (1,)
    until(lambda: settled(guard), "the verdicts")


# T3, T26


@pytest.mark.parametrize(
    "gone",
    [
        "DROP DATABASE {}",
        "ALTER DATABASE {} RENAME TO {}_old",
        "ALTER DATABASE {} ALLOW_CONNECTIONS false",
        "REVOKE CONNECT ON DATABASE {} FROM PUBLIC",
    ],
)
def test_who_may_connect_no_more_is_told_so_at_the_login(
    start_guard: Callable[..., RunningGuard], database: Any, gone: str
) -> None:
    guard = start_guard(database.url)
    name, role = f"gone_{database.name}", f"plain_{database.name}"
    with guard.connect("admin", database="postgres") as admin:
        admin.execute(f"CREATE DATABASE {name}")
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'plain'")
        try:
            for _ in range(2):
                with guard.connect("a", database=name, user=role, password="plain") as session:
                    session.execute("SELECT 1")
            admin.execute(gone.format(name, name))
            with pytest.raises(psycopg.OperationalError, match=name):
                guard.connect("a", database=name, user=role, password="plain")
        finally:
            for left in (name, f"{name}_old"):
                admin.execute(f"DROP DATABASE IF EXISTS {left} WITH (FORCE)")
            admin.execute(f"DROP ROLE {role}")
