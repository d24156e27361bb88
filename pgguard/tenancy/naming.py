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
    from pgguard.tenancy.proof import Outcome


def tenants_of(outcomes: Iterable[Outcome]) -> tuple[TenantValue, ...]:
    """The tenants named by outcomes that stand in this order in the statement's relations."""
    return tuple(
        TenantValue(outcome.tenant[0], outcome.tenant[1], place, outcome.use)
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
