"""What is set off behind a statement's words: tests/fixtures/scopes/hidden.sql on real rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from schemas import SCOPES

from pgguard.findings import Verdict
from pgguard.sql.facts.reading import read
from pgguard.tenancy.catalogue import Catalogue, Column, ForeignKey, Table
from pgguard.tenancy.model import Model, TenancySettings
from pgguard.tenancy.verdict import judge_facts

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from pgguard.tenancy.judge import Judge

STATEMENTS = [
    "\n".join(line for line in paragraph.splitlines() if not line.startswith("--"))
    for paragraph in (SCOPES / "hidden.sql").read_text().split("\n\n")[1:]
    if "not valid here" not in paragraph and "FROM STDIN" not in paragraph
]
OTHERS = "SELECT * FROM letters WHERE tenant_id = 'b' ORDER BY id"


def run(connection: psycopg.Connection, sql: str, *, alone: bool) -> tuple[Any, Any]:
    """The statement's result, and the other tenant's rows afterwards; rolled back."""
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL app.tenant_id = 'a'")
        if alone:
            connection.execute("DELETE FROM letters WHERE tenant_id = 'b'")
        cursor = connection.execute(sql.encode())
        rows = sorted(map(str, cursor.fetchall())) if cursor.description else cursor.rowcount
        return rows, connection.execute(OTHERS).fetchall()


@pytest.mark.parametrize("sql", STATEMENTS)
def test_what_is_called_scoped_has_nothing_to_do_with_other_tenants_rows(
    sql: str, schemas: dict[str, psycopg.Connection], judge_of: Callable[[str], Judge]
) -> None:
    judge = judge_of("hidden")
    statement = judge.statement(sql.encode())
    judge.judge(statement)
    if statement.verdict not in {Verdict.scoped, Verdict.no_tenant_data}:
        return
    connection = schemas["hidden"]
    before = connection.execute(OTHERS).fetchall()
    (beside, after), (alone, _) = (run(connection, sql, alone=way) for way in (False, True))
    assert beside == alone
    assert after == before


def chained(*actions: str) -> Model:
    """Three tables, each referencing the one before; the last one belongs to tenants."""
    tables = []
    for number in range(3):
        table = Table("public", f"t{number}", columns=[Column("id", "int4"), Column("up", "int4")])
        if number:
            target = ("public", f"t{number - 1}")
            foreign = ForeignKey("f", ("up",), target, ("id",), "d" in actions, "u" in actions)
            table.foreign_keys.append(foreign)
        tables.append(table)
    tables[-1].columns.append(Column("tenant_id", "text"))
    return Model(Catalogue(tables={one.key: one for one in tables}), TenancySettings())


@pytest.mark.parametrize(
    ("sql", "actions", "expected"),
    [
        ("DELETE FROM t0", "d", Verdict.unknown),
        ("DELETE FROM t0", "u", Verdict.no_tenant_data),
        ("UPDATE t0 SET id = 1", "u", Verdict.no_tenant_data),
        ("UPDATE t1 SET id = 1", "u", Verdict.unknown),
        ("UPDATE t1 SET up = 1", "u", Verdict.no_tenant_data),
        ("INSERT INTO t0 VALUES (1)", "du", Verdict.no_tenant_data),
        ("EXPLAIN DELETE FROM t0", "d", Verdict.no_tenant_data),
        ("DELETE FROM t2 WHERE tenant_id = 'a'", "du", Verdict.scoped),
    ],
)
def test_cascades_are_followed_as_far_as_rows_change(
    sql: str, actions: str, expected: Verdict
) -> None:
    assert judge_facts(read(sql.encode()), chained(*actions), set()).level == expected
