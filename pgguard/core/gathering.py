"""The text of a Query or Parse that comes in several chunks, kept until it is whole.

Laws: it streams on meanwhile, kept is a copy; what is kept over all sessions is bounded by what the
lengths announce, so that nobody can fill the memory with statements that never end; a text that is
not kept is known as such at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.core import named

if TYPE_CHECKING:
    from pgguard.core.session import Session
    from pgguard.sql.statement import Statement

LIMIT = 32 * 1024 * 1024
"""Bytes of such texts over all sessions."""


def begin(session: Session, kind: bytes, start: bytes, size: int) -> Statement | None:
    """Keep a text of `size` bytes of which `start` has come; `kind` is b"Q" or b"P".

    One that is too long to be read is not kept: its statement is known at once, and returned if it
    is a Query.
    """
    judge, gate = session.judge, session.hub.gate
    assert judge is not None
    busy = gate.gathered + size > LIMIT
    if size <= judge.settings.max_statement and not busy:
        gate.gathered += size
        session.gather = bytearray(kind + start)
        return None
    session.unnamed = None
    name, _, text = (b"", b"", start) if kind == b"Q" else start.partition(b"\0")
    statement = session.last = judge.too_long(text, busy=busy)
    if kind == b"Q":
        return statement
    named.name(session, name, statement)
    return None


def go_on(session: Session, data: bytes, missing: int) -> Statement | None:
    """The next piece; `missing` bytes are not there yet without it.

    Returns the statement of a Query that is whole now: it is executed, and to be settled.
    """
    gather, judge = session.gather, session.judge
    assert gather is not None
    assert judge is not None
    gather += data[:missing]
    if missing > len(data):
        return None
    stop(session, 0)
    is_query = gather.startswith(b"Q")
    body = bytes(memoryview(gather)[1:])
    if is_query:
        statement = judge.statement(body.removesuffix(b"\0"), session.readable)
        session.unnamed = None
    else:
        name, _, rest = body.partition(b"\0")
        statement = judge.statement(rest.partition(b"\0")[0], session.readable)
        named.name(session, name, statement)
    session.last = statement
    return statement if is_query else None


def stop(session: Session, missing: int) -> None:
    """Keep it no longer; `missing` bytes have not come."""
    if session.gather is not None:
        # Kind and body are in it; the size that was counted is the body's without its NUL.
        session.hub.gate.gathered -= len(session.gather) + missing - 2
        session.gather = None
