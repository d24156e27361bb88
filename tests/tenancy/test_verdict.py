"""Verdicts on the statements of tests/fixtures/scopes, and on real rows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import pytest
from conditions import conditions, leaves
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.pq import ExecStatus
from schemas import SCOPES

from pgguard.findings import Verdict
from pgguard.sql.facts.reading import read
from pgguard.tenancy.catalogue import Catalogue, Column, Table
from pgguard.tenancy.model import Model, TenancySettings
from pgguard.tenancy.verdict import judge_facts

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from pgguard.tenancy.judge import Judge


class Case(NamedTuple):
    schema: str
    title: str
    sql: str
    verdict: str
    why: str
    fix: str


def cases(schema: str) -> list[Case]:
    """Title, statement, `verdict: reason` and `fix: …` of each paragraph but the first."""
    found = []
    for paragraph in (SCOPES / f"{schema}.sql").read_text().split("\n\n")[1:]:
        lines = paragraph.strip().splitlines()
        remarks = [line.removeprefix("-- ") for line in lines if line.startswith("-- ")]
        sql = "\n".join(line for line in lines if not line.startswith("-- "))
        verdict, _, why = remarks[1].partition(": ")
        fix = remarks[2].removeprefix("fix: ") if len(remarks) > 2 else ""
        found.append(Case(schema, remarks[0], sql, verdict, why, fix))
    return found


CASES = [*cases("booking"), *cases("prisma"), *cases("hidden")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.schema}: {case.title}")
def test_statement_has_the_verdict_reason_and_fix_of_its_fixture(
    case: Case, judge_of: Callable[[str], Judge]
) -> None:
    judge = judge_of(case.schema)
    statement = judge.statement(case.sql.encode())
    judge.judge(statement)
    fixes = "; ".join(relation.fix for relation in statement.relations if relation.fix)
    told = (Verdict(statement.verdict).name, statement.why, fixes)
    assert told == (case.verdict, case.why, case.fix)
    assert judge.counters.internal_errors == 0


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 150
    assert len({case.title + case.schema for case in CASES}) == len(CASES)


def test_postgres_accepts_every_statement_that_is_not_marked(
    schemas: dict[str, psycopg.Connection],
) -> None:
    refused = []
    for case in CASES:
        result = schemas[case.schema].pgconn.prepare(b"", case.sql.encode())
        accepted = result.status == ExecStatus.COMMAND_OK
        if accepted is case.title.startswith("(not valid here)"):
            refused.append((case.title, result.error_message))
    assert refused == []


COLUMNS = ("tenant_id", "other", "id", "flag")


@pytest.fixture(scope="module")
def rows(schemas: dict[str, psycopg.Connection]) -> psycopg.Connection:
    """A temporary table with every combination of tenant, other column and flag."""
    connection = schemas["booking"]
    connection.execute(
        """CREATE TEMP TABLE r AS
           SELECT row_number() OVER () AS id, tenant_id, other, flag
           FROM (VALUES ('t1'), ('t2'), ('t3'), (NULL)) AS a(tenant_id),
                (VALUES ('t1'), ('t2'), ('t3'), (NULL)) AS b(other),
                (VALUES (true), (false), (NULL)) AS c(flag)"""
    )
    return connection


@pytest.fixture(scope="module")
def model() -> Model:
    table = Table("public", "r", columns=[Column(name, "text") for name in COLUMNS])
    builtins = frozenset({"lower"})
    catalogue = Catalogue(tables={table.key: table}, builtins=builtins)
    return Model(catalogue, TenancySettings())


@pytest.mark.slow
@settings(
    max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(condition=conditions)
def test_no_row_of_a_tenant_that_is_not_named_passes_a_scoped_condition(
    condition: str, rows: psycopg.Connection, model: Model
) -> None:
    sql = f"SELECT * FROM r WHERE {condition}"
    judgement = judge_facts(read(sql.encode()), model, set())
    if judgement.level not in {Verdict.scoped, Verdict.cross_tenant}:
        return
    found = rows.execute(f"SELECT DISTINCT tenant_id FROM r WHERE {condition}".encode()).fetchall()
    tenants = {tenant for (tenant,) in found if tenant is not None}
    assert "t3" not in tenants, "a tenant that the statement does not name"
    if judgement.level == Verdict.scoped:
        assert len(tenants) <= 1


@pytest.mark.slow
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    value=st.sampled_from(["'t1'", "'t2'"]),
    rest=st.lists(leaves, max_size=3),
    flip=st.booleans(),
)
def test_a_condition_that_names_the_tenant_plainly_is_never_unscoped(
    value: str, rest: list[str], flip: bool, model: Model
) -> None:
    plain = f"{value} = tenant_id" if flip else f"tenant_id = {value}"
    sql = f"SELECT * FROM r WHERE {' AND '.join([plain, *rest])}"
    assert judge_facts(read(sql.encode()), model, set()).level != Verdict.unscoped


def test_the_worst_statement_of_a_text_decides(catalogues: dict[str, Catalogue]) -> None:
    model = Model(catalogues["booking"], TenancySettings())
    good = "SELECT * FROM bookings WHERE tenant_id = $1"
    order = [
        ("SELECT 1", Verdict.no_tenant_data),
        (good, Verdict.scoped),
        ("SELECT * FROM bookings WHERE id = $1", Verdict.by_id),
        ("CALL tidy()", Verdict.unknown),
        ("SELECT * FROM bookings", Verdict.unscoped),
        ("SELECT * FROM letters WHERE tenant_id IN ('a', 'b')", Verdict.cross_tenant),
    ]
    texts: list[str] = []
    for sql, verdict in order:
        texts.insert(0, sql)
        judgement = judge_facts(read(";".join(texts).encode()), model, set())
        assert judgement.level == verdict


def test_truncate_cascade_follows_foreign_keys(catalogues: dict[str, Catalogue]) -> None:
    catalogue = catalogues["booking"]
    tables = dict(catalogue.tables)
    child = dataclasses.replace(
        tables["public", "letters"],
        foreign_keys=[
            dataclasses.replace(
                tables["public", "bookings"].foreign_keys[0],
                columns=("body",),
                target=("public", "countries"),
            )
        ],
    )
    tables[child.key] = child
    model = Model(dataclasses.replace(catalogue, tables=tables), TenancySettings())
    plain = judge_facts(read(b"TRUNCATE countries"), model, set())
    cascade = judge_facts(read(b"TRUNCATE countries CASCADE"), model, set())
    assert (plain.level, cascade.level) == (Verdict.no_tenant_data, Verdict.unscoped)


def test_a_table_with_rewrite_rules_is_not_proved_to_be_written_alone(
    catalogues: dict[str, Catalogue],
) -> None:
    catalogue = catalogues["booking"]
    tables = dict(catalogue.tables)
    ruled = dataclasses.replace(tables["public", "bookings"], rules=True)
    tables[ruled.key] = ruled
    model = Model(dataclasses.replace(catalogue, tables=tables), TenancySettings())
    write = judge_facts(read(b"DELETE FROM bookings WHERE tenant_id = $1"), model, set())
    query = judge_facts(read(b"SELECT FROM bookings WHERE tenant_id = $1"), model, set())
    assert (write.level, query.level) == (Verdict.unknown, Verdict.scoped)
