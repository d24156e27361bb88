"""PGG901: statement was not analysed.

What it does
    Says that a statement was passed on without being read: its text is longer than
    `tenancy.max_statement`, took too long, is not in an encoding that can be read safely, was sent
    with standard_conforming_strings off, or is not in the grammar of PostgreSQL 18.

Why it is bad
    Nothing is known of what it did. Isolation is then said to hold only "as far as seen".

Example
        SET client_encoding = 'SJIS'; SELECT ...

Use instead
    Set client_encoding to UTF8 and leave standard_conforming_strings on, as drivers do by
    themselves. Split very large statements, or use COPY. A text that Postgres itself rejects (a
    syntax error) needs no care: nothing was run.

References
    PostgreSQL manual, "Character Set Support" and "Version and Platform Compatibility"
    (standard_conforming_strings).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgguard.sql.statement import Part
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.outcome import Outcome


def remedy(outcomes: list[Outcome], why: str) -> str:
    """One sentence."""
    return f"Not analysed: {why}."


def fix(outcome: Outcome, part: Part | None, model: Model) -> str:
    """There is none."""
    return ""
