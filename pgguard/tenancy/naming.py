"""Which tenants and keys a statement names, for whoever has the values of an execution.

Laws: pure; what is named here is what the proof rests on, so an occurrence without a tenant
constant names none, and a key only where it chooses rows instead of a tenant or comes with new
ones; the type of a parameter is that of the column it goes with, and nothing if it goes with two
columns of different types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.findings import Verdict
from pgguard.sql.statement import KeyValue, TenantValue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgguard.sql.statement import Constant
    from pgguard.tenancy.proof import Outcome
    from pgguard.tenancy.writes import WriteProver

_NO_ROW = frozenset[str]({"null", "default", "opaque"})


def name(outcome: Outcome, prover: WriteProver) -> None:
    """Note on the outcome which tenant, or else which key, its occurrence names."""
    role, table, part = prover.role, prover.table, prover.part
    inserts = part.kind == "insert"
    if role.kind in {"direct", "root"} and len(role.columns) == 1:
        column = table.column(role.columns[0])
        values = _given(role.columns[0], prover)
        if values and column:
            outcome.tenant = values, column.type
    if not inserts and outcome.level != Verdict.by_id:
        return
    keys = [key.columns for key in table.keys if not set(key.columns) & set(role.columns)]
    places = [(table.key, columns, columns) for columns in keys]
    if not inserts or role.kind == "owned":
        places += [(one.target, one.columns, one.target_columns) for one in table.foreign_keys]
    for target, columns, named in places:
        given = [_given(column, prover) for column in columns]
        declared = [table.column(column) for column in columns]
        if target in prover.model.roles and all(given) and all(declared):
            use = part.kind if target == table.key else "read"
            constants = tuple(values or frozenset() for values in given)
            types = tuple(column.type if column else "" for column in declared)
            outcome.key = KeyValue(target, named, constants, types, -1, use)
            return


def _given(column: str, prover: WriteProver) -> frozenset[Constant] | None:
    part = prover.part
    if part.kind != "insert":
        return prover.constants(column, part.known)
    values = prover.value(column)
    return None if values and {one.kind for one in values} & _NO_ROW else values


def parameter_types(prover: WriteProver) -> tuple[str, ...]:
    """By number from $1: the type of the column that each goes with, as far as known."""
    part, table = prover.part, prover.table
    found: dict[int, set[str]] = {}
    for column in table.columns:
        name = prover.names.get(column.name, column.name)
        sets = [v for term, v in part.known.constants.items() if term.column == name]
        if part.kind == "insert":
            sets.append(prover.value(column.name) or frozenset())
        for one in (one for values in sets for one in values):
            if one.kind == "parameter":
                found.setdefault(int(one.value), set()).add(column.type)
    types = [""] * part.parameters
    for number, names in found.items():
        if len(names) == 1 and 0 < number <= len(types):
            types[number - 1] = names.pop()
    return tuple(types)


def tenants_of(outcomes: Iterable[Outcome], use: str) -> tuple[TenantValue, ...]:
    """The tenants named by outcomes that stand in this order in the statement's relations."""
    return tuple(
        TenantValue(outcome.tenant[0], outcome.tenant[1], place, use)
        for place, outcome in enumerate(outcomes)
        if outcome.tenant is not None
    )


def keys_of(outcomes: Iterable[Outcome]) -> tuple[KeyValue, ...]:
    """The keys named by such outcomes."""
    return tuple(
        outcome.key._replace(relation=place)
        for place, outcome in enumerate(outcomes)
        if outcome.key is not None
    )
