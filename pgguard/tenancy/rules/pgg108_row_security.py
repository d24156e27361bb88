"""PGG108: row security does not bind.

What it does
    Looks at row-level security in the catalogue, once for each table and role: policies on a table
    where it is not enabled; a role that it does not bind (superuser, BYPASSRLS, the owner without
    FORCE); a policy that lets everybody see every row; a view that runs as an owner whom it does
    not bind; a setting that is cast without NULLIF.

Why it is bad
    Postgres says nothing when a policy is not applied: every row of every tenant comes back, and
    tests that run as a superuser pass. The last is another trap: once `SET LOCAL` has been used
    in a session, the setting reads '' instead of NULL, and `''::uuid` is an error.

Example
        CREATE POLICY own ON bookings
          USING (tenant_id = current_setting('app.tenant_id', true)::uuid);

Use instead
        ALTER TABLE bookings ENABLE ROW LEVEL SECURITY;
        ALTER TABLE bookings FORCE ROW LEVEL SECURITY;
        CREATE POLICY own ON bookings
          USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);

    Run the application, and its tests, as a role that neither owns the tables nor bypasses
    policies, and give views `security_invoker`.

References
    PostgreSQL manual, "Row Security Policies" and "CREATE VIEW" (security_invoker).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgguard.sql.statement import Part
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.outcome import Outcome


def remedy(outcomes: list[Outcome], why: str) -> str:
    """One sentence."""
    return "Let policies bind the role that runs the statements."


def fix(outcome: Outcome, part: Part | None, model: Model) -> str:
    """It lies in the schema, not in a statement."""
    return ""
