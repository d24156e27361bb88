"""From the facts of a text and the model to one verdict, with the tables that it rests on.

Laws: pure; the worst statement of a text decides; `no_tenant_data` only if every relation, every
view's relations and every function is known and none leads to a tenant table; what is not proved
is `unknown`, with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgguard.findings import Verdict
from pgguard.tenancy import consequences, functions
from pgguard.tenancy.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgguard.sql.statement import Facts, Name, Part
    from pgguard.tenancy.catalogue import Table
    from pgguard.tenancy.model import Model

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
    hoped: bool = False
    """The values of an execution may prove more."""
    others: list[list[Outcome]] = field(default_factory=list)
    """Occurrences in the other statements of the text."""


def load() -> None:
    """Import the proof now: later no descriptor may be left for it."""
    import pgguard.sql.plan.writes
    import pgguard.tenancy.proof  # noqa: F401


def judge_facts(
    facts: Facts,
    model: Model,
    temporary: frozenset[str] | set[str],
    users: frozenset[str] = frozenset(),
    nulls: frozenset[int] | None = None,
) -> Judgement:
    """The worst verdict over the statements of a text; `temporary` = names of such tables, `users`
    = the roles that may run it, `nulls` as `prove` takes them."""
    if facts.unread:
        return Judgement(Verdict.unknown, facts.unread)
    worst = Judgement(Verdict.no_tenant_data)
    missing: list[Name] = []
    by_value = facts.by_value
    for part in facts.parts:
        judgement = _judge_part(part, model, temporary, users, nulls)
        missing += judgement.missing
        by_value = by_value or judgement.by_value
        first, second = worst, judgement
        if judgement.level > worst.level:
            first, second = judgement, worst
        first.others += second.others
        if second.outcomes:
            first.others.append(second.outcomes)
        worst = first
    worst.missing, worst.by_value = tuple(missing), by_value
    return worst


def _judge_part(
    part: Part,
    model: Model,
    temporary: frozenset[str] | set[str],
    users: frozenset[str],
    nulls: frozenset[int] | None,
) -> Judgement:
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
    judgement = _judge_tables(part, touched, model, users, nulls)
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


def _judge_tables(
    part: Part,
    touched: list[Table],
    model: Model,
    users: frozenset[str],
    nulls: frozenset[int] | None,
) -> Judgement:
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
    if part.obstacle or part.plan is None:
        why = part.obstacle or "it reads the table in a way that is not understood"
        return _unknown(why, touched, model)
    for table in touched:
        policies = [model.catalogue.tables[n] for n in sorted(table.policies)]
        if any(model.touches(one) for one in policies if one.key != table.key):
            other = " other" if table.key in model.roles else ""
            why = f"policies of {table.shown} read{other} tenant tables"
            return _unknown(why, touched, model)
    # Loaded by the first statement of all, or by `load`.
    from pgguard.tenancy.proof import prove
    from pgguard.tenancy.terms import GiveUpError

    try:
        proof = prove(part, model, _variants(part, model), users, nulls)
    except GiveUpError as error:
        return _unknown(str(error), touched, model)
    outcomes = proof.outcomes
    if not outcomes:
        # A common table expression that nothing refers to.
        return Judgement(Verdict.no_tenant_data, by_value=proof.by_value)
    level, why = outcomes[0].level, outcomes[0].why
    return Judgement(
        level,
        why,
        outcomes,
        by_value=proof.by_value,
        parameter_types=proof.parameter_types,
        hoped=proof.hoped,
    )


def _variants(part: Part, model: Model) -> int:
    """How many tenant tables a name may mean."""
    return max(
        (sum(model.touches(table) for table in model.find(name)) for name in part.relations),
        default=1,
    )


def _unknown(why: str, touched: Iterable[Table], model: Model) -> Judgement:
    outcomes = [
        Outcome(table, "", Verdict.unknown, why, role=model.roles.get(table.key))
        for table in touched
    ]
    return Judgement(Verdict.unknown, why, outcomes)
