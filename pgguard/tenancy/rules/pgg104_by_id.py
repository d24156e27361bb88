"""PGG104: rows are chosen by id alone.

What it does
    Notes statements that choose rows of a tenant table by a key alone (`WHERE id = $1`), or by a
    foreign key to another tenant table, without naming the tenant.

Why it is bad
    The row belongs to whoever's id was given. As long as ids are taken from rows that were read
    with their tenant nothing is wrong, which is why this is a note; but an id that comes from a
    URL, a cookie or another test reaches any tenant's row (insecure direct object reference).

Example
        SELECT * FROM bookings WHERE id = $1
        UPDATE booking_add_ons SET quantity = $1 WHERE booking_id = $2

Use instead
        SELECT * FROM bookings WHERE id = $1 AND tenant_id = $2

References
    OWASP Cheat Sheet Series, "Insecure Direct Object Reference Prevention".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.tenancy.rules import pgg101_unscoped
from pgguard.tenancy.wording import condition, quoted

if TYPE_CHECKING:
    from pgguard.sql.statement import Part
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.outcome import Outcome


def remedy(outcomes: list[Outcome], why: str) -> str:
    """One sentence."""
    return "Name the tenant beside the key."


def fix(outcome: Outcome, part: Part | None, model: Model) -> str:
    """The smallest change."""
    if outcome.cure == "condition":
        return condition(outcome, part, model)
    if outcome.cure == "conflict":
        return pgg101_unscoped.fix(outcome, part, model)
    if outcome.cure == "insert" and outcome.role is not None and outcome.role.columns:
        return f"make sure that {quoted(outcome.role.columns[0])} is the tenant's own"
    return ""
