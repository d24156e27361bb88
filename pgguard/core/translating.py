"""What a session says, made fit for a server that is shared: names, and what must come before.

`translate` is the way of every chunk but the most usual ones (see `SharedSession.receive`): it
looks at each message, gives the server the statements that it lacks, renames, and knows of every
statement what it leaves behind before it is sent. Laws: what is sent is in the session's order;
Query and Parse are held until they are whole; entries match what is sent, message by message, since
the replies are walked.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from pgguard.core import guarding, named, pipeline, upkeep
from pgguard.core.learning import must_settle
from pgguard.core.malformed import EXPECTED, break_off
from pgguard.core.prepared import Change, Prepared
from pgguard.core.signals import in_bind, in_text
from pgguard.core.watching import watch_of
from pgguard.errors import ProtocolViolation
from pgguard.sql.session_effects import Kind
from pgguard.wire import backend, codes, frontend
from pgguard.wire.codes import FRONTEND_LIMIT, KNOWN_FRONTEND
from pgguard.wire.scan import message

if TYPE_CHECKING:
    from pgguard.core.shared_server import SharedServer
    from pgguard.core.shared_session import SharedSession
    from pgguard.sql.statement import Statement

_header = Struct(">BI").unpack_from

WHOLE = 1 << 20
"""Length of a Query or Parse up to which it is held until it is whole; a longer one pins."""

NAMES = 2048
"""Bytes of a Bind in which both of its names must end; Postgres cuts names after 63."""


_BATCHED = frozenset({codes.PARSE, codes.BIND, codes.DESCRIBE, codes.EXECUTE, codes.CLOSE})

_JUDGED = frozenset({codes.QUERY, codes.PARSE, codes.BIND})

_TEXTS = frozenset({25, 1043})
"""OIDs of text and varchar (pg_type)."""

_NOWHERE = b"\x01"
"""The name of a statement that no session makes: to bind it fails as to bind an unknown one."""

_RESULT_TYPE = backend.fields_message(
    codes.ERROR_RESPONSE,
    {
        "S": "ERROR",
        "V": "ERROR",
        "C": "0A000",
        "M": "cached plan must not change result type",
        "F": "plancache.c",
        "R": "RevalidateCachedQuery",
    },
)[5:]
"""asyncpg and pgJDBC know by its routine that they are to prepare the statement again."""

_MISREAD = backend.fields_message(
    codes.ERROR_RESPONSE,
    {
        "S": "ERROR",
        "V": "ERROR",
        "C": "0A000",
        "M": "pgguard: a prepared statement cannot be made again since its session has changed how"
        " texts are read",
        "D": "It was prepared with another client_encoding or standard_conforming_strings, on"
        " another server connection than the session has now.",
        "H": "Prepare it again, or set them before anything is prepared.",
    },
)[5:]


def translate(session: SharedSession, server: SharedServer, data: bytes) -> None:
    """A chunk of a linked session: write what it becomes."""
    pieces: list[bytes] = []
    chunk = session.partial + data
    session.partial = b""
    pos = 0
    if session.skip:
        pos = min(session.skip, len(chunk))
        session.skip -= pos
        if not guarding.is_dropping(session):
            pieces.append(chunk[:pos])
    while len(chunk) - pos >= 5:
        kind, length = _header(chunk, pos)
        if length < 4 or length > FRONTEND_LIMIT[kind]:
            break_off(session, b"".join(pieces) + chunk[pos : pos + 5], kind)
            return
        after = pos + 1 + length
        whole = after <= len(chunk)
        if not whole and _must_be_whole(session, kind, length, len(chunk) - pos):
            break
        if session.strict and whole and guarding.must_wait(session, server, chunk[pos:after]):
            session.held, session.waits = chunk[pos:], True
            chunk, pos = b"", 0
            break
        if kind == codes.BIND and (made := _made_again(session, server, chunk[pos:after])):
            # What it returns now must be known before it is bound; the rest waits.
            pieces.append(made)
            session.held, session.waits = chunk[pos:], True
            chunk, pos = b"", 0
            break
        must_wait = _must_wait(session, server, kind, chunk[pos:after])
        if must_wait and not server.pipeline.passes_over:
            session.held, session.waits = chunk[pos:], True
            chunk, pos = b"", 0
            break
        pieces.append(_translate(session, server, kind, chunk[pos:after], whole=whole))
        if kind in _BATCHED:
            session.unsynced = True
            session.bound = session.bound or kind in (codes.BIND, codes.EXECUTE)
        if not whole:
            session.skip = after - len(chunk)
            pos = len(chunk)
            break
        pos = after
        if not session.unsynced:
            server.stand.batch_ends()
        elif kind != codes.QUERY:
            continue
        if must_settle(session) and not server.pipeline.passes_over:
            # Which of its names there are then is known when that is done; the rest waits.
            session.held, session.waits = chunk[pos:], True
            chunk, pos = b"", 0
            break
    session.partial = chunk[pos:]
    if session.partial and session.partial[0] not in EXPECTED:
        # Postgres looks at the type alone, and has a word for it.
        pieces.append(session.partial)
    text = b"".join(pieces)
    if session.must_wait and session.hub.close_services(server):
        # T27: spare servers and service connections would make it wait and fail.
        session.held_back = text
    elif text:
        server.write(text)
    session.must_wait = False
    if len(server.pipeline.entries) > pipeline.MANY:
        session.out.rest()
        server.doubt = server.doubt or "too much was owed at once"
        server.pipeline.stretch()


def _must_wait(session: SharedSession, server: SharedServer, kind: int, raw: bytes) -> bool:
    """Whether what comes of a message is known only when something else has been answered."""
    if not server.pipeline.entries:
        return False
    name = _named(kind, raw)
    if name is not None and server.stand.must_wait(session.names, name):
        return True
    if kind == codes.BIND and name is not None:
        prepared = server.stand.sees(session.names, name)
        return prepared is not None and session.lays_bare(prepared.statement)
    if kind == codes.QUERY:
        text = raw[5:-1]
    elif kind == codes.PARSE:
        text = raw[raw.find(b"\0", 5) + 1 :].partition(b"\0")[0]
    else:
        return False
    taken = name if kind == codes.PARSE and name else b""
    return len(raw) <= WHOLE and session.lays_bare(session.look_up(text, whole=True), taken)


def _named(kind: int, raw: bytes) -> bytes | None:
    """The statement that a message means; None if it means none."""
    if kind == codes.BIND:
        start = raw.find(b"\0", 5) + 1
        return raw[start : raw.find(b"\0", start)]
    if kind == codes.PARSE:
        return raw[5 : raw.find(b"\0", 5)] or None
    if kind in (codes.DESCRIBE, codes.CLOSE) and raw[5:6] == b"S":
        return raw[6:-1]
    return None


def _must_be_whole(session: SharedSession, kind: int, length: int, there: int) -> bool:
    if session.strict and kind in _JUDGED and guarding.holds(session, length):
        return True
    if kind in (codes.QUERY, codes.PARSE):
        return length <= WHOLE
    if kind == codes.BIND:
        return there < NAMES
    return kind in (codes.DESCRIBE, codes.CLOSE)


def _translate(
    session: SharedSession, server: SharedServer, kind: int, raw: bytes, *, whole: bool
) -> bytes:
    """One message, or as much of it as has come; an entry for its answer."""
    entries = server.pipeline.entries
    if kind == codes.QUERY:
        return _query(session, server, raw, whole=whole)
    if kind == codes.PARSE:
        return _parse(session, server, raw, whole=whole)
    if kind == codes.BIND:
        return _bind(session, server, raw)
    if kind == codes.DESCRIBE:
        return _describe(session, server, raw)
    if kind == codes.CLOSE:
        return _close(session, server, raw)
    if kind == codes.EXECUTE:
        entries.append(pipeline.EXECUTE)
    elif kind == codes.SYNC:
        if not server.copy_in:
            entries.append(pipeline.SYNC)
            session.promised()
            session.unsynced = session.bound = False
        else:
            server.uncounted += 1
    elif kind == codes.TERMINATE:
        session.leaving = True
        return b""
    elif kind in (codes.COPY_DONE, codes.COPY_FAIL):
        if server.copy_in:
            server.copy_in = False
        elif entries:
            entries.append(pipeline.COPY_END)
    elif kind == codes.FUNCTION_CALL:
        entries.append(pipeline.CALL)
        session.calls_function()
        session.promised()
    elif kind not in KNOWN_FRONTEND:
        session.counters.unknown_messages += 1
    return raw


def _query(session: SharedSession, server: SharedServer, raw: bytes, *, whole: bool) -> bytes:
    text = raw[5:-1] if whole else raw[5:]
    statement = session.last = session.look_up(text, whole=whole)
    weighed = guarding.weighed(session, statement, raw) if whole else statement
    token = guarding.of_query(session, server, weighed) if session.strict else None
    before = b"" if token else session.prepare_for(statement)
    if server.pipeline.entries:
        server.pipeline.mixed = True
    server.pipeline.entries.append(pipeline.QUERY)
    if token is None:
        session.sends(statement, text, weighed=weighed)
    session.promised()
    # A simple Query destroys the unnamed statement (T17).
    server.stand.will(Change(b"", None, ours=False))
    if token is not None:
        watch_of(session).dropping = not whole
        return frontend.query(token)
    if session.signals(statement):
        raw = frontend.query(in_text(session, text))
    return before + raw


def _parse(session: SharedSession, server: SharedServer, raw: bytes, *, whole: bool) -> bytes:
    name, _, body = raw[5:].partition(b"\0")
    statement = session.look_up(body.partition(b"\0")[0], whole=whole)
    session.last = statement
    prepared = Prepared(body if whole else b"", statement)
    if session.strict and (token := guarding.of_parse(session, server, statement)):
        watch_of(session).dropping = not whole
        server.stand.will(Change(name, prepared, ours=False))
        server.pipeline.entries.append(pipeline.PARSE_NAMED)
        return frontend.parse_message(session.names.on_server(name), token)
    before = session.prepare_for(statement, name)
    if name and server.stand.sees(session.names, name) is not None:
        # Postgres is to say that the name is taken.
        before += ensure(session, server, name)
    elif name and server.stand.finds(session.names, name) is not None:
        before += _close_old(session, server, name)
    if not whole:
        session.pin_for_life("a statement that is too long to be kept")
    server.stand.will(Change(name, prepared, ours=False))
    server.pipeline.entries.append(pipeline.PARSE_NAMED)
    stands = session.names.on_server(name)
    if not whole:
        length = int.from_bytes(raw[1:5], "big") + len(stands) - len(name)
        return before + b"P" + length.to_bytes(4, "big") + stands + b"\0" + body
    parse = message(codes.PARSE, stands + b"\0" + body)
    if not name:
        return before + parse
    return before + parse + _learn_types(server, stands, prepared)


def _learn_types(server: SharedServer, stands: bytes, prepared: Prepared) -> bytes:
    """A Describe of ours behind a named Parse, so that it can be made again as it was (T18)."""
    server.pipeline.entries.append(pipeline.DESCRIBE_OURS)
    server.stand.targets.append(prepared)
    return frontend.describe_message(codes.STATEMENT, stands)


def ensure(session: SharedSession, server: SharedServer, name: bytes) -> bytes:
    """What makes a name mean on this server what the session means by it, if it does not yet."""
    names, stand = session.names, server.stand
    prepared, found = stand.sees(names, name), stand.finds(names, name)
    if found is prepared:
        return b""
    if prepared is None:
        # The unnamed statement of somebody else; other names go as they are, and are not found.
        return b"" if name else _close_old(session, server, name)
    before = _close_old(session, server, name) if name and found is not None else b""
    stand.will(Change(name, prepared, ours=True))
    server.pipeline.entries.append(pipeline.PARSE_OURS)
    if not names.reads(prepared):
        server.refusing = _MISREAD
        return before + frontend.parse_message(names.on_server(name), _NOWHERE)
    return before + prepared.parse(names.on_server(name))


def _with_pids(
    session: SharedSession, server: SharedServer, name: bytes, prepared: Prepared
) -> bytes:
    """What makes a name mean what the session means by it at this moment: sessions have other
    servers than when they were named in its text (T28)."""
    text, _, types = prepared.body.partition(b"\0")
    now = in_text(session, text)
    if now == text:
        return ensure(session, server, name)
    stand = server.stand
    made = Prepared(now + b"\0" + types, prepared.statement, prepared.types)
    found = stand.finds(session.names, name)
    if found is not None and (found.body, found.types) == (made.body, made.types):
        return b""
    before = _close_old(session, server, name) if name and found is not None else b""
    stand.will(Change(name, made, ours=True))
    server.pipeline.entries.append(pipeline.PARSE_OURS)
    return before + made.parse(session.names.on_server(name))


def _close_old(session: SharedSession, server: SharedServer, name: bytes) -> bytes:
    """What stands here under the name is not what the session means by it any more."""
    server.stand.will(Change(name, None, ours=True))
    server.pipeline.entries.append(pipeline.CLOSE_OURS)
    return frontend.close_message(codes.STATEMENT, session.names.on_server(name))


def _made_again(session: SharedSession, server: SharedServer, raw: bytes) -> bytes:
    """A statement that this server lacks, and that DDL may have changed since it was described:
    Parse, Describe and Flush, so that it is compared first (T18). Else empty."""
    _, _, rest = raw[5:].partition(b"\0")
    name = rest.partition(b"\0")[0]
    prepared = server.stand.sees(session.names, name)
    if prepared is None or prepared.rows is None or server.changed is prepared:
        return b""
    if server.batch_failed:
        # Postgres passes over whatever comes before the Sync, and would answer none of it.
        return b""
    if prepared.epoch == session.hub.sharing.epoch(session.database):
        return b""
    made = ensure(session, server, name)
    if not made:
        return b""
    server.comparing = prepared
    return made + _learn_types(server, session.names.on_server(name), prepared) + frontend.flush()


def _bind(session: SharedSession, server: SharedServer, raw: bytes) -> bytes:
    portal_end = raw.find(b"\0", 5)
    name_end = raw.find(b"\0", portal_end + 1)
    if portal_end < 0 or name_end < 0:
        server.pipeline.entries.append(pipeline.BIND)
        return raw
    name = raw[portal_end + 1 : name_end]
    prepared = server.stand.sees(session.names, name)
    if prepared is not None and server.changed is prepared:
        # As Postgres itself says it where the statement stood before the change.
        server.changed = None
        server.refusing = _RESULT_TYPE
        server.pipeline.entries.append(pipeline.BIND)
        return frontend.bind_message(b"", session.names.on_server(_NOWHERE))
    if prepared is None:
        before = ensure(session, server, name)
        server.pipeline.entries.append(pipeline.BIND)
        by_sql = named.by_sql(session, name) if name else None
        if by_sql is None:
            return before + raw
        session.last = by_sql
        weighed = guarding.weighed(session, by_sql, raw)
        if session.strict and (token := guarding.of_query(session, server, weighed)):
            watch_of(session).dropping = len(raw) < 1 + int.from_bytes(raw[1:5], "big")
            return frontend.bind_message(b"", token)
        session.sends(by_sql, by_sql.text, parameters=True, weighed=weighed)
        return before + raw
    session.last = prepared.statement
    weighed = guarding.weighed(session, prepared.statement, raw, prepared)
    if session.strict and (token := guarding.of_query(session, server, weighed)):
        watch_of(session).dropping = len(raw) < 1 + int.from_bytes(raw[1:5], "big")
        server.pipeline.entries.append(pipeline.BIND)
        return frontend.bind_message(b"", token)
    before = session.prepare_for(prepared.statement)
    if session.signals(prepared.statement):
        before += _with_pids(session, server, name, prepared)
    else:
        before += ensure(session, server, name)
    server.pipeline.entries.append(pipeline.BIND)
    text = prepared.body.partition(b"\0")[0]
    if raw[name_end + 1 : name_end + 5] == bytes(4):
        session.sends(prepared.statement, text, weighed=weighed)
    elif session.keeps(prepared.statement) and (full := _with_values(prepared, text, raw)):
        session.sends(prepared.statement, full, weighed=weighed)
    elif _of_bound_name(prepared.statement) and (full := _with_values(prepared, text, raw)):
        session.sends(session.look_up(full, whole=True), full)
    else:
        session.sends(prepared.statement, text, parameters=True, weighed=weighed)
    if session.signals(prepared.statement):
        raw = in_bind(session, text, raw)
    if not name:
        return before + raw
    stands = session.names.on_server(name)
    length = int.from_bytes(raw[1:5], "big") + len(stands) - len(name)
    head = b"B" + length.to_bytes(4, "big") + raw[5 : portal_end + 1]
    return before + head + stands + raw[name_end:]


def _of_bound_name(statement: Statement) -> bool:
    """Whether it makes a setting whose name comes by Bind."""
    return any(kind is Kind.SET_UNKNOWN and not name for kind, name in statement.session)


def _with_values(prepared: Prepared, text: bytes, raw: bytes) -> bytes | None:
    """The text with what a Bind gives it, so that the setting it makes can be made again (T20)."""
    try:
        _, _, formats, values, _ = frontend.decode_bind(raw[5:])
    except ProtocolViolation:
        # Not whole, or what Postgres will refuse.
        return None
    if any(formats):
        # Texts are the same in both formats; of anything else the type would have to be known.
        types = prepared.types or ()
        if len(types) != len(values) or set(types) - _TEXTS:
            return None
    return upkeep.with_values(text, values)


def _describe(session: SharedSession, server: SharedServer, raw: bytes) -> bytes:
    name = raw[6:-1]
    of_statement = raw[5:6] == b"S"
    prepared = server.stand.sees(session.names, name) if of_statement else None
    before = ensure(session, server, name) if of_statement else b""
    server.pipeline.entries.append(pipeline.DESCRIBE)
    server.stand.targets.append(prepared)
    if prepared is None or not name:
        return before + raw
    return before + frontend.describe_message(codes.STATEMENT, session.names.on_server(name))


def _close(session: SharedSession, server: SharedServer, raw: bytes) -> bytes:
    name = raw[6:-1]
    if raw[5:6] != b"S" or server.stand.sees(session.names, name) is None:
        server.pipeline.entries.append(pipeline.CLOSE)
        return raw
    server.stand.will(Change(name, None, ours=False))
    server.pipeline.entries.append(pipeline.CLOSE_NAMED)
    return frontend.close_message(codes.STATEMENT, session.names.on_server(name))
