"""From the facts of a text and the model to one verdict, with the tables that it rests on.

Laws: pure; the worst statement of a text decides; `no_tenant_data` only if every relation, every
view's relations and every function is known and none leads to a tenant table; what is not proved
is `unknown`, with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgguard.findings import Verdict
from pgguard.tenancy import consequences, functions, naming
from pgguard.tenancy.proof import Outcome
from pgguard.tenancy.writes import WriteProver

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgguard.sql.statement import Facts, Name, Part
    from pgguard.tenancy.catalogue import Table
    from pgguard.tenancy.model import Model, Role

_SYSTEM = frozenset({"pg_catalog", "information_schema"})
_DISCLOSING = frozenset(
    {
        "pg_largeobject",
        "pg_statistic",
        "pg_statistic_ext_data",
        "pg_stats",
        "pg_stats_ext",
        "pg_stats_ext_exprs",
    }
)
"""System relations with values that stand in the rows of tables."""


@dataclass(slots=True)
class Judgement:
    """What is known of a text under one model."""

    level: Verdict
    why: str = ""
    outcomes: list[Outcome] = field(default_factory=list)
    """Occurrences of tenant tables in the deciding statement, worst first."""
    part: Part | None = None
    """The statement that decided."""
    missing: tuple[Name, ...] = ()
    """Relations that the catalogue does not know."""
    by_value: bool = False
    parameter_types: tuple[str, ...] = ()
    others: list[tuple[str, list[Outcome]]] = field(default_factory=list)
    """Of the other statements of the text: kind and occurrences."""


def judge_facts(facts: Facts, model: Model, temporary: frozenset[str] | set[str]) -> Judgement:
    """The worst verdict over the statements of a text; `temporary` = names of such tables."""
    if facts.unread:
        return Judgement(Verdict.unknown, facts.unread)
    worst = Judgement(Verdict.no_tenant_data)
    missing: list[Name] = []
    by_value = facts.by_value
    for part in facts.parts:
        judgement = _judge_part(part, model, temporary)
        missing += judgement.missing
        by_value = by_value or judgement.by_value
        first, second = worst, judgement
        if judgement.level > worst.level:
            first, second = judgement, worst
        first.others += second.others
        if second.part is not None and second.outcomes:
            first.others.append((second.part.kind, second.outcomes))
        worst = first
    worst.missing, worst.by_value = tuple(missing), by_value
    return worst


def _judge_part(part: Part, model: Model, temporary: frozenset[str] | set[str]) -> Judgement:
    if part.kind == "none":
        return Judgement(Verdict.no_tenant_data)
    if part.kind == "opaque":
        return Judgement(Verdict.unknown, part.obstacle, part=part)
    found: list[Table] = []
    missing: list[Name] = []
    for name in part.relations:
        tables = model.find(name)
        found += tables
        if not tables and not _is_private(name, temporary):
            missing.append(name)
    if part.kind == "truncate" and part.cascade:
        found = model.referencing(found)
    touched = [table for table in found if model.touches(table)]
    blind = _blind_spot(part, found, missing, model)
    if not touched:
        level = Verdict.unknown if blind else Verdict.no_tenant_data
        return Judgement(level, blind, part=part, missing=tuple(missing))
    if any(name.name == "set_config" for name in part.functions):
        blind = blind or "set_config() may change the tenant setting while rows are read"
    judgement = _judge_tables(part, touched, model)
    judgement.part, judgement.missing = part, tuple(missing)
    if blind and judgement.level < Verdict.unknown:
        judgement.level, judgement.why = Verdict.unknown, blind
        for outcome in judgement.outcomes:
            outcome.level, outcome.why, outcome.cure = Verdict.unknown, blind, ""
    return judgement


def _is_private(name: Name, temporary: frozenset[str] | set[str]) -> bool:
    """A system relation, or a temporary table whose creation was seen."""
    if name.schema:
        return name.schema in _SYSTEM or (name.schema == "pg_temp" and name.name in temporary)
    return name.name in temporary or name.name.startswith("pg_")


def _blind_spot(part: Part, found: list[Table], missing: list[Name], model: Model) -> str:
    """What could hide a tenant table from us; empty if nothing could."""
    if part.stale and part.relations:
        return "an earlier statement of the text has changed the schema"
    for name in part.relations:
        if name.name in _DISCLOSING:
            return f"{name.name} shows values of all tenants"
    if missing:
        return f"relation {missing[0]} is not in the catalogue: temporary, new, or not committed"
    called = functions.obstacle(part.functions, model, in_from=part.table_functions)
    if called:
        return called
    return consequences.obstacle(part, found, model)


def _judge_tables(part: Part, touched: list[Table], model: Model) -> Judgement:
    """Verdict of a statement that touches tenant tables."""
    if part.kind in {"truncate", "copy_to"}:
        cure = "truncate" if part.kind == "truncate" else "copy"
        why = (
            "it empties the table for all tenants"
            if part.kind == "truncate"
            else "it copies the rows of all tenants"
        )
        outcomes = [
            Outcome(table, "", Verdict.unscoped, why, cure, model.roles.get(table.key))
            for table in touched
        ]
        return Judgement(Verdict.unscoped, why, outcomes)
    if part.kind == "copy_from":
        return _unknown("which tenants' rows COPY FROM brings is not read", touched, model)
    if part.obstacle:
        return _unknown(f"{part.obstacle}: not proved in this version", touched, model)
    if part.table is None:
        return _unknown("it reads the table in a way that is not understood", touched, model)
    by_value = False
    types: tuple[str, ...] = ()
    outcomes = []
    for table in touched:
        role = model.roles.get(table.key)
        if role is None or role.kind == "mixed":
            outcomes += _unknown(_indirect(table, role), [table], model).outcomes
            continue
        if any(model.touches(model.catalogue.tables[name]) for name in table.policies):
            why = f"policies of {table.shown} read other tenant tables"
            outcomes += _unknown(why, [table], model).outcomes
            continue
        prover = WriteProver(model, part, role, table)
        outcome = prover.prove()
        naming.name(outcome, prover)
        outcomes.append(outcome)
        types = naming.parameter_types(prover)
        by_value = by_value or prover.by_value
    outcomes.sort(key=lambda outcome: -outcome.level)
    level, why = outcomes[0].level, outcomes[0].why
    return Judgement(level, why, outcomes, by_value=by_value, parameter_types=types)


def _indirect(table: Table, role: Role | None) -> str:
    """Why a relation that is no tenant table touches tenants."""
    if role is not None:
        return f"{table.shown} is a parent of tenant tables"
    if table.kind in {"v", "m"}:
        return f"{table.shown} is a view over tenant tables"
    return f"policies of {table.shown} read tenant tables"


def _unknown(why: str, touched: Iterable[Table], model: Model) -> Judgement:
    outcomes = [
        Outcome(table, "", Verdict.unknown, why, role=model.roles.get(table.key))
        for table in touched
    ]
    return Judgement(Verdict.unknown, why, outcomes)
