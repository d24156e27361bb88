"""PGG102: statement reaches more than one tenant.

What it does
    Finds statements whose tenant constants are more than one value: one statement that reads,
    inserts or moves rows of two tenants.

Why it is bad
    A statement serves one request of one tenant. One that names two can hand the rows of the one to
    the other, or move rows between them, and no row-level security policy would let it pass.

Example
        SELECT * FROM bookings WHERE tenant_id IN ('acme', 'globex')
        UPDATE bookings SET tenant_id = 'globex' WHERE tenant_id = 'acme'

Use instead
        SELECT * FROM bookings WHERE tenant_id = 'acme'

    Run one statement per tenant.

References
    PostgreSQL manual, "Row Security Policies".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.tenancy.wording import column

if TYPE_CHECKING:
    from pgguard.sql.statement import Part
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.outcome import Outcome


def remedy(outcomes: list[Outcome], why: str) -> str:
    """One sentence."""
    return "Name one tenant per statement."


def fix(outcome: Outcome, part: Part | None, model: Model) -> str:
    """The smallest change."""
    if outcome.role is None or not outcome.role.columns:
        return ""
    name = column(outcome, outcome.role.columns[0])
    return f"keep one value for {name}" if name else ""
