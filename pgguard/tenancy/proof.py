"""Is every use of a tenant table in a statement tied to one tenant? Sections 2 to 5 of tenancy.md.

    plan ──► changes.Builder: environments ──► inference.Solver ──► levels, written ──► Outcomes

Laws: whatever is not proved is not `scoped`; a table whose tenant column is ambiguous is scoped
only if it is by every reading; a name that may mean several relations is proved with each of them;
comparing literals sets `by_value`, for texts that differ only there must not share the verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgguard.findings import Verdict
from pgguard.tenancy.changes import Builder
from pgguard.tenancy.inference import Solver
from pgguard.tenancy.levels import Leveller
from pgguard.tenancy.outcome import Outcome
from pgguard.tenancy.values import differ
from pgguard.tenancy.written import Writes

if TYPE_CHECKING:
    from pgguard.sql.statement import Constant, Part
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.occurrences import Occurrence

_MOST_VARIANTS: Final = 4
_MOST_COMPARED: Final = 100
_INSERTED: Final = frozenset({"null", "default", "opaque"})


@dataclass(slots=True)
class Proof:
    """What was found out about one statement."""

    outcomes: list[Outcome]
    by_value: bool = False
    parameter_types: tuple[str, ...] = ()
    hoped: bool = False
    """The values of an execution may prove more."""


def prove(
    part: Part,
    model: Model,
    variants: int = 1,
    users: frozenset[str] = frozenset(),
    nulls: frozenset[int] | None = None,
) -> Proof:
    """The occurrences of tenant tables, worst first; raises `terms.GiveUpError`.

    `users` are the roles that may run the statement; without any row security says nothing.
    `nulls`, if known, are of the part's `nulls` the parameters that are NULL.
    """
    numbers = range(min(variants, _MOST_VARIANTS))
    proofs = [_prove(part, model, number, users, nulls) for number in numbers]
    worst = max(proofs, key=lambda one: one.outcomes[0].level if one.outcomes else -1)
    worst.by_value = any(one.by_value for one in proofs)
    worst.hoped = any(one.hoped for one in proofs)
    return worst


def _prove(
    part: Part, model: Model, variant: int, users: frozenset[str], nulls: frozenset[int] | None
) -> Proof:
    built, levels = _run(part, model, variant, users, nulls, hopeful=False)
    judged = _judged(built)
    hoped = compared = False
    if part.depends and any(one.level >= Verdict.unknown for one in judged):
        best, best_levels = _run(part, model, variant, users, nulls, hopeful=True)
        hoped, compared = _hope(judged, _judged(best)), best_levels.by_value
    listed = {id(insertion.row): insertion.listed for insertion in built.insertions}
    updated = {id(insertion.updated) for insertion in built.insertions}
    outcomes: dict[object, Outcome] = {}
    for one in judged:
        if id(one) in updated:
            continue
        outcome = _outcome(one, listed.get(id(one)))
        place = (one.position, one.alias, one.table.key, one.use, one.inside)
        known = outcomes.get(place)
        if known is None or known.level < outcome.level:
            outcomes[place] = outcome
    found = list(outcomes.values())
    by_value = _cross(found) or levels.by_value or compared
    found.sort(key=lambda outcome: (-outcome.level, outcome.use == "read"))
    return Proof(found, by_value, _parameter_types(built, part.parameters), hoped)


def _run(
    part: Part,
    model: Model,
    variant: int,
    users: frozenset[str],
    nulls: frozenset[int] | None,
    *,
    hopeful: bool,
) -> tuple[Builder, Leveller]:
    built = Builder(model, hopeful=hopeful, variant=variant, users=users, nulls=nulls)
    built.said = part
    built.statement(part.plan)
    solver = Solver(built)
    solver.solve()
    levels = Leveller(solver)
    levels.judge()
    Writes(levels).judge()
    return built, levels


def _judged(built: Builder) -> list[Occurrence]:
    return [one for one in built.occurrences if one.base is None and one.role is not None]


def _hope(judged: list[Occurrence], hoped: list[Occurrence]) -> bool:
    """What would be proved if the values of an execution were as they should be is unknown; whether
    there is any."""
    if len(judged) != len(hoped):
        return False
    found = False
    for one, other in zip(judged, hoped, strict=True):
        if other.level < Verdict.unknown <= one.level:
            found = True
            one.level, one.cure, one.ambiguous = Verdict.unknown, "condition", False
            one.why = f"only if its parameters are not null and its conditions hold: {other.why}"
    return found


def _outcome(one: Occurrence, listed: tuple[str, ...] | None) -> Outcome:
    role = one.role
    tenant = None
    if one.values and role is not None and role.columns and role.kind != "owned":
        column = one.table.column(role.columns[0])
        kinds = {value.kind for value in one.values}
        plain = len(role.columns) == 1 and "resolved" not in kinds
        if plain and column is not None and not (one.use == "insert" and kinds & _INSERTED):
            tenant = one.values, column.type
    return Outcome(
        one.table,
        one.alias,
        one.level,
        one.why,
        one.cure,
        role,
        one.ambiguous,
        tenant,
        one.key,
        one.use,
        one.position,
        one.condition,
        one.outer,
        one.named,
        one.inside,
        one.renamed,
        listed,
    )


def _cross(outcomes: list[Outcome]) -> bool:
    """Find literals of different tenants in one statement; whether any were compared."""
    compared = False
    known: list[tuple[Outcome, Constant]] = []
    for outcome in outcomes:
        if outcome.tenant is None or outcome.level > Verdict.by_id:
            continue
        values, kind = outcome.tenant
        for value in values:
            if value.kind != "literal":
                continue
            for other, literal in known[:_MOST_COMPARED]:
                if literal == value:
                    # One and the same: what it says cannot depend on its value.
                    continue
                compared = True
                if differ([literal.value, value.value], kind):
                    for one in (outcome, other):
                        one.level = Verdict.cross_tenant
                        one.why, one.cure = "the statement names another tenant, too", ""
            known.append((outcome, value))
    return compared


def _parameter_types(built: Builder, count: int) -> tuple[str, ...]:
    """By number from $1: the type of the column that each goes with, as far as known."""
    if not count:
        return ()
    found: dict[int, set[str]] = {}
    for one in built.occurrences:
        if one.base is not None:
            continue
        env = one.env.place()
        for name, term in one.terms.items():
            column = one.table.column(name)
            for value in env.constants(term) or ():
                if value.kind == "parameter" and column is not None:
                    found.setdefault(int(value.value), set()).add(column.type)
    types = [""] * count
    for number, names in found.items():
        if len(names) == 1 and 0 < number <= count:
            types[number - 1] = names.pop()
    return tuple(types)
