"""PGG103: transaction works for more than one tenant.

What it does
    Compares the tenants that the statements of one transaction name, in literals, in bound values
    and in the tenant setting (`SET LOCAL app.tenant_id`, `set_config`), and notes transactions that
    name more than one.

Why it is bad
    A request serves one tenant, so its transaction should, too. Two in one transaction are often a
    tenant left over from the request before, on a connection that went back to a pool. Fixtures
    that create two tenants do it on purpose, which is why this is a note.

Example
        BEGIN
        SELECT * FROM bookings WHERE tenant_id = 'acme'
        UPDATE bookings SET status = 'done' WHERE id = 7 AND tenant_id = 'globex'
        COMMIT

Use instead
        BEGIN
        SELECT * FROM bookings WHERE tenant_id = 'acme'
        UPDATE bookings SET status = 'done' WHERE id = 7 AND tenant_id = 'acme'
        COMMIT

    Clients that set up are named in `tenancy.setup`.

References
    PostgreSQL manual, "SET" (SET LOCAL), and "Transactions".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgguard.sql.statement import Part
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.outcome import Outcome


def remedy(outcomes: list[Outcome], why: str) -> str:
    """One sentence."""
    return "Work for one tenant in a transaction, or name the client in tenancy.setup."


def fix(outcome: Outcome, part: Part | None, model: Model) -> str:
    """There is none for one statement."""
    return ""
