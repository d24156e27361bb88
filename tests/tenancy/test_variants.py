"""One text under another verdict."""

from __future__ import annotations

from pgguard.findings import Relation, Verdict
from pgguard.sql.statement import Statement
from pgguard.tenancy.variants import MOST, variant


def judged() -> Statement:
    statement = Statement(b"select * from items where tenant_id = $1")
    statement.verdict, statement.version = int(Verdict.scoped), 3
    statement.relations = (Relation("items", "i", "scoped", "tenant_id is $1"),)
    return statement


def test_a_variant_is_the_same_text_with_its_own_verdict() -> None:
    statement = judged()
    one = variant(statement, "PGG102", Verdict.cross_tenant, "two values")
    assert variant(statement, "PGG102", Verdict.cross_tenant, "two values") is one
    assert one.fingerprint == statement.fingerprint
    assert (one.verdict, one.code, one.why) == (Verdict.cross_tenant, "PGG102", "two values")
    assert [relation.level for relation in one.relations] == ["cross_tenant"]
    assert one.remedy
    assert statement.verdict == Verdict.scoped


def test_a_new_verdict_of_the_statement_makes_new_variants() -> None:
    statement = judged()
    one = variant(statement, "PGG107", Verdict.cross_tenant, "rows")
    statement.version = 4
    assert variant(statement, "PGG107", Verdict.cross_tenant, "rows") is not one


def test_variants_are_bounded() -> None:
    statement = judged()
    for number in range(3 * MOST):
        variant(statement, "PGG102", Verdict.cross_tenant, str(number))
    assert statement.variants is not None
    assert len(statement.variants) <= MOST
