"""The statements that a session has prepared, by name; the empty name is the unnamed one.

Laws: what was prepared is known although nobody has said yet that it succeeded; how many names are
kept is bounded, the oldest goes, and is known to be gone: what nobody knows is not checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgguard.core import tapping
from pgguard.core.watching import watch_of

if TYPE_CHECKING:
    from pgguard.core.session import Session
    from pgguard.sql.statement import Statement

PREPARED_LIMIT = 10_000
"""Names that are known of one session."""
LONGEST: Final = 63
"""Bytes of a name that Postgres tells apart (NAMEDATALEN - 1)."""


def name(session: Session, under: bytes, statement: Statement, text: bytes = b"") -> None:
    """`statement` is what a Parse of the name `under` has prepared; `text` is its very text, which
    is kept if the statement is known by another one and its literals count."""
    if not under:
        session.unnamed = statement
        return
    prepared = session.prepared
    if prepared is None:
        prepared = session.prepared = {}
    under = under[:LONGEST]
    prepared[under] = statement
    if (statement.tenants or statement.marks) and text and text != statement.text:
        watch_of(session).keep_text(under, text)
    tapping.prepares(session, statement)
    if len(prepared) > PREPARED_LIMIT:
        # What was not prepared after all, or deallocated by SQL, is never taken out.
        del prepared[next(iter(prepared))]


def unseen(session: Session, name: bytes) -> Statement | None:
    """The statement that a Bind means by a name which no Parse has given it, as far as we know.

    None: nobody has. What may be forgotten is a statement that is not checked.
    """
    prepared = session.prepared or {}
    known = prepared.get(name[:LONGEST]) or by_sql(session, name)
    if known is None and (session.strict or len(prepared) >= PREPARED_LIMIT):
        return session.judge.forgotten() if session.judge is not None else None
    return known


def by_sql(session: Session, name: bytes) -> Statement | None:
    """What PREPARE has given the name; None = no PREPARE has."""
    watch, judge = session.guard, session.judge
    key = False, name[:LONGEST].decode("utf-8", "replace")
    if watch is None or judge is None or key not in watch.names:
        return None
    statement, text = watch.names[key]
    if statement is None:
        return judge.forgotten()
    if text:
        watch.keep_text(name, text)
    return statement
