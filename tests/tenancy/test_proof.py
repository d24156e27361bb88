"""Levels of one occurrence whose statement has a single table; whole statements are fixtures."""

from __future__ import annotations

import pytest

from pgguard.findings import Verdict
from pgguard.sql.facts.reading import read
from pgguard.sql.statement import Constant
from pgguard.tenancy.catalogue import Catalogue, Column, ForeignKey, Key, Table
from pgguard.tenancy.inference import is_single
from pgguard.tenancy.model import Model, TenancySettings
from pgguard.tenancy.proof import Proof, prove


def proved(sql: str, type_name: str = "text", columns: str = "id tenant_id other") -> Proof:
    table = Table("public", "t", columns=[Column(name, type_name) for name in columns.split()])
    table.keys = [Key("t_pkey", ("id",), primary=True), Key("pair", ("other", "id"))]
    table.foreign_keys = [ForeignKey("up", ("other",), table.key, ("id",))]
    model = Model(Catalogue(tables={table.key: table}), TenancySettings())
    return prove(read(sql.encode()).parts[0], model)


@pytest.mark.parametrize(
    ("type_name", "condition", "expected"),
    [
        ("uuid", "tenant_id::uuid = $1", Verdict.scoped),
        ("text", "tenant_id::uuid = $1", Verdict.unscoped),
        ("int4", "tenant_id::int8 = $1", Verdict.scoped),
        ("text", "tenant_id::int8 = $1", Verdict.unscoped),
        ("int8", "tenant_id::numeric = $1", Verdict.scoped),
        ("float8", "tenant_id::int8 = $1", Verdict.unscoped),
        ("float8", "tenant_id::text = $1", Verdict.scoped),
    ],
)
def test_a_cast_keeps_identity_by_the_type_of_the_column(
    type_name: str, condition: str, expected: Verdict
) -> None:
    assert proved(f"SELECT FROM t WHERE {condition}", type_name).outcomes[0].level == expected


@pytest.mark.parametrize(
    ("condition", "expected", "why"),
    [
        ("tenant_id = $1", Verdict.scoped, "tenant_id is $1"),
        ("id = $1", Verdict.by_id, "only id chooses the row"),
        ("other = $1", Verdict.by_id, "only other chooses the rows, by their t"),
        ("tenant_id > $1", Verdict.unscoped, "the condition does not fix tenant_id"),
        ("tenant_id = random()", Verdict.unscoped, "may change from row to row"),
        ("tenant_id = $1 OR $2", Verdict.unknown, "only if its parameters are not null"),
        ("id = $1 OR $2", Verdict.unknown, "only if its parameters are not null"),
        ("tenant_id IN ('a', 'b')", Verdict.cross_tenant, "several tenants"),
        ("false", Verdict.scoped, "no row can satisfy"),
        ("tenant_id = ANY ('{a}')", Verdict.scoped, "an element of an array"),
        ("tenant_id = ANY ('{a,a,NULL}')", Verdict.scoped, "an element of an array"),
        ("tenant_id = ANY ('{a,b}')", Verdict.cross_tenant, "several tenants"),
        ("tenant_id = ANY ('{a, \"b\"}'::text[])", Verdict.cross_tenant, "several tenants"),
        ("tenant_id = ANY ($1::text[])", Verdict.scoped, "an element of an array"),
    ],
)
def test_level_and_reason(condition: str, expected: Verdict, why: str) -> None:
    (outcome,) = proved(f"SELECT FROM t WHERE {condition}").outcomes
    assert outcome.level == expected
    assert why in outcome.why


@pytest.mark.parametrize(
    ("condition", "by_value"),
    [
        ("tenant_id = 'a'", False),
        ("tenant_id IN ('a', 'b')", True),
        ("tenant_id IN ('a', 'a')", True),
        ("tenant_id IN ($1, 'a')", False),
        ("tenant_id = ANY ('{a}')", True),
        ("tenant_id = ANY ($1)", False),
        ("id = ANY ('{1,2}')", False),
        ("id IN (1, 2) AND tenant_id = 'a'", False),
    ],
)
def test_comparing_literals_is_noticed(condition: str, by_value: bool) -> None:
    assert proved(f"SELECT FROM t WHERE {condition}").by_value is by_value


def test_column_aliases_name_other_columns() -> None:
    assert proved("SELECT FROM t x(a, b) WHERE x.b = $1").outcomes[0].level == Verdict.scoped
    swapped = "SELECT FROM t x(tenant_id, b) WHERE x.tenant_id = $1"
    assert proved(swapped).outcomes[0].level == Verdict.by_id


def test_an_array_is_not_a_single_value() -> None:
    assert is_single(frozenset({Constant("parameter", "1")}))
    assert not is_single(frozenset({Constant("array", "1")}))
