"""The usual chunks of a session that shares servers: one whole Query, or the batch of a prepared
statement, that leaves nothing behind.

They are written as they came, but for the name under which a statement stands on the server, and
their replies are not walked. Law: kept in step with the loop in `core/session`; whatever is not
just that goes the way of `core/translating`.
"""

from __future__ import annotations

from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING

from pgguard.core.pipeline import BATCH, BATCH_NAMED, MANY, QUERY
from pgguard.core.prepared import Prepared
from pgguard.core.session import NEVER, USUAL_LIMIT, USUAL_TAIL
from pgguard.core.weighing import is_known, parse_of, weigh
from pgguard.sql.cache import DIGITS
from pgguard.sql.effects import SEQUENCES

if TYPE_CHECKING:
    from pgguard.core.shared_server import SharedServer
    from pgguard.core.shared_session import SharedSession
    from pgguard.sql.statement import Statement

_length = Struct(">I").unpack_from
_names = Struct(">H").unpack_from


def send(session: SharedSession, server: SharedServer, data: bytes) -> bool:
    """Write the chunk if it is one of these; returns whether it was."""
    if server.walking or session.unsynced or len(data) < 6:
        return False
    if data[0] == 0x51 and _length(data, 1)[0] == len(data) - 1:  # Query
        statement = _clean(session, data[5:-1])
        if statement is None:
            return False
        entry, unnamed, prepared, after = QUERY, None, None, 0
    elif data[0] == 0x50 and data.endswith(USUAL_TAIL):  # Parse
        statement, after = _batch(session, data)
        if statement is None:
            return False
        entry, unnamed, prepared = BATCH, statement, session.names.unnamed
        if prepared is None or prepared.body != data[6:after]:
            prepared = Prepared(data[6:after], statement)
    elif data[0] == 0x42 and data.endswith(USUAL_TAIL):  # Bind
        return _named(session, server, data)
    else:
        return False
    if session.watched and not _follow(session, statement, data, after):
        return False
    session.last_byte = now = session.hub.clock()
    session.counters.received_bytes += len(data)
    pipeline = server.pipeline
    if pipeline.entries:
        pipeline.mixed = True
    else:
        server.started = now
        if server.transaction_since is not None:
            server.resumed(now)
    pipeline.entries.append(entry)
    session.last, session.unnamed = statement, unnamed
    session.names.unnamed = server.stand.unnamed = prepared
    if statement.effects & SEQUENCES:
        server.sequences_of = session
    session.statements[statement.verdict] += 1
    try:
        server.forward(data)
    except RuntimeError:
        # The server's socket has just closed: its loss is about to be reported.
        return True
    if len(pipeline.entries) > MANY:
        pipeline.shorten()
    return True


def _named(session: SharedSession, server: SharedServer, data: bytes) -> bool:
    """The batch of a statement that has a name and stands on the server, while nothing is owed."""
    judge, names, entries = session.judge, session.names, server.pipeline.entries
    end = data.find(b"\0", 6)
    if entries or data[5] or end < 7 or _length(data, 1)[0] != len(data) - 23 or server.changed:
        return False
    name = data[6:end]
    prepared = names.get(name)
    if prepared is None or judge is None or prepared.statement.clean != judge.version:
        return False
    stands = names.on_server(name)
    if not server.stand.has(stands, prepared):
        return False
    statement = prepared.statement
    if session.watched and not _follow(session, statement, data, 0, prepared):
        return False
    session.last_byte = server.started = now = session.hub.clock()
    session.counters.received_bytes += len(data)
    if server.transaction_since is not None:
        server.resumed(now)
    entries.append(BATCH_NAMED)
    session.last = statement
    if statement.effects & SEQUENCES:
        server.sequences_of = session
    session.statements[statement.verdict] += 1
    server.renamed = True
    length = len(data) - 23 + len(stands) - len(name)
    with suppress(RuntimeError):
        # Else the server's socket has just closed: its loss is about to be reported.
        server.forward(b"B%b\0%b%b" % (length.to_bytes(4, "big"), stands, data[end:]))
    return True


def _follow(
    session: SharedSession,
    statement: Statement,
    data: bytes,
    bind: int,
    prepared: Prepared | None = None,
) -> bool:
    """In a watched session every execution is weighed; False = it goes the way of the others."""
    if session.strict:
        return False
    if statement.tenants:
        if data[bind] == 0x42 and is_known(session, statement, data, bind):
            return True
        text, oids = b"", prepared.types or () if prepared is not None else ()
        if prepared is not None:
            text = prepared.body.partition(b"\0")[0]
        elif bind:
            text, oids = parse_of(data, bind)
        return weigh(session, statement, data[bind:], text=text, oids=oids) is statement
    return True


def _clean(session: SharedSession, text: bytes) -> Statement | None:
    """The statement of a text, if it has been judged and leaves nothing behind."""
    statement = session.exact.get(text) or session.numbered.get(text.translate(DIGITS))
    judge = session.judge
    if statement is None or judge is None or statement.clean != judge.version:
        return None
    return statement


def _batch(session: SharedSession, data: bytes) -> tuple[Statement | None, int]:
    """The statement that Parse, Bind, Describe, Execute and Sync bring, and where the Bind begins.

    A batch that begins like the one before it is of the same statement.
    """
    repeated, judge, end = session.repeated, session.judge, len(data)
    known = repeated is not None and data.startswith(session.usual)
    after = len(session.usual) - 1 if known else 1 + _length(data, 1)[0]
    if not (
        judge is not None
        and after + 29 <= end
        and data[5] == 0
        and data[after] == 0x42
        and _length(data, after + 1)[0] == end - 23 - after
        and _names(data, after + 5)[0] == 0
    ):
        return None, 0
    if known and repeated is not None and repeated.clean == judge.version:
        return repeated, after
    statement = _clean(session, data[6 : data.find(b"\0", 6)])
    if statement is None:
        return None, 0
    if statement is not repeated:
        session.repeated, session.usual = statement, NEVER
    elif after <= USUAL_LIMIT:
        session.usual = data[: after + 1]
    return statement, after
