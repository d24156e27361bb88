"""PGG107: rows of more than one tenant came back.

What it does
    Looks at the tenant columns of results: always for statements that are not scoped, now and then
    for others. Two tenants in one result, or another one than the statement names, are proof.

Why it is bad
    This is no suspicion: rows of a tenant have reached somebody who asked for another's, or for
    nobody's. The finding shows the column and how many tenants were seen, not their values.

Example
        SELECT id, tenant_id FROM bookings WHERE status = 'open'

Use instead
        SELECT id, tenant_id FROM bookings WHERE status = 'open' AND tenant_id = $1

    A report over all tenants that is meant to be one is allowed in `tenancy.allow`, with its
    reason.

References
    PostgreSQL manual, "Message Formats" (RowDescription names table and column).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.tenancy.rules import pgg101_unscoped

if TYPE_CHECKING:
    from pgguard.sql.statement import Part
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.outcome import Outcome


def remedy(outcomes: list[Outcome], why: str) -> str:
    """One sentence."""
    return "Ask for the rows of one tenant."


def fix(outcome: Outcome, part: Part | None, model: Model) -> str:
    """The smallest change: that of the statement that is not scoped."""
    return pgg101_unscoped.fix(outcome, part, model)
