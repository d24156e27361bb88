"""The backend side: one server connection, from its link to the end of its socket.

`receive` is the hot loop of replies: it walks message headers in the chunk that arrived and writes
that very bytes object to the session; only the few messages that change what we know are looked
into. It is long on purpose and must be kept in step with the loop in `core/session`.

Laws: a server belongs to one session and is closed with it, never reused; it counts against cap and
total until its socket has given EOF (transparency T12); a reply that breaks the protocol ends both.
"""

from __future__ import annotations

from bisect import bisect_left
from struct import Struct
from typing import TYPE_CHECKING

from pgguard.core import guarding, tapping, weighing
from pgguard.core.pipeline import Pipeline
from pgguard.counters import SECONDS
from pgguard.errors import ProtocolViolation
from pgguard.pool.servers import ServerState
from pgguard.sql.effects import DATABASE_DDL
from pgguard.wire import backend, frontend
from pgguard.wire.codes import (
    BACKEND_LIMIT,
    BIND_COMPLETE,
    COMMAND_COMPLETE,
    KNOWN_BACKEND,
    LIBPQ_SHORT_MESSAGE_LIMIT,
    PARSE_COMPLETE,
)
from pgguard.wire.scan import message

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgguard.core.hub import Hub
    from pgguard.core.session import Session
    from pgguard.core.tapping import Tap
    from pgguard.core.types import Client, Out
    from pgguard.pool.admission import Ticket

_header = Struct(">BI").unpack_from

SHORTEST = SECONDS[0]
_STATUSES = b"ITE"
_IDLE, _OPEN = b"IT"
USUAL_HEAD = message(PARSE_COMPLETE) + message(BIND_COMPLETE)
_MARKED = frozenset(b"ZCESG")
"""ReadyForQuery, CommandComplete, ErrorResponse, ParameterStatus, CopyInResponse."""
_PLAIN = [
    min(BACKEND_LIMIT[type_], LIBPQ_SHORT_MESSAGE_LIMIT)
    if type_ in KNOWN_BACKEND and type_ not in _MARKED
    else 0
    for type_ in range(256)
]
"""Lengths up to which a message needs no second look, by type."""
_PLAIN_IDLE = _PLAIN[:]
_PLAIN_IDLE[COMMAND_COMPLETE] = BACKEND_LIMIT[COMMAND_COMPLETE]
"""The same outside of a transaction, where no ROLLBACK has to be seen."""

MARKED_LIMIT = 1 << 20
"""Bytes of an ErrorResponse or ParameterStatus that are kept to be read; more stays unread."""


