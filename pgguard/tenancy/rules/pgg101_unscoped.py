"""PGG101: statement is not scoped to a tenant.

What it does
    Finds statements that read or change rows of a tenant table although nothing in them says whose
    rows: no condition fixes the tenant column to a constant (a parameter, a literal or the tenant
    setting), no key chooses single rows, or an inserted row is given no tenant.

Why it is bad
    The statement works on the rows of every tenant. In production it leaks one tenant's data to
    another, or changes it. In parallel tests it sees what other test files have just written, so
    that counts are wrong, rows vanish, and tests fail only when they run together.

Example
        SELECT * FROM bookings WHERE status = $1
        DELETE FROM bookings
        INSERT INTO bookings (id, status) VALUES ($1, $2)

Use instead
        SELECT * FROM bookings WHERE status = $1 AND tenant_id = $2
        DELETE FROM bookings WHERE tenant_id = $1
        INSERT INTO bookings (id, status, tenant_id) VALUES ($1, $2, $3)

    A table that belongs to no tenant is named in `tenancy.global`.

References
    PostgreSQL manual, "Row Security Policies"; OWASP Top 10, A01:2021 Broken Access Control.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.tenancy.wording import condition, parameter, quoted, relation

if TYPE_CHECKING:
    from pgguard.sql.statement import Part
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.outcome import Outcome


def remedy(outcomes: list[Outcome], why: str) -> str:
    """One sentence."""
    if outcomes and outcomes[0].cure == "insert":
        return "Give every new row its tenant."
    if outcomes and outcomes[0].cure == "truncate":
        return "Delete only the rows of the tenant whose test is running."
    return "Tie every tenant table of the statement to one tenant."


def fix(outcome: Outcome, part: Part | None, model: Model) -> str:
    """The smallest change."""
    role = outcome.role
    if role is None or not role.columns:
        return ""
    name = role.columns[0]
    if outcome.cure == "condition":
        return condition(outcome, part, model)
    if outcome.cure == "insert":
        return _inserted(name, outcome, part)
    if outcome.cure == "conflict":
        target = quoted(outcome.alias or outcome.table.name)
        if role.kind == "owned":
            return f"add {quoted(name)} to the conflict target"
        return (
            f"add {quoted(name)} to the conflict target, "
            f"or WHERE {target}.{quoted(name)} = excluded.{quoted(name)}"
        )
    if outcome.cure == "assign":
        return f"do not set {quoted(name)}"
    return _whole(outcome, name) if role.kind != "owned" else ""


def _inserted(name: str, outcome: Outcome, part: Part | None) -> str:
    if outcome.columns is not None and name not in outcome.columns:
        return f"add {quoted(name)} to the columns, and {parameter(part)} to the values"
    return f"give {quoted(name)} a constant, such as {parameter(part)}"


def _whole(outcome: Outcome, name: str) -> str:
    """Instead of TRUNCATE and of COPY TO."""
    table = relation(outcome.table)
    if outcome.cure == "truncate":
        words = "DELETE FROM {} WHERE {} = $1"
        return "delete only the tenant's rows: " + words.format(table, quoted(name))
    if outcome.cure == "copy":
        return f"copy a query with WHERE {quoted(name)} = '...' instead of {table}"
    return ""
