"""PGG105: rows are scoped through foreign keys alone.

What it does
    Notes statements in which a table's tenant is not named, but follows from a chain of foreign
    keys to a table whose tenant is: the add-ons of bookings of one tenant.

Why it is bad
    It is right as long as the data are: nothing but the application keeps a row from pointing to
    another tenant's row, unless the foreign key contains the tenant. That is rare, and ORMs load
    related rows in this way all the time, so it is a note, and `run` only counts it.

Example
        SELECT a.* FROM bookings b JOIN add_ons a ON a.booking_id = b.id WHERE b.tenant_id = $1
        SELECT p.* FROM bookings b JOIN packages p ON p.id = b.package_id WHERE b.tenant_id = $1

Use instead
        SELECT p.* FROM bookings b JOIN packages p ON p.id = b.package_id
          AND p.tenant_id = b.tenant_id WHERE b.tenant_id = $1

    Or have the database keep the promise:

        FOREIGN KEY (tenant_id, package_id) REFERENCES packages (tenant_id, id)

References
    PostgreSQL manual, "Constraints" (foreign keys).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.tenancy.wording import condition

if TYPE_CHECKING:
    from pgguard.sql.statement import Part
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.outcome import Outcome


def remedy(outcomes: list[Outcome], why: str) -> str:
    """One sentence."""
    return "Put the tenant into the foreign key, or into the join."


def fix(outcome: Outcome, part: Part | None, model: Model) -> str:
    """The smallest change."""
    role = outcome.role
    if role is None or role.kind == "owned":
        return ""
    return condition(outcome, part, model)
