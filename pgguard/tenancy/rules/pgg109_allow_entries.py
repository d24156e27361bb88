"""PGG109: entry of tenancy.allow is of no use.

What it does
    Names entries of `tenancy.allow` that nothing has needed in the whole run, and entries that have
    expired, which allow nothing any more.

Why it is bad
    An exception that nobody needs is an open door: the next statement that fits goes through it
    without anybody having looked. One that has expired was given for some time only.

Example
        [[tenancy.allow]]
        table = "audit_log"
        reason = "read by operators until the new report is there"
        expires = "2024-06-30"

Use instead
    Remove the entry, or correct what it names; give one that has expired a new day only with a
    reason of today. A run of a part of the suite may leave entries unused: look at a whole one.

References
    docs/tenancy.md, "Exceptions".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgguard.sql.statement import Part
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.outcome import Outcome


def remedy(outcomes: list[Outcome], why: str) -> str:
    """One sentence."""
    return "Remove the entry, or give it a reason of today."


def fix(outcome: Outcome, part: Part | None, model: Model) -> str:
    """It lies in the settings, not in a statement."""
    return ""
