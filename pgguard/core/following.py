"""The quick way through a watched session: a statement that names the tenant of its transaction.

Most statements of a transaction name one tenant in one place. Where its value stood before, and
what it was, is remembered with the statement, so that the next one is told by its bytes: the hot
loop (core/usual) compares those that name `Session.tenant`, and says by `Session.begun` and `seen`
what it has found. Laws: what is not told so is weighed (core/weighing); `Session.tenant` is empty
unless it is the only one that the transaction may name; bytes tell only a text that has that value
where the statement's own has it; who looks at the tenants of a transaction calls `note` first.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import TYPE_CHECKING

from pgguard.core.watching import forget, watch_of
from pgguard.sql.literals import behind, finder, opening
from pgguard.sql.session_effects import Kind
from pgguard.wire import codes

if TYPE_CHECKING:
    from pgguard.core.session import Session
    from pgguard.core.watching import Watch
    from pgguard.sql.statement import Statement

_header = Struct(">BI").unpack_from
_int16 = Struct(">H").unpack_from
_int32 = Struct(">i").unpack_from

_LONGEST = 100
"""Bytes of a value that is remembered."""
_MOST = 100
"""Values that are, of a session."""
_FEW = 8
"""Tenants whose names are remembered with a statement."""


def passes(session: Session, kind: Kind) -> None:
    """A transaction begins or ends, by a statement that does nothing else."""
    watch = watch_of(session)
    state = watch.tenants
    note(session, watch)
    if kind is Kind.BEGIN:
        state.begin()
    else:
        if state.has_settings:
            forget(session, watch)
        state.end(failed=kind is Kind.ROLLBACK)
    session.tenant = ""
    session.watched = state.watches


def note(session: Session, watch: Watch) -> None:
    """Write down what was told by the bytes alone: that a transaction has begun, and for whom."""
    if session.begun:
        session.begun = False
        watch.tenants.begin()
    if session.seen:
        session.seen = False
        watch.tenants.also(watch.key)


def is_known(session: Session, statement: Statement, chunk: bytes, at: int) -> bool:
    """Whether the Query or Bind at that offset names by its only tenant parameter, or literal,
    nobody who was not named before: then there is nothing to weigh. Else its value is remembered
    for the next time."""
    watch = session.guard
    if watch is None:
        return False
    note(session, watch)
    by_text = chunk[at] == codes.QUERY
    found = _literal(statement, chunk, at) if by_text else None
    if found is None and statement.single and chunk[at] == codes.BIND:
        found = _bound(statement, chunk, at)
    if found is None:
        return False
    value = statement.tenants[0].type, *found
    key = watch.raws.get(value)
    if key is None:
        watch.asked = (value, statement) if len(watch.raws) < _MOST else None
        return False
    if not watch.tenants.also(key):
        return False
    if by_text:
        _remember(statement, key, found[1])
        watch.key = key
    session.tenant = key if key == watch.key else ""
    return True


def _remember(statement: Statement, key: str, raw: bytes) -> None:
    """Have its next text told by its bytes: by its end if the tenant is the last literal, since the
    end of a text of that shape shows the last one if it shows what stands before that."""
    if max(len(statement.ends), len(statement.openings)) >= _FEW:
        statement.ends, statement.openings = {}, {}
    end = behind(statement.text, statement.literal)
    if end is not None:
        statement.ends = {**statement.ends, key: b"%b%b%b\0" % (end[0], raw, end[1])}
    elif way := opening(statement.text, statement.literal):
        way = way._replace(last=raw + way.last[-1:])
        statement.openings = {**statement.openings, key: way}


def _literal(statement: Statement, chunk: bytes, at: int) -> tuple[bytes, bytes] | None:
    """The only literal that names the tenant of a Query."""
    if statement.literal < 0:
        return None
    pattern = finder(statement.text, statement.literal)
    match = pattern.fullmatch(chunk, at + 5, at + _header(chunk, at)[1]) if pattern else None
    return (b"", match[1]) if match is not None and len(match[1]) <= _LONGEST else None


def _bound(statement: Statement, chunk: bytes, at: int) -> tuple[bytes, bytes] | None:
    """The formats and the value of the only parameter that names the tenant of a Bind."""
    try:
        start = at = chunk.index(0, chunk.index(0, at + 5) + 1) + 1
        at += 4 + 2 * _int16(chunk, at)[0]
        formats = chunk[start : at - 2]
        for _ in range(statement.single - 1):
            at += 4 + max(0, _int32(chunk, at)[0])
        size = _int32(chunk, at)[0]
    except (ValueError, StructError):
        return None
    raw = chunk[at + 4 : at + 4 + size]
    return (formats, raw) if 0 < size <= _LONGEST and len(raw) == size else None
