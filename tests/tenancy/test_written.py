"""Levels of writes that need a model made for them; whole statements are fixtures."""

from __future__ import annotations

import pytest

from pgguard.findings import Verdict
from pgguard.sql.facts.reading import read
from pgguard.tenancy.catalogue import Catalogue, Column, Key, Table
from pgguard.tenancy.model import Model, TenancySettings
from pgguard.tenancy.proof import Proof, prove


def proved(sql: str, *, default: str = "", fills: bool = False, shared: bool = False) -> Proof:
    columns = [Column("id", "int4"), Column("tenant_id", "text", default=default)]
    columns.append(Column("body", "text"))
    table = Table("public", "t", columns=columns, fills=fills)
    table.keys = [Key("t_pkey", ("id",), primary=True), Key("t_body", ("body",))]
    settings = TenancySettings(functions=("tenant",), shared=("t",) if shared else ())
    catalogue = Catalogue(
        tables={table.key: table},
        builtins=frozenset({"lower", "random"}),
        volatile_builtins=frozenset({"random"}),
    )
    model = Model(catalogue, settings)
    return prove(read(sql.encode()).parts[0], model)


@pytest.mark.parametrize(
    ("default", "expected"),
    [
        ("(current_setting('app.tenant_id'::text))::uuid", Verdict.scoped),
        ("NULLIF(current_setting('app.current_tenant'::text, true), ''::text)", Verdict.scoped),
        ("tenant()", Verdict.scoped),
        ("app.tenant()", Verdict.scoped),
        ("untenant()", Verdict.unscoped),
        ("current_setting('app.other'::text)", Verdict.unscoped),
        ("'main'::text", Verdict.unscoped),
        ("gen_random_uuid()", Verdict.unscoped),
        ("", Verdict.unscoped),
    ],
)
def test_a_default_counts_only_if_it_is_the_tenant(default: str, expected: Verdict) -> None:
    for sql in ("INSERT INTO t (body) VALUES ('x')", "INSERT INTO t VALUES (1, DEFAULT, 'x')"):
        assert proved(sql, default=default).outcomes[0].level == expected


def test_a_null_that_is_written_is_not_the_default() -> None:
    one = proved("INSERT INTO t VALUES (1, NULL)", default="current_setting('app.tenant_id')")
    assert one.outcomes[0].level == Verdict.unscoped


def test_a_default_beside_something_that_is_no_constant() -> None:
    sql = "INSERT INTO t VALUES (1, DEFAULT), (2, random()::text)"
    assert proved(sql, default="tenant()").outcomes[0].level == Verdict.unscoped


def test_a_trigger_makes_what_is_left_out_unknown() -> None:
    assert (
        proved("INSERT INTO t (body) VALUES ('x')", fills=True).outcomes[0].level == Verdict.unknown
    )
    given = "INSERT INTO t (tenant_id) VALUES (random())"
    assert proved(given, fills=True).outcomes[0].level == Verdict.unscoped


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("UPDATE t SET tenant_id = 'a' WHERE tenant_id = 'a'", Verdict.scoped),
        ("UPDATE t SET tenant_id = 'b' WHERE tenant_id = 'a'", Verdict.cross_tenant),
        ("UPDATE t SET tenant_id = $1 WHERE tenant_id = 'a'", Verdict.unknown),
        ("UPDATE t SET tenant_id = $1 WHERE tenant_id IN ($1, $2)", Verdict.unknown),
        ("UPDATE t SET tenant_id = lower($1) WHERE tenant_id = lower($1)", Verdict.scoped),
        ("UPDATE t SET tenant_id = DEFAULT WHERE tenant_id = $1", Verdict.unknown),
        ("UPDATE t SET tenant_id = NULL WHERE tenant_id = $1", Verdict.scoped),
        ("UPDATE t SET tenant_id = random() WHERE tenant_id = $1", Verdict.unscoped),
        ("UPDATE t AS x SET tenant_id = x.tenant_id WHERE x.tenant_id = $1", Verdict.scoped),
        ("UPDATE t SET tenant_id[1] = 'a' WHERE tenant_id = $1", Verdict.unscoped),
    ],
)
def test_setting_the_tenant(sql: str, expected: Verdict) -> None:
    assert proved(sql).outcomes[0].level == expected


INSERT = "INSERT INTO t (id, tenant_id, body) VALUES (1, {}, 'x') ON CONFLICT "


@pytest.mark.parametrize(
    ("tenant", "conflict", "expected"),
    [
        ("$1", "(body) DO UPDATE SET body = 'y' WHERE t.tenant_id = $1", Verdict.scoped),
        ("$1", "(body) DO UPDATE SET body = 'y' WHERE t.tenant_id = random()", Verdict.unscoped),
        ("$1", "(body) DO UPDATE SET body = 'y' WHERE excluded.tenant_id = $1", Verdict.unscoped),
        ("$1", "(lower(body)) DO UPDATE SET body = 'y'", Verdict.unscoped),
        ("$1", "(tenant_id, lower(body)) DO UPDATE SET body = 'y'", Verdict.scoped),
        ("$1", "(body) DO UPDATE SET body = 'y' WHERE false", Verdict.scoped),
        ("$1", "ON CONSTRAINT t_pkey DO UPDATE SET body = 'y'", Verdict.by_id),
        ("$1", "ON CONSTRAINT missing DO UPDATE SET body = 'y'", Verdict.unknown),
        ("'a'", "(id) DO UPDATE SET body = 'y' WHERE t.tenant_id = 'b'", Verdict.cross_tenant),
        ("'a'", "(id) DO UPDATE SET body = 'y' WHERE t.tenant_id = 'a'", Verdict.scoped),
        ("$1", "(tenant_id, id) DO UPDATE SET tenant_id = $1", Verdict.scoped),
        ("$1", "(tenant_id, id) DO UPDATE SET tenant_id = $2", Verdict.unknown),
        ("$1", "(tenant_id, id) DO UPDATE SET tenant_id = excluded.body", Verdict.unknown),
        ("random()", "(tenant_id, id) DO UPDATE SET body = 'y'", Verdict.unscoped),
    ],
)
def test_conflicts(tenant: str, conflict: str, expected: Verdict) -> None:
    assert proved(INSERT.format(tenant) + conflict).outcomes[0].level == expected


def test_a_conflict_that_updates_shared_rows() -> None:
    where = "WHERE t.tenant_id = $1 OR t.tenant_id IS NULL"
    sql = INSERT.format("$1") + f"(body) DO UPDATE SET body = 'y' {where}"
    assert proved(sql).outcomes[0].level == Verdict.scoped
    assert proved(sql, shared=True).outcomes[0].level == Verdict.unscoped


@pytest.mark.parametrize(
    ("sql", "by_value"),
    [
        ("UPDATE t SET tenant_id = 'a' WHERE tenant_id = 'a'", True),
        ("UPDATE t SET tenant_id = $1 WHERE tenant_id = $1", False),
        ("INSERT INTO t VALUES (1, 'a'), (2, 'a')", True),
        ("INSERT INTO t VALUES (1, 'a'), (2, 'b')", True),
    ],
)
def test_comparing_literals_is_noticed(sql: str, by_value: bool) -> None:
    assert proved(sql).by_value is by_value
