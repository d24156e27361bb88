"""A statement as the values of an execution have shown it: the same text, another verdict.

Laws: one for each statement, code and reason, bounded; its fingerprint is the statement's own, so
that a report shows both as what they are, one text.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pgguard.sql.statement import Statement
from pgguard.tenancy import rules

if TYPE_CHECKING:
    from pgguard.findings import Verdict

MOST = 20
"""Variants of one statement that are kept."""


def variant(statement: Statement, code: str, verdict: Verdict, why: str) -> Statement:
    """The statement under another code; an empty one is no finding."""
    key = f"{code} {why}"
    kept = known(statement, key)
    if kept is not None:
        return kept
    statement.number()
    one = copy(statement)
    one.verdict, one.version = int(verdict), statement.version
    one.code, one.why, one.position = code, why, statement.position
    one.tenants, one.keys = statement.tenants, statement.keys
    level = verdict.name
    one.relations = tuple(
        replace(relation, level=level, why=why, fix="") for relation in statement.relations
    )
    one.remedy = rules.remedy(code, [], why) if code else ""
    return keep(statement, key, one)


def copy(statement: Statement) -> Statement:
    """The same text, without a verdict."""
    one = Statement(statement.text, statement.shape, readable=statement.readable)
    one._fingerprint, one._masked = statement.fingerprint, statement.masked
    one.facts, one.effects, one.session = statement.facts, statement.effects, statement.session
    one.cut = statement.cut
    return one


def known(statement: Statement, key: str) -> Statement | None:
    """A variant that is kept, if it is of the statement's newest verdict."""
    kept = statement.variants.get(key) if statement.variants is not None else None
    return kept if kept is not None and kept.version == statement.version else None


def keep(statement: Statement, key: str, one: Statement) -> Statement:
    """Keep a variant; gives it back."""
    if statement.variants is None or len(statement.variants) >= MOST:
        statement.variants = {}
    statement.variants[key] = one
    return one
