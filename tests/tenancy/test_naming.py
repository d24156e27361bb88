"""Which tenants and keys a statement names, and of which type its parameters are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pgguard.counters import ProcessCounters
from pgguard.tenancy.catalogue import Catalogue, Column, ForeignKey, Key, Table
from pgguard.tenancy.judge import Judge
from pgguard.tenancy.model import TenancySettings

if TYPE_CHECKING:
    from pgguard.sql.statement import Constant, Statement

ROOT = Table(
    "public",
    "tenants",
    columns=[Column("id", "uuid", not_null=True)],
    keys=[Key("tenants_pkey", ("id",), primary=True)],
)
ITEMS = Table(
    "public",
    "items",
    columns=[
        Column("id", "int8", not_null=True),
        Column("tenant_id", "uuid", not_null=True),
        Column("note", "text"),
    ],
    keys=[Key("items_pkey", ("id",), primary=True)],
    foreign_keys=[ForeignKey("fk", ("tenant_id",), ("public", "tenants"), ("id",))],
)
PARTS = Table(
    "public",
    "parts",
    columns=[Column("id", "int8", not_null=True), Column("item", "int8", not_null=True)],
    keys=[Key("parts_pkey", ("id",), primary=True)],
    foreign_keys=[ForeignKey("fk", ("item",), ("public", "items"), ("id",))],
)
DRAFTS = Table("public", "drafts", columns=[Column("tenant_id", "uuid"), Column("note", "text")])
CATALOGUE = Catalogue(tables={table.key: table for table in (ROOT, ITEMS, PARTS, DRAFTS)})


def judged(sql: str) -> Statement:
    judge = Judge(TenancySettings(), ProcessCounters())
    judge.set_catalogue(CATALOGUE)
    statement = judge.statement(sql.encode())
    judge.judge(statement)
    return statement


def shown(constants: frozenset[Constant]) -> list[str]:
    return sorted(f"{one.kind} {one.value}".strip() for one in constants)


def names(statement: Statement) -> list[tuple[Any, ...]]:
    tenants = [(one.use, shown(one.constants), one.type) for one in statement.tenants]
    keys = [
        (one.use, one.table[1], one.columns, [shown(c) for c in one.constants], one.types)
        for one in statement.keys
    ]
    return [*tenants, *keys]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM items WHERE tenant_id = $1", [("read", ["parameter 1"], "uuid")]),
        (
            "DELETE FROM items WHERE tenant_id = current_setting('app.tenant_id')::uuid",
            [("delete", ["setting app.tenant_id"], "uuid")],
        ),
        ("SELECT * FROM items", []),
        (
            "UPDATE items SET note = '' WHERE id = $2",
            [("update", "items", ("id",), [["parameter 2"]], ("int8",))],
        ),
        (
            "INSERT INTO items VALUES ($1, $2, $3), ($4, $2, $3)",
            [
                ("insert", ["parameter 2"], "uuid"),
                ("insert", "items", ("id",), [["parameter 1", "parameter 4"]], ("int8",)),
            ],
        ),
        (
            "INSERT INTO items (tenant_id) VALUES ($1)",
            [("insert", ["parameter 1"], "uuid")],
        ),
        (
            "SELECT * FROM parts WHERE item = $1",
            [("read", "items", ("id",), [["parameter 1"]], ("int8",))],
        ),
    ],
)
def test_what_a_statement_names(sql: str, expected: list[Any]) -> None:
    assert names(judged(sql)) == expected


def test_a_parameter_has_the_type_of_the_column_it_goes_with() -> None:
    statement = judged("SELECT * FROM items WHERE tenant_id = $2 AND note = $3 AND id > $1")
    assert statement.parameter_types == ("", "uuid", "text")


def test_two_statements_of_one_text_both_name_their_tenants() -> None:
    statement = judged("SELECT 1 FROM items WHERE tenant_id = 'a'; DELETE FROM items WHERE id = 1")
    assert [(one.use, one.relation) for one in statement.tenants] == [("read", -1)]
    assert [(one.use, one.relation) for one in statement.keys] == [("delete", 0)]


@pytest.mark.parametrize(
    ("sql", "publishes"),
    [
        ("INSERT INTO drafts (tenant_id, note) VALUES ($1, 'x')", True),
        ("INSERT INTO items (id, tenant_id) VALUES (1, $1)", False),
        ("SELECT note FROM drafts WHERE tenant_id = $1", False),
    ],
)
def test_a_parameter_that_may_make_a_row_everybodys_is_to_be_looked_at(
    sql: str, publishes: bool
) -> None:
    statement = judged(sql)
    assert (statement.publishes, statement.varies) == (publishes, publishes)
    assert (statement.clean == -1) == publishes
