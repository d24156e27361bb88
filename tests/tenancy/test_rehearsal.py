"""Sessions that nobody has: settings, roles, and names that outlive a statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgguard.findings import Verdict
from pgguard.tenancy.rehearsal import Rehearsal

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgguard.tenancy.judge import Judge

A = "0e3c0b7e-8a52-4a8e-9d5c-0a5b8f6f0c11"
B = "11111111-1111-4111-8111-111111111111"
SETTING = "current_setting('app.tenant_id')::uuid"
OWN = f"UPDATE bookings SET status = 'x' WHERE tenant_id = {SETTING}"


@pytest.fixture
def session(judge_of: Callable[[str], Judge]) -> Callable[..., Rehearsal]:
    def begin(*setup: str, tenant: str | None = None) -> Rehearsal:
        rehearsal = Rehearsal(judge_of("booking"), tenant)
        for text in setup:
            rehearsal.run(text)
        return rehearsal

    return begin


def verdict(session: Rehearsal, sql: str, *params: str | None) -> Verdict:
    return Verdict(session.judge(sql, params or None).verdict)


def test_values_of_parameters_are_compared_by_type(session: Callable[..., Rehearsal]) -> None:
    sql = "SELECT * FROM bookings WHERE tenant_id IN ($1, $2)"
    assert verdict(session(), sql) is Verdict.scoped
    assert verdict(session(), sql, A, A.upper()) is Verdict.scoped
    assert verdict(session(), sql, A, B) is Verdict.cross_tenant


def test_a_null_decides_what_it_decides_for_postgres(session: Callable[..., Rehearsal]) -> None:
    sql = "SELECT * FROM bookings WHERE $1::uuid IS NULL OR tenant_id = $1"
    assert verdict(session(), sql) is not Verdict.scoped
    assert verdict(session(), sql, None) is Verdict.unscoped


def test_what_the_text_says_is_kept_where_values_change_nothing(
    session: Callable[..., Rehearsal],
) -> None:
    statement = session().judge("SELECT * FROM bookings WHERE status = $1", ["x"])
    assert statement.relations[0].fix == "add AND tenant_id = $2"


@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        ((), Verdict.scoped),
        ((f"SET app.tenant_id = '{A}'",), Verdict.scoped),
        ((f"SET app.tenant_id = '{B}'",), Verdict.cross_tenant),
        ((f"SELECT set_config('app.tenant_id', '{B}', false)",), Verdict.cross_tenant),
        ((f"SET app.tenant_id = '{B}'", "RESET app.tenant_id"), Verdict.scoped),
        (("BEGIN", f"SET LOCAL app.tenant_id = '{B}'"), Verdict.cross_tenant),
        (("BEGIN", f"SET LOCAL app.tenant_id = '{B}'", "COMMIT"), Verdict.scoped),
        (("BEGIN", f"SET app.tenant_id = '{B}'", "COMMIT"), Verdict.cross_tenant),
        (("BEGIN", f"SET app.tenant_id = '{B}'", "ROLLBACK"), Verdict.scoped),
    ],
)
def test_the_setting_of_the_session_is_a_tenant_too(
    session: Callable[..., Rehearsal], setup: tuple[str, ...], expected: Verdict
) -> None:
    insert = f"INSERT INTO bookings (tenant_id, package_id) VALUES ('{A}', 1), ({SETTING}, 1)"
    assert verdict(session(*setup), insert) is expected


def test_the_tenant_of_the_line_is_that_of_the_setting(session: Callable[..., Rehearsal]) -> None:
    insert = f"INSERT INTO bookings (tenant_id, package_id) VALUES ($1, 1), ({SETTING}, 1)"
    assert verdict(session(tenant=A), insert, A) is Verdict.scoped
    assert verdict(session(tenant=B), insert, A) is Verdict.cross_tenant


def test_what_was_prepared_is_judged_when_it_is_executed(
    session: Callable[..., Rehearsal],
) -> None:
    prepared = session(
        "PREPARE two AS SELECT * FROM bookings WHERE tenant_id IN ($1, $2)",
        "PREPARE every AS DELETE FROM bookings",
    )
    assert verdict(prepared, f"EXECUTE two('{A}', '{A}')") is Verdict.scoped
    assert verdict(prepared, f"EXECUTE two('{A}', '{B}')") is Verdict.cross_tenant
    assert verdict(prepared, "EXPLAIN ANALYZE EXECUTE every") is Verdict.unscoped
    assert verdict(prepared, f"SELECT 1; EXECUTE two('{A}', '{B}'); SELECT 1") is (
        Verdict.cross_tenant
    )
    prepared.run("DEALLOCATE every")
    assert verdict(prepared, "EXECUTE every") is Verdict.unknown
    assert verdict(session(), "PREPARE p AS DELETE FROM bookings; EXECUTE p") is Verdict.unscoped


def test_what_a_cursor_fetches_is_that_of_its_query(session: Callable[..., Rehearsal]) -> None:
    opened = session("BEGIN", "DECLARE c CURSOR FOR SELECT * FROM bookings")
    assert verdict(opened, "FETCH ALL FROM c") is Verdict.unscoped
    opened.run("CLOSE c")
    assert verdict(opened, "FETCH ALL FROM c") is Verdict.unknown


def test_judging_leaves_nothing_behind(session: Callable[..., Rehearsal]) -> None:
    one = session()
    one.judge("PREPARE p AS SELECT 1; EXECUTE p")
    assert one.state.prepared == {}


@pytest.mark.parametrize(
    "setting", ["SET standard_conforming_strings = off", "SET client_encoding = 'SJIS'"]
)
def test_a_text_that_reads_otherwise_for_the_server_is_not_read(
    session: Callable[..., Rehearsal], setting: str
) -> None:
    scoped = OWN
    assert verdict(session(), scoped) is Verdict.scoped
    assert session(setting).judge(scoped).code == "PGG901"
    assert verdict(session(setting, "RESET ALL"), scoped) is Verdict.scoped


@pytest.mark.parametrize(
    ("setup", "role"),
    [
        ((), "pgguard"),
        (("SET ROLE app",), "app"),
        (("SET ROLE app", "RESET ROLE"), "pgguard"),
        (("SET ROLE app", "SET ROLE NONE"), "pgguard"),
        (("SET SESSION AUTHORIZATION app",), "app"),
        (("BEGIN", "SET LOCAL ROLE app", "COMMIT"), "pgguard"),
        (("SELECT set_config('role', $1, false)",), ""),
    ],
)
def test_a_session_has_the_role_that_it_has_set(
    session: Callable[..., Rehearsal], setup: tuple[str, ...], role: str
) -> None:
    assert session(*setup).role == role
