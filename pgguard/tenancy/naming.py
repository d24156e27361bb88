"""Which tenants and keys a statement names, for whoever has the values of an execution.

Laws: pure; what is named here is what the proof rests on, so an occurrence without a tenant
constant names none, and a key only where it chooses rows instead of a tenant or comes with new
ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.sql.statement import TenantValue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgguard.sql.statement import KeyValue
    from pgguard.tenancy.outcome import Outcome


def tenants_of(outcomes: Iterable[Outcome]) -> tuple[TenantValue, ...]:
    """The tenants named by outcomes that stand in this order in the statement's relations."""
    return tuple(
        TenantValue(outcome.tenant[0], outcome.tenant[1], place, _use(outcome))
        for place, outcome in enumerate(outcomes)
        if outcome.tenant is not None
    )


def publishes(outcomes: Iterable[Outcome]) -> bool:
    """Whether a parameter decides if a new row is a tenant's or, as NULL, everybody's."""
    return any(
        outcome.tenant is not None
        and _use(outcome) == "insert"
        and any(constant.kind == "parameter" for constant in outcome.tenant[0])
        and _optional(outcome)
        for outcome in outcomes
    )


def _optional(outcome: Outcome) -> bool:
    """Whether the tenant column may be NULL."""
    role = outcome.role
    columns = role.columns if role is not None and role.kind == "direct" else ()
    return any((c := outcome.table.column(name)) and not c.not_null for name in columns)


def keys_of(outcomes: Iterable[Outcome]) -> tuple[KeyValue, ...]:
    """The keys named by such outcomes."""
    return tuple(
        outcome.key._replace(relation=place)
        for place, outcome in enumerate(outcomes)
        if outcome.key is not None
    )


def _use(outcome: Outcome) -> str:
    creates = outcome.use == "insert" and outcome.role is not None and outcome.role.kind == "root"
    return "create" if creates else outcome.use
