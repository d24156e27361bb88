"""PGG110: tenant model is ambiguous.

What it does
    Reports tables whose place in the tenant model cannot be told from the catalogue: several
    columns could be the tenant, several foreign keys could lead to the owner, or tenant columns
    reference several tables.

Why it is bad
    pgguard does not guess. Until the table is settled its statements are proved only if they are
    scoped by every reading, so proper statements may be reported.

Example
        CREATE TABLE booking_add_ons (
          booking_id uuid NOT NULL REFERENCES bookings,
          add_on_id uuid NOT NULL REFERENCES add_ons
        )

Use instead
        [tenancy]
        owned = { booking_add_ons = "booking_id" }

References
    PostgreSQL manual, "Constraints" (foreign keys).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgguard.sql.statement import Part
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.outcome import Outcome


def remedy(outcomes: list[Outcome], why: str) -> str:
    """One sentence."""
    return "Settle the table in the [tenancy] section of pgguard.toml."


def fix(outcome: Outcome, part: Part | None, model: Model) -> str:
    """What to write into the settings."""
    for ambiguity in model.ambiguities:
        if ambiguity.table == outcome.table.shown:
            return ambiguity.fix
    return ""
