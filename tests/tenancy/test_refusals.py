"""What a session is told: code, occurrence, reason and fix, in plain ASCII and without literals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.counters import ProcessCounters
from pgguard.tenancy.catalogue import Catalogue, Column, Table
from pgguard.tenancy.judge import Judge
from pgguard.tenancy.model import TenancySettings
from pgguard.tenancy.refusals import refusal

if TYPE_CHECKING:
    from pgguard.sql.statement import Statement

ITEMS = Table("public", "ítems", columns=[Column("tenant_id", "text"), Column("n", "int4")])


def judged(sql: str, *, readable: bool = True) -> Statement:
    judge = Judge(TenancySettings(), ProcessCounters())
    judge.set_catalogue(Catalogue(tables={ITEMS.key: ITEMS}))
    statement = judge.statement(sql.encode(), readable)
    judge.judge(statement)
    return statement


def test_a_refusal_names_rule_occurrence_reason_and_fix() -> None:
    words = refusal(judged('SELECT * FROM "ítems" i WHERE n = 4711'))
    assert words.message.startswith("pgguard: statement is not scoped to a tenant: \\xedtems AS i:")
    assert words.message.endswith("(PGG101)")
    assert "not executed" in words.detail
    assert "pgguard explain PGG101" in words.hint
    assert "AND i.tenant_id = $1" in words.hint
    assert "4711" not in str(words)
    assert str(words).isascii()


def test_a_warning_says_that_it_was_executed() -> None:
    words = refusal(judged('DELETE FROM "ítems"'), blocked=False)
    assert ", executed;" in words.detail


def test_what_was_not_read_is_not_checked() -> None:
    words = refusal(judged("SELECT 1", readable=False))
    assert words.message.startswith("pgguard: statement was not checked: ")
