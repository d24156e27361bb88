"""The statements that a session has prepared, by name; the empty name is the unnamed one.

Laws: what was prepared is known although nobody has said yet that it succeeded; how many names are
kept is bounded, the oldest goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.core.watching import watch_of

if TYPE_CHECKING:
    from pgguard.core.session import Session
    from pgguard.sql.statement import Statement

PREPARED_LIMIT = 10_000
"""Names that are known of one session."""


def name(session: Session, under: bytes, statement: Statement, text: bytes = b"") -> None:
    """`statement` is what a Parse of the name `under` has prepared; `text` is its very text, which
    is kept if the statement is known by another one and its literals count."""
    if not under:
        session.unnamed = statement
        return
    prepared = session.prepared
    if prepared is None:
        prepared = session.prepared = {}
    prepared[under] = statement
    if (statement.tenants or statement.marks) and text and text != statement.text:
        watch_of(session).keep_text(under, text)
    if len(prepared) > PREPARED_LIMIT:
        # What was not prepared after all, or deallocated by SQL, is never taken out.
        del prepared[next(iter(prepared))]
