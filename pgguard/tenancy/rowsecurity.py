"""Row security as a fact: F10 of tenancy.md.

Laws: policies count only if they bind every role that may run the statement, and every owner of a
view that it goes through; permissive policies widen each other, so each of them must tie the rows
to the tenant, unless a restrictive one does; what a materialized view holds no policy has seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgguard.sql.facts.reading import read
from pgguard.tenancy.rowpolicies import applying, unbound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgguard.sql.statement import Constant
    from pgguard.tenancy.catalogue import Table
    from pgguard.tenancy.environment import Constants
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.rowpolicies import DatabaseRole

_COMMANDS: Final = {"read": "r", "insert": "a", "update": "w", "delete": "d"}


def setting(
    model: Model, table: Table, use: str, users: Iterable[str], through: Iterable[Table]
) -> Constants | None:
    """What the tenant column may be by row security alone; None if that is not known.

    `users` are all roles that may run the statement, `through` the views that it stands in.
    """
    names = list(users)
    if not table.secured or not names or "" in names:
        return None
    for view in through:
        if view.kind == "m":
            return None
        if not view.invoker:
            names.append(view.owner)
    found: set[Constant] = set()
    for name in dict.fromkeys(names):
        one = _of_role(model, table, use, model.catalogue.roles.get(name))
        if one is None:
            return None
        found |= one
    return frozenset(found) or None


def _of_role(model: Model, table: Table, use: str, role: DatabaseRole) -> Constants | None:
    if unbound(table, role):
        return None
    policies = applying(table, role, _COMMANDS.get(use, "r"))
    ties: list[Constants | None] = []
    for policy in policies:
        said = policy.check if use == "insert" and policy.check else policy.using
        tie = model.tie(table, said)
        if not policy.permissive and tie is not None:
            return tie
        if policy.permissive:
            ties.append(tie)
    if not ties or any(tie is None for tie in ties):
        return None
    return frozenset(value for tie in ties for value in tie or ())


def tie(model: Model, table: Table, condition: str) -> Constants | None:
    """What a policy's condition makes of the tenant column."""
    from pgguard.tenancy.changes import Builder
    from pgguard.tenancy.inference import Solver

    text = f"SELECT FROM ONLY x WHERE {condition}"
    parts = read(text.encode()).parts
    if len(parts) != 1 or parts[0].plan is None:
        return None
    built = Builder(model)
    one = built.of_table(parts[0].plan, table)
    if len(one.tenant) != 1:
        return None
    Solver(built).solve()
    return one.env.place().constants(one.tenant[0])