class Server:
    """One backend connection."""

    __slots__ = (
        "blockers",
        "cancel_later",
        "cancelling",
        "cancels",
        "client",
        "close_reason",
        "copy_in",
        "counters",
        "database",
        "ddl",
        "failed",
        "fatal",
        "forward",
        "greeting",
        "hub",
        "id",
        "noted",
        "out",
        "parameters",
        "partial",
        "paused",
        "pid",
        "pipeline",
        "plain",
        "ready_at",
        "rolled_back",
        "seconds",
        "secret_key",
        "session",
        "since",
        "skip",
        "started",
        "state",
        "status",
        "steady",
        "tap",
        "ticket",
        "transaction_since",
        "user",
        "write",
    )

    def __init__(self, hub: Hub, number: int, session: Session, ticket: Ticket) -> None:
        self.hub = hub
        self.id = number
        self.counters = hub.counters
        self.session: Session | None = session
        self.client: Client = session.client
        self.ticket: Ticket | None = ticket
        self.user: str = session.user
        self.database: str = session.database
        self.state = ServerState.CONNECTING
        self.since = self.started = self.ready_at = hub.clock()
        self.out: Out = hub.nowhere
        self.write = self.out.write
        self.forward = self.out.forward
        self.pid = 0
        self.secret_key = b""
        self.status = "I"
        self.steady = _IDLE
        """The byte in which a ReadyForQuery says that the status has not changed; those in a failed
        transaction are all looked at."""
        self.plain = _PLAIN_IDLE
        """Lengths up to which a message needs no second look in this status."""
        self.seconds = hub.counters.autocommit_seconds
        """Where the time of a statement that leaves it so is counted."""
        self.greeting: list[bytes] = []
        self.parameters: dict[str, str] = {}
        self.pipeline = Pipeline()
        self.partial = b""
        self.skip = 0
        self.tap: Tap | None = None
        """A look at the rows that come (PGG107)."""
        self.copy_in = False
        self.noted = False
        """Something came that the end of the transaction must look at: DDL, an error, a COPY."""
        self.ddl = False
        self.failed = False
        self.rolled_back = False
        self.fatal: dict[str, str] = {}
        self.paused = False
        self.transaction_since: float | None = None
        self.blockers: tuple[float, frozenset[int]] = (0.0, frozenset())
        """The statement's `started`, and the pids that held the lock it waited for."""
        self.cancelling = False
        self.cancel_later = False
        """Its client wants what has not been sent yet to be canceled (T29)."""
        self.cancels = 0
        """Requests of the client that are on their way."""
        self.close_reason = ""

    def __repr__(self) -> str:
        return f"<server {self.id} pid {self.pid} {self.state.name}>"

    @property
    def due(self) -> int:
        return self.pipeline.due

    def connected(self, out: Out) -> None:
        self.out = out
        self.write = out.write
        self.forward = out.forward

    def become(self, status: str) -> None:
        """The transaction status that Postgres has told."""
        self.status = status
        if status == "I":
            self.steady, self.plain = _IDLE, _PLAIN_IDLE
            self.seconds = self.counters.autocommit_seconds
        else:
            self.steady, self.plain = _OPEN if status == "T" else -1, _PLAIN
            self.seconds = self.counters.statement_seconds

    def resumed(self, now: float) -> None:
        """The client goes on in its transaction."""
        self.hub.counters.idle_in_transaction_seconds.observe(now - self.ready_at)

    def notable(self, effects: int) -> bool:
        """A statement that changes the catalogue is on its way; True if it is about databases."""
        self.noted = self.ddl = True
        return bool(effects & DATABASE_DDL)

    def receive(self, data: bytes) -> None:
        """A chunk from Postgres. The hot loop of replies."""
        session = self.session
        if session is None:
            return
        hub = self.hub
        if self.tap is not None:
            tapping.feed(self, data)
        chunk = data
        pos = 0
        if self.skip:
            pos = self.skip
            if pos > len(data):
                self.skip = pos - len(data)
                self.counters.sent_bytes += len(data)
                session.write(data)
                return
            self.skip = 0
        elif self.partial:
            chunk = self.partial + data
            self.partial = b""
        elif data[0] == 0x31 and data.startswith(USUAL_HEAD):
            # ParseComplete and BindComplete in one step: they begin most extended replies.
            pos = 10
        end = len(chunk)
        last_header = end - 5
        plain = self.plain
        while True:
            while pos <= last_header:
                kind, length = _header(chunk, pos)
                if length > plain[kind] or length < 4:
                    break
                pos += length + 1
            else:
                break
            after = pos + 1 + length
            if kind == 0x5A:  # ReadyForQuery
                if length != 5:
                    self._violation(chunk[:pos], kind)
                    return
                if after > end:
                    break
                now = self.ready_at = hub.clock()
                if chunk[pos + 5] == self.steady and not self.noted:
                    took = now - self.started
                    seconds = self.seconds
                    seconds.counts[0 if took <= SHORTEST else bisect_left(SECONDS, took)] += 1
                    seconds.sum += took
                    entries = self.pipeline.entries
                    count = len(entries)
                    if count == 1 or (
                        # One extended batch up to its Sync is all that is owed.
                        count
                        and entries[-1] == 16 > entries[0]
                        and entries.index(16) == count - 1
                        and not self.pipeline.mixed
                    ):
                        entries.clear()
                    elif self.pipeline.ready():
                        self.started = now
                elif chunk[pos + 5] not in _STATUSES:
                    self._violation(chunk[:pos], kind)
                    return
                else:
                    more = self.pipeline.ready()
                    self._ready(chr(chunk[pos + 5]), now)
                    plain = self.plain
                    if more:
                        self.started = now
            elif length < 4 or length > BACKEND_LIMIT[kind]:
                self._violation(chunk[:pos], kind)
                return
            elif kind == 0x43:  # CommandComplete
                if after > end:
                    break
                # ROLLBACK TO says so, too: the last one before ReadyForQuery counts.
                self.rolled_back = chunk.startswith(b"ROLLBACK", pos + 5)
            elif kind in (0x45, 0x53):  # ErrorResponse, ParameterStatus
                if after > end and end - pos < MARKED_LIMIT:
                    break
                if session.guard is not None and kind == 0x45 and after <= end:
                    chunk = guarding.reword(session, chunk, pos, after)
                    after += len(chunk) - end
                    end = len(chunk)
                    last_header = end - 5
                self._look_into(kind, chunk[pos + 5 : after])
                if self.fatal:
                    self._last_word(chunk[:after])
                    return
            elif kind == 0x47:  # CopyInResponse
                self.copy_in = not self.pipeline.copy_in_begins()
                self.noted = True
            elif kind not in KNOWN_BACKEND:
                self.counters.unknown_messages += 1
            pos = after
        if pos > end:
            self.skip = pos - end
            pos = end
        if pos < end:
            # What must be whole to be understood waits here: a message of ours may come before it.
            self.partial = chunk[pos:]
            chunk = chunk[:pos]
        if pos:
            self.counters.sent_bytes += pos
            try:
                session.forward(chunk)
            except RuntimeError:
                # The client's socket has just closed: its loss is about to be reported.
                return
        if hub.draining and not self.pipeline.entries:
            self.hub.drained(self)

    def _ready(self, status: str, now: float) -> None:
        """ReadyForQuery after anything but a plain statement of its own."""
        hub = self.hub
        counters = hub.counters
        counters.statement_seconds.observe(now - self.started)
        before = self.status
        self.become(status)
        self.copy_in = False
        if status == "I":
            failed = self.failed if before == "I" else self.rolled_back or before == "E"
            session = self.session
            if session is not None and session.guard is not None:
                changes = session.watched or session.guard.tenants.undo is not None
                if failed or changes:
                    weighing.ended(session, failed=failed, owed=bool(self.pipeline.entries))
            counters.transactions["rollback" if failed else "commit"] += 1
            counters.transaction_seconds.observe(now - (self.transaction_since or self.started))
            self.transaction_since = None
            ddl = self.ddl
            self.noted = self.failed = self.rolled_back = self.ddl = False
            if ddl:
                hub.catalogue_changed(self)
        elif before == "I":
            self.transaction_since = self.started
        if not self.pipeline.entries:
            hub.blocking.discard(self)

    def _look_into(self, kind: int, body: bytes) -> None:
        try:
            if kind == 0x53:
                name, value = backend.decode_parameter_status(body)
                self.hub.parameter_changed(self, name, value)
                return
            self.noted = self.failed = True
            self.pipeline.failed()
            # Postgres takes no more of a copy, and counts Syncs again.
            self.copy_in = False
            fields = backend.decode_fields(body)
        except ProtocolViolation:
            # What cannot be read is still the server's word: it is passed on as it came.
            return
        sqlstate = fields.get("C", "?????")[:5]
        errors = self.hub.counters.errors
        if sqlstate in errors or len(errors) < 500:
            errors[sqlstate] = errors.get(sqlstate, 0) + 1
        if (fields.get("V") or fields.get("S")) in ("FATAL", "PANIC"):
            self.fatal = fields

    def _last_word(self, chunk: bytes) -> None:
        """The chunk ends in a FATAL: Postgres is gone, and who goes on is no Postgres."""
        if self.session is not None:
            self.counters.sent_bytes += len(chunk)
            self.session.write(chunk)
        self.hub.upstream.condemned(self)

    def _violation(self, before: bytes, kind: int) -> None:
        """A length that no legal message has: what came before it is passed on."""
        if self.session is not None and before:
            self.session.write(before)
        self.hub.server_violated(self, f"invalid message length (message type {kind})")

    def between_messages(self) -> bool:
        """Nothing is half-sent to the session: a message of ours may follow."""
        return not self.skip

    def pause_writing(self) -> None:
        """Postgres does not read: stop reading from the session."""
        self.paused = True
        if self.session is not None:
            self.session.out.pause_reading()

    def resume_writing(self) -> None:
        self.paused = False
        if self.session is not None:
            self.session.out.resume_reading()

    def write_eof(self) -> None:
        """The client has sent its last byte: Postgres is told so, and answers what it owes."""
        self.out.write_eof()

    def eof(self) -> bool:
        """Postgres has closed its side: nothing more will come."""
        return False

    def lost(self, error: BaseException | None) -> None:
        self.hub.server_lost(self, error)

    def say_goodbye(self) -> None:
        """Terminate and half-close; the EOF that answers frees the slot."""
        self.write(frontend.terminate())
        self.out.write_eof()


def sharing(servers: Iterable[Server], session: Session) -> list[Server]:
    """Those of the same role, or in the same database."""
    user, database = session.user, session.database
    return [server for server in servers if server.user == user or server.database == database]
