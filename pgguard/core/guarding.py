"""Blocks and warns: what happens to a statement between its verdict and Postgres.

A blocked text is replaced by one that cannot be parsed, a blocked Bind by one of a statement that
does not exist, so that Postgres fails it and transaction status and skip-until-Sync are its own;
its error is exchanged for ours on the way back (transparency T31). Laws: nothing is executed before
its verdict is known as well as it will be, at most `PATIENCE` seconds later; an error is exchanged
only if it is an ERROR with the SQLSTATE that we provoked and names our token; where the transaction
has failed already Postgres has the word.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, cast

from pgguard.core import cancelling, tapping
from pgguard.core.entry import ABOVE_NOTICE
from pgguard.core.following import is_known
from pgguard.core.gate import concerns_databases
from pgguard.core.watching import watch_of
from pgguard.core.weighing import expect, parse_of
from pgguard.sql.effects import ANY, TRANSACTION
from pgguard.tenancy.policy import Action
from pgguard.tenancy.refusals import refusal
from pgguard.wire import backend, codes, frontend

if TYPE_CHECKING:
    from pgguard.core.prepared import Prepared
    from pgguard.core.server import Server
    from pgguard.core.session import Session
    from pgguard.core.shared_server import SharedServer
    from pgguard.core.shared_session import SharedSession
    from pgguard.sql.statement import Statement

_header = Struct(">BI").unpack_from

LONGEST = 16 * 1024 * 1024
"""Bytes of a message that is held until it is whole."""

INSUFFICIENT_PRIVILEGE = "42501"
INVALID_STATEMENT_NAME = "26000"
"""Of a prepared statement that is not known any more: drivers prepare it again."""
_PROVOKED = frozenset({"42601", "26000"})
"""syntax_error, invalid_sql_statement_name."""

Later = list[tuple[int, "Statement"]]
"""Executions, and in block mode Parses, that are not known to be clean: the offset of the message
in its chunk (-1 = it has been sent already) and its statement."""


def holds(session: Session, length: int) -> bool:
    """Whether a message that has not come whole is held until it has."""
    judge = session.judge
    return judge is not None and length <= min(LONGEST, judge.settings.max_statement) + 4


# Sessions with a server of their own


def send(session: Session, server: Server, chunk: bytes, later: Later) -> None:
    """Write a chunk of which not all is known to be clean."""
    judge = session.judge
    assert judge is not None
    hub = session.hub
    if session.strict:
        if not _settled(session, later):
            watch = watch_of(session)
            watch.pending, session.held_back = (chunk, later), chunk
            hub.gate.holds.add(session)
            return
        chunk = _rule(session, server, chunk, later)
    if concerns_databases(judge, [statement for _, statement in later]) and hub.close_services(
        server
    ):
        # T27: a service connection would make CREATE or DROP DATABASE wait and fail.
        session.held_back = chunk
    elif chunk:
        try:
            server.forward(chunk)
        except RuntimeError:
            # The server's socket has just closed: its loss is about to be reported.
            return
    version = judge.version
    for at, statement in later:
        clean = statement.clean == version and at >= 0 and not session.strict
        if clean and (not statement.tenants or is_known(session, statement, chunk, at)):
            # In a watched session, or behind another that is not clean.
            session.statements[statement.verdict] += 1
            continue
        if session.strict:
            # It was weighed before it was sent.
            if at < 0 or chunk[at] != codes.PARSE:
                hub.settle(session, statement)
            continue
        hub.gate.looked_at(session, statement)
        shown = _weighed(session, statement, chunk, at)
        hub.settle(session, shown)
        if len(later) == 1 and at >= 0 and server.started == session.last_byte:
            tapping.watch(session, shown)


def _weighed(session: Session, statement: Statement, chunk: bytes, at: int) -> Statement:
    """The statement as its values show it, while they are at hand."""
    if at < 0 or not _has_values(statement):
        return statement
    kind, length = _header(chunk, at)
    message = chunk[at : at + 1 + length]
    if kind == codes.BIND:
        text, oids = parse_of(chunk, at)
        text = text or _own_text(session, statement, message)
        return expect(session, statement, message, text=text, oids=oids)
    return expect(session, statement, message)


def _has_values(statement: Statement) -> bool:
    """Whether the values of an execution may say something of it."""
    return bool(statement.tenants or statement.marks or statement.keys or statement.nulls)


def _own_text(session: Session, statement: Statement, bind: bytes) -> bytes:
    """The text of a statement that was prepared by an earlier chunk; empty = not known."""
    start = bind.find(b"\0", 5) + 1
    name = bind[start : bind.find(b"\0", start)]
    if not name:
        return b""
    return session.guard.texts.get(name, statement.text) if session.guard else statement.text


def resume(session: Session, *, final: bool) -> None:
    """Verdicts have come; `final` = no better ones will."""
    watch = session.guard
    server = session.server
    if watch is None or server is None:
        return
    watch.final = final
    if watch.pending is not None:
        (chunk, later), watch.pending = watch.pending, None
        session.held_back = None
        send(session, server, chunk, later)
        if not session.held_back:
            session.catch_up()
        cancelling.gone_on(session, server)
    elif session.hub.shares:
        shared = cast("SharedSession", session)
        if shared.waits:
            shared.go_on()
    watch.final = False


def drop(session: Session, data: bytes) -> None:
    """More of a message that was blocked before it had come whole."""
    watch = watch_of(session)
    rest = data[watch.drop :]
    watch.drop -= len(data) - len(rest)
    if watch.drop:
        return
    if session.held_back:
        session.held += rest
        return
    session.held_back = None
    if rest:
        session.receive(rest)


def _settled(session: Session, later: Later) -> bool:
    gate, watch = session.hub.gate, session.guard
    final = watch is not None and watch.final
    # Every one is asked for, not only up to the first that is missing.
    missing = [one for _, one in later if not gate.settled(session, one, final=final)]
    return not missing


def _rule(session: Session, server: Server, chunk: bytes, later: Later) -> bytes:
    """The chunk without what is blocked, and `later` without it, too."""
    pieces: list[bytes] = []
    passed: Later = []
    done = shift = 0
    for number, (at, known) in enumerate(later):
        statement = known
        whole = chunk if at >= 0 else b""
        token = None
        if whole and not _left_to_postgres(session, server, statement, first=number == 0):
            of_parse = chunk[at] == codes.PARSE
            if not of_parse:
                statement = _weighed(session, statement, chunk, at)
            token = ruled(session, statement, of_parse=of_parse)
        if token is None:
            passed.append((at + shift if at >= 0 else at, statement))
            continue
        kind, length = _header(chunk, at)
        message = _substitute(kind, chunk[at + 5 : at + 1 + length], token)
        pieces += (chunk[done:at], message)
        after = at + 1 + length
        shift += len(message) - (length + 1)
        done = min(after, len(chunk))
        if after > len(chunk):
            # The rest of it goes nowhere.
            watch_of(session).drop, session.skip = session.skip, 0
            session.held_back = b""
    later[:] = passed
    return b"".join([*pieces, chunk[done:]]) if pieces else chunk


def _left_to_postgres(
    session: Session, server: Server, statement: Statement, *, first: bool
) -> bool:
    """Whether the statement comes into a failed transaction, and does not end it itself: Postgres
    answers 25P02. What was sent before it and is not answered might end it."""
    if server.status != "E" or statement.effects & (TRANSACTION | ANY):
        return False
    return first and server.started == session.last_byte


def _substitute(kind: int, body: bytes, token: bytes) -> bytes:
    """A message that fails as itself."""
    if kind == codes.QUERY:
        return frontend.query(token)
    if kind == codes.PARSE:
        return frontend.parse_message(body.partition(b"\0")[0], token)
    return frontend.bind_message(b"", token)


# Sessions that share servers


def must_wait(session: SharedSession, server: SharedServer, raw: bytes) -> bool:
    """Whether the verdict of what a message brings is not known yet; it has been asked for."""
    watch = session.guard
    final = watch is not None and watch.final
    statement = _brought(session, server, raw)
    if statement is None or session.hub.gate.settled(session, statement, final=final):
        return False
    watch_of(session)
    session.hub.gate.holds.add(session)
    return True


def _brought(session: SharedSession, server: SharedServer, raw: bytes) -> Statement | None:
    """The statement of a Query, Parse or Bind, unless it is known to be clean."""
    kind = raw[0]
    if kind == codes.BIND:
        start = raw.find(b"\0", 5) + 1
        prepared = server.stand.sees(session.names, raw[start : raw.find(b"\0", start)])
        statement = prepared.statement if prepared is not None else None
    elif kind == codes.QUERY:
        statement = session.look_up(raw[5:-1], whole=True)
    elif kind == codes.PARSE:
        text = raw[raw.find(b"\0", 5) + 1 :].partition(b"\0")[0]
        statement = session.look_up(text, whole=True)
    else:
        return None
    judge = session.judge
    known = statement is None or (judge is not None and statement.clean == judge.version)
    return None if known else statement


def of_query(session: SharedSession, server: SharedServer, statement: Statement) -> bytes | None:
    """The token for a blocked Query or Bind; None = it may run."""
    return None if _fails_anyway(server, statement) else ruled(session, statement)


def of_parse(session: SharedSession, server: SharedServer, statement: Statement) -> bytes | None:
    """The same for a Parse."""
    if _fails_anyway(server, statement):
        return None
    return ruled(session, statement, of_parse=True)


def weighed(
    session: SharedSession, statement: Statement, raw: bytes, prepared: Prepared | None = None
) -> Statement:
    """What a Query or Bind of it says by its values."""
    if prepared is not None and prepared.rows and statement.verdict >= tapping.MINIMUM:
        tapping.described(session, statement, prepared.rows)
    if not _has_values(statement):
        return statement
    if prepared is None:
        return expect(session, statement, raw)
    text = prepared.body.partition(b"\0")[0]
    return expect(session, statement, raw, text=text, oids=prepared.types or ())


def _fails_anyway(server: Server, statement: Statement) -> bool:
    """Nothing is owed, the transaction has failed, and the statement does not end it."""
    if server.status != "E" or server.pipeline.entries:
        return False
    return not statement.effects & (TRANSACTION | ANY)


def is_dropping(session: Session) -> bool:
    """Whether what is being skipped belongs to a blocked message."""
    watch = session.guard
    if watch is None or not watch.dropping:
        return False
    watch.dropping = session.skip > 0
    return True


# All sessions


def ruled(session: Session, statement: Statement, *, of_parse: bool = False) -> bytes | None:
    """The token that takes the place of a blocked statement; None = it may run."""
    watch, gate = session.guard, session.hub.gate
    gate.settled(session, statement, final=True)
    if of_parse and statement.nulls:
        # Its executions decide.
        return None
    if gate.action(session.client, statement) is not Action.block:
        return None
    watch = watch or watch_of(session)
    if not of_parse and watch.refused is statement:
        watch.refused = None
    else:
        gate.blocked(session.client, statement, session.hub.clock())
        watch.refused = statement if of_parse else None
    return watch.token(error(session, statement))


def error(session: Session, statement: Statement) -> bytes:
    """Body of the ErrorResponse of a blocked statement."""
    words = refusal(statement)
    forgotten = session.judge is not None and statement is session.judge.forgotten()
    return backend.error_response(
        severity="ERROR",
        sqlstate=INVALID_STATEMENT_NAME if forgotten else INSUFFICIENT_PRIVILEGE,
        message=words.message,
        detail=words.detail,
        hint=words.hint,
    )[5:]


def told(session: Session, body: bytes) -> bytes:
    """Body of an ErrorResponse as the session gets it."""
    watch = session.guard
    if watch is None or not watch.blocked:
        return body
    fields = backend.decode_fields(body)
    if fields.get("C") not in _PROVOKED or (fields.get("V") or fields.get("S")) != "ERROR":
        return body
    return watch.answer(fields.get("M", "").encode("utf-8", "surrogateescape")) or body


def reword(session: Session, chunk: bytes, start: int, end: int) -> bytes:
    """The chunk with the ErrorResponse at `start` as the session gets it; what begins at `end`
    is left as it is."""
    body = chunk[start + 5 : end]
    words = told(session, body)
    if words is body:
        return chunk
    return chunk[:start] + backend.message(codes.ERROR_RESPONSE, words) + chunk[end:]


def warn(session: Session, statement: Statement) -> None:
    """A NoticeResponse about a statement, once for each session, if it wants to hear any."""
    server = session.server
    if server is None or not server.between_messages() or not watch_of(session).warns(statement):
        return
    if server.parameters.get("client_min_messages", "").lower() in ABOVE_NOTICE:
        return
    words = refusal(statement, blocked=False)
    session.write(
        backend.notice_response(
            severity="WARNING",
            sqlstate="01000",
            message=words.message,
            detail=words.detail,
            hint=words.hint,
        )
    )
