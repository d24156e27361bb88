"""PGG106: scope of the statement is not known.

What it does
    Counts statements whose scope could not be decided: their values decide it, they call functions
    whose body is not seen, run a procedure, a DO block or an earlier prepared statement, name a row
    by a cursor, copy rows in, or name a relation that the catalogue does not have.

Why it is bad
    It need not be. But nothing is known, so isolation is said to hold only "as far as seen", with
    the number of such statements.

Example
        SELECT * FROM report_for($1)
        COPY bookings FROM STDIN

Use instead
    Where a function is known to be harmless, name functions that return the tenant in
    `tenancy.functions`. Tables that belong to no tenant are named in `tenancy.global`.

References
    PostgreSQL manual, "Function Volatility Categories".
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
    return f"Not checked: {why}."


def fix(outcome: Outcome, part: Part | None, model: Model) -> str:
    """The smallest change."""
    return condition(outcome, part, model) if outcome.cure == "condition" else ""
