"""The usual chunks of a session that shares servers: one whole Query, or the batch of a prepared
statement, that leaves nothing behind.

`receive` is the hot loop of such a session, and long on purpose. They are written as they came, but
for the name under which a statement stands on the server, and their replies are not walked. Law:
kept in step with the loop in `core/session`; whatever is not just that goes the way of
`core/translating`.
"""

from __future__ import annotations

from bisect import bisect_left
from struct import Struct
from typing import TYPE_CHECKING

from pgguard.core.following import is_known, passes
from pgguard.core.pipeline import MANY
from pgguard.core.prepared import Prepared
from pgguard.core.server import SHORTEST
from pgguard.core.session import NEVER, USUAL_LIMIT, USUAL_TAIL
from pgguard.core.weighing import parse_of, weigh
from pgguard.counters import SECONDS
from pgguard.sql.cache import DIGITS
from pgguard.sql.effects import COPY, SEQUENCES
from pgguard.sql.literals import opens
from pgguard.sql.session_effects import Kind

if TYPE_CHECKING:
    from pgguard.core.shared_session import SharedSession
    from pgguard.sql.statement import Statement
    from pgguard.tenancy.judge import Judge

_header = Struct(">BI").unpack_from
_bind = Struct(">BIH").unpack_from
"""Type and length of a Bind, and the two bytes behind them: both names are empty if they are 0."""
_bind_to = Struct(">BIx").pack
"""A Bind with a length to the unnamed portal, up to the name of its statement."""
_BEGIN = Kind.BEGIN
_NONE: tuple[bytes, ...] = ()
"""No text ends with any of these."""


def receive(session: SharedSession, data: bytes) -> None:
    """A chunk from the socket."""
    server = session.server
    judge = session.judge
    end = len(data)
    if (
        server is None
        or server.walking
        or session.unsynced
        or session.waits
        or session.skip
        or session.partial
        or session.held_back is not None
        or judge is None
        or end < 6
    ):
        session.receive_unusual(data)
        return
    entries = server.pipeline.entries
    kind, length = _header(data, 0)
    after = length + 1
    known: Statement | None = None
    prepared: Prepared | None = None
    entry, at, chunk = 0, 0, data
    if kind == 0x51:  # Query
        if after == end:
            entry = 17
            text = data[5:-1]
            known = session.exact.get(text) or session.numbered.get(text.translate(DIGITS))
    elif data[5] == 0 and data.endswith(USUAL_TAIL):
        if kind == 0x50:  # Parse
            if after + 29 <= end and _bind(data, after) == (0x42, end - 23 - after, 0):
                entry, at = 19, after
                begins = data.startswith(session.usual)
                prepared = session.again if begins else _parsed(session, data, after)
                known = prepared.statement if prepared is not None else None
        elif kind == 0x42 and after == end - 22 and not entries and not server.changed:  # Bind
            entry = 22
            name_end = data.find(b"\0", 6)
            name = data[6:name_end]
            prepared = session.names.get(name) if name else None
            if prepared is not None:
                stands = session.names.on_server(name)
                if server.stand.has(stands, prepared):
                    known = prepared.statement
                    size = length + len(stands) - len(name)
                    chunk = _bind_to(0x42, size) + stands + data[name_end:]
    if known is None or known.effects & COPY:
        session.receive_unusual(data)
        return
    if known.clean == judge.version:
        if session.watched:
            if entry == 17 and (
                data.endswith(known.ends.get(session.tenant, _NONE))
                or ((way := known.openings.get(session.tenant)) is not None and opens(data, 5, way))
            ):
                session.seen = True
            elif known.tenants and not _follow(session, known, data, at, prepared):
                session.receive_unusual(data)
                return
    elif known.border is None or known.version != judge.version or session.strict:
        session.receive_unusual(data)
        return
    elif session.begun:
        if known.border is not _BEGIN:
            session.watched = session.begun = session.seen = False
    elif session.watched or session.guard is None:
        passes(session, known.border)
    elif known.border is _BEGIN:
        session.watched = session.begun = True
        session.tenant = session.guard.key
    session.last_byte = now = session.hub.clock()
    session.counters.received_bytes += end
    session.last = known
    session.statements[known.verdict] += 1
    if known.effects & SEQUENCES:
        server.sequences_of = session
        session.advanced = known, server
    if entry == 22:
        server.renamed = True
    else:
        session.names.unnamed = server.stand.unnamed = prepared
    if entries:
        server.pipeline.mixed = True
    else:
        server.started = now
        if server.transaction_since is not None:
            took = now - server.ready_at
            idle = session.counters.idle_in_transaction_seconds
            idle.counts[0 if took <= SHORTEST else bisect_left(SECONDS, took)] += 1
            idle.sum += took
    entries.append(entry)
    try:
        server.forward(chunk)
    except RuntimeError:
        # The server's socket has just closed: its loss is about to be reported.
        return
    if len(entries) > MANY:
        server.pipeline.shorten()


def _parsed(session: SharedSession, data: bytes, after: int) -> Prepared | None:
    """The unnamed statement that a batch begins with, if it has been judged and leaves nothing
    behind. One that begins like the one before it is known by that from then on.

    `after` is where the Bind begins."""
    text = data[6 : data.find(b"\0", 6)]
    statement = session.exact.get(text) or session.numbered.get(text.translate(DIGITS))
    judge = session.judge
    if statement is None or judge is None:
        return None
    if statement.clean != judge.version and not _borders(statement, judge):
        return None
    prepared = session.names.unnamed
    if prepared is None or prepared.spelled or prepared.body != data[6:after]:
        prepared = Prepared(data[6:after], statement)
    if statement is not session.repeated:
        session.repeated, session.usual = statement, NEVER
    elif after <= USUAL_LIMIT:
        session.usual, session.again = data[: after + 1], prepared
    return prepared


def _borders(statement: Statement, judge: Judge) -> bool:
    """Whether it begins or ends a transaction and would be clean but for that."""
    return statement.border is not None and statement.version == judge.version


def _follow(
    session: SharedSession, statement: Statement, data: bytes, at: int, prepared: Prepared | None
) -> bool:
    """In a watched session every execution that names a tenant is weighed; False = it goes the way
    of the others.

    `at` is where the Bind begins, behind the Parse of the statement if it has no name."""
    if session.strict:
        return False
    if is_known(session, statement, data, at):
        return True
    text, oids = parse_of(data, at)
    if not at and prepared is not None:
        text, oids = prepared.body.partition(b"\0")[0], prepared.types or ()
    return weigh(session, statement, data[at:], text=text, oids=oids) is statement
