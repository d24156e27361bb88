"""The frontend side: one session, from its startup packet to its end.

`receive` is the hot loop of requests: it walks message headers in the chunk that arrived and
writes that very bytes object to the server; only Query, Parse, Bind and Close are looked into. It
is long on purpose and must be kept in step with the loop in `core/server`.

Laws: no await, no I/O but `out`; a session without a server forwards nothing; of an impossible
message Postgres gets the header and has the word; what came before is executed as it would (T30).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from pgguard.core import gathering, guarding, holding, malformed, named
from pgguard.core.ahead import HELD_LIMIT
from pgguard.core.entry import Entrance
from pgguard.core.malformed import EXPECTED
from pgguard.core.pins import UNPINNED
from pgguard.core.pipeline import COPY_END, MANY
from pgguard.core.states import SessionState
from pgguard.sql.cache import DIGITS
from pgguard.wire import backend
from pgguard.wire.codes import (
    FRONTEND_LIMIT,
    KNOWN_FRONTEND,
    PORTAL,
    PQ_SMALL_MESSAGE_LIMIT,
)
from pgguard.wire.frontend import describe_message, execute_message, sync

if TYPE_CHECKING:
    from pgguard.core.hub import Hub
    from pgguard.core.relay import Relay
    from pgguard.core.secrets import Secret
    from pgguard.core.server import Server
    from pgguard.core.types import Client, Out
    from pgguard.core.watching import Watch
    from pgguard.pool.admission import Ticket
    from pgguard.pool.identity import ProcessInfo
    from pgguard.pool.tickets import Wish
    from pgguard.sql.statement import Statement
    from pgguard.tenancy.judge import Judge

_header = Struct(">BI").unpack_from
_length = Struct(">I").unpack_from
_names = Struct(">H").unpack_from
"""The first two bytes of a Bind: both names are empty if they are 0."""

USUAL_TAIL = describe_message(PORTAL, b"") + execute_message(b"") + sync()
"""Describe, Execute and Sync as libpq and most drivers send them behind a Bind."""

USUAL_LIMIT = 1024
"""Bytes of a Parse that is remembered to know it again."""
NEVER = b"\0"
"""No message begins so."""
NOTHING = -2
"""No statement is clean in that version: behind one that is not, all are looked at."""

_NOTHING_MORE: dict[str, str] = {}
"""The startup parameters of a session that has its server: they are not needed any more."""


class Session:
    """One frontend connection of a client."""

    pinned = UNPINNED

    __slots__ = (
        "__weakref__",
        "address",
        "application_name",
        "begun",
        "binding",
        "client",
        "counters",
        "database",
        "entrance",
        "exact",
        "forward",
        "gather",
        "gone_at",
        "guard",
        "held",
        "held_back",
        "hub",
        "id",
        "judge",
        "last",
        "last_byte",
        "leaving",
        "loopback",
        "numbered",
        "opened",
        "out",
        "parameters",
        "partial",
        "paused",
        "peer_pid",
        "peer_uid",
        "port",
        "prepared",
        "process",
        "readable",
        "relay",
        "repeated",
        "secret",
        "secret_key",
        "seen",
        "server",
        "since",
        "skip",
        "state",
        "statements",
        "strict",
        "tenant",
        "ticket",
        "unnamed",
        "user",
        "usual",
        "watched",
        "wish",
        "write",
    )

    def __init__(self, hub: Hub, number: int, address: str, port: int, *, loopback: bool) -> None:
        now = hub.clock()
        self.hub = hub
        self.id = number
        self.out: Out = hub.nowhere
        self.write = self.out.write
        self.forward = self.out.forward
        self.address = address
        self.port = port
        self.loopback = loopback
        self.peer_uid: int | None = None
        """Over a unix socket the user behind it, as the kernel says (T3); None over TCP."""
        self.peer_pid: int | None = None
        """The process behind a unix socket."""
        self.state = SessionState.LOGIN
        self.since = self.opened = self.last_byte = now
        self.user = self.database = self.application_name = ""
        self.parameters: dict[str, str] = {}
        self.client: Client = hub.nobody
        self.process: ProcessInfo | None = None
        self.binding = b""
        """The end point of its TLS, with our certificate; empty without."""
        self.secret: Secret | None = None
        """What it has proved to know, until its server has logged in with that; without a proof
        Postgres must let us in without one, too (T3)."""
        self.relay: Relay | None = None
        """Its login, while Postgres itself conducts that (T2)."""
        self.server: Server | None = None
        self.ticket: Ticket | None = None
        self.wish: Wish | None = None
        self.judge: Judge | None = None
        self.last: Statement | None = None
        self.prepared: dict[bytes, Statement] | None = None
        self.unnamed: Statement | None = None
        self.entrance: Entrance | None = Entrance(self)
        self.secret_key = b""
        self.held = b""
        self.held_back: bytes | None = None
        self.skip = 0
        self.partial = b""
        self.gather: bytearray | None = None
        self.guard: Watch | None = None
        self.strict = self.watched = False
        """Judged before they run (core/guarding); looked at one by one (core/weighing)."""
        self.tenant, self.begun, self.seen = "", False, False
        """Of a watched session: whom its statements are told by their bytes to name, and what was
        told so (core/following)."""
        self.readable = True
        self.exact: dict[bytes, Statement] = {}
        self.numbered: dict[bytes, Statement] = {}
        self.usual = NEVER
        """How the newest batch of one unnamed statement began, up to the type of its Bind, if the
        one before it was of the same."""
        self.repeated: Statement | None = None
        """That statement."""
        self.counters = hub.counters
        self.statements = self.client.counters.statements
        self.leaving = self.paused = False
        self.gone_at: float | None = None

    def __repr__(self) -> str:
        return f"<session {self.id} of {self.client.key!r} {self.state.name}>"

    def adopt(self, out: Out) -> None:
        """The connection is on its transport: `out` takes what is written from now on."""
        self.out = out
        self.write = out.write
        self.forward = out.forward

    def judged_by(self, judge: Judge, *, readable: bool) -> None:
        """Where statements of this session are looked up from now on.

        `readable`: the parser sees its texts as the server does; else no text is known by itself.
        """
        self.judge, self.readable = judge, readable
        judge.meet(self.user)
        self.strict = self.hub.gate.policy.blocks
        self.repeated, self.usual = None, NEVER
        self.statements = self.client.counters.statements
        self.exact = judge.cache.exact if readable else {}
        self.numbered = judge.cache.numbered if readable else {}

    def receive(self, data: bytes) -> None:
        """A chunk from the socket. The hot loop of requests."""
        hub = self.hub
        now = hub.clock()
        self.last_byte = now
        server = self.server
        if server is None or self.held_back is not None:
            self._receive_unlinked(data)
            return
        self.counters.received_bytes += len(data)
        entries = server.pipeline.entries
        if not entries:
            server.started = now
            if server.transaction_since is not None:
                server.resumed(now)
        chunk = data
        pos = 0
        later: list[tuple[int, Statement]] = []
        if self.skip:
            pos = self.skip
            if self.gather is not None and (known := gathering.go_on(self, data, pos)):
                later = [(-1, known)]
            if pos >= len(data) and not later:
                self.skip = pos - len(data)
                server.write(data)
                return
            self.skip = 0
        elif self.partial:
            if self.partial[0] not in EXPECTED:
                malformed.go_on(self, data)
                return
            chunk = self.partial + data
            self.partial = b""
        end = len(chunk)
        last_header = end - 5
        judge = self.judge
        assert judge is not None
        version = NOTHING if self.watched else judge.version
        repeated = self.repeated
        if repeated is not None and not pos and chunk.startswith(self.usual):
            # The statement of the batch before, bound anew: nothing but its values is new.
            after = len(self.usual) - 1
            if (
                repeated.clean == version
                and after + 29 <= end
                and chunk.endswith(USUAL_TAIL)
                and _length(chunk, after + 1)[0] == end - 23 - after
                and _names(chunk, after + 5)[0] == 0
            ):
                entries.append(19)
                if len(entries) > 1:
                    server.pipeline.mixed = True
                self.last = self.unnamed = repeated
                self.statements[repeated.verdict] += 1
                pos = end
        while pos <= last_header:
            kind, length = _header(chunk, pos)
            if length < 4 or (length > PQ_SMALL_MESSAGE_LIMIT and length > FRONTEND_LIMIT[kind]):
                malformed.break_off(self, chunk[: pos + 5], kind)
                return
            after = pos + 1 + length
            if kind == 0x51:  # Query
                if entries:
                    server.pipeline.mixed = True
                entries.append(17)
                if after <= end:
                    text = chunk[pos + 5 : after - 1]
                    statement = self.exact.get(text) or self.numbered.get(text.translate(DIGITS))
                    if statement is None:
                        statement = judge.statement(text, self.readable)
                    self.last = statement
                    self.unnamed = None
                    if statement.clean == version:
                        self.statements[statement.verdict] += 1
                    else:
                        version = NOTHING
                        later.append((pos, statement))
                elif self.strict and guarding.holds(self, length):
                    entries.pop()
                    break
                elif long := gathering.begin(self, b"Q", chunk[pos + 5 : end], length - 5):
                    later.append((pos, long))
            elif kind == 0x50:  # Parse
                entries.append(1)
                body = pos + 5
                if after <= end:
                    if length > 4 and chunk[body] == 0:
                        name_end = body
                    else:
                        name_end = chunk.find(b"\0", body, after)
                    text_end = chunk.find(b"\0", name_end + 1, after)
                    if name_end >= 0 and text_end >= 0:
                        text = chunk[name_end + 1 : text_end]
                        statement = self.exact.get(text) or self.numbered.get(
                            text.translate(DIGITS)
                        )
                        if statement is None:
                            statement = judge.statement(text, self.readable)
                        self.last = statement
                        if name_end == body:
                            self.unnamed = statement
                            if (
                                statement.clean == version
                                and after + 29 <= end
                                and chunk[-22:] == USUAL_TAIL
                                and chunk[after] == 0x42
                                and _length(chunk, after + 1)[0] == end - 23 - after
                                and _names(chunk, after + 5)[0] == 0
                            ):
                                # The rest of the batch as libpq and most drivers send it.
                                entries[-1] = 19
                                if len(entries) > 1:
                                    server.pipeline.mixed = True
                                self.statements[statement.verdict] += 1
                                if statement is not self.repeated:
                                    self.repeated, self.usual = statement, NEVER
                                elif pos == 0 and after <= USUAL_LIMIT:
                                    self.usual = chunk[: after + 1]
                                pos = end
                                break
                        else:
                            named.name(self, chunk[body:name_end], statement, text)
                        if self.strict and statement.clean != version:
                            version = NOTHING
                            later.append((pos, statement))
                elif self.strict and guarding.holds(self, length):
                    entries.pop()
                    break
                else:
                    gathering.begin(self, b"P", chunk[body:end], length - 5)
            elif kind == 0x42:  # Bind
                entries.append(2)
                body = pos + 5
                if body + 1 < end and _names(chunk, body)[0] == 0:
                    bound = self.unnamed
                else:
                    portal_end = chunk.find(b"\0", body, min(after, end))
                    name_end = chunk.find(b"\0", portal_end + 1, min(after, end))
                    if after > end and (portal_end < 0 or name_end < 0) and end - pos < HELD_LIMIT:
                        entries.pop()
                        break
                    name = chunk[portal_end + 1 : name_end]
                    bound = self.prepared.get(name) if self.prepared else None
                    bound = bound or (named.unseen(self, name) if name else self.unnamed)
                    self.last = bound or self.last
                if end - after == 22 and chunk.endswith(USUAL_TAIL):
                    entries[-1] = 19
                    if len(entries) > 1:
                        server.pipeline.mixed = True
                    after = end
                if bound is None:
                    pass
                elif bound.clean == version:
                    self.statements[bound.verdict] += 1
                elif self.strict and after > end and guarding.holds(self, length):
                    entries.pop()
                    break
                else:
                    version = NOTHING
                    later.append((pos, bound))
            elif kind == 0x45:  # Execute
                entries.append(4)
            elif kind == 0x53:  # Sync
                if not server.copy_in:
                    entries.append(16)
            elif kind == 0x44:  # Describe
                entries.append(3)
            elif kind == 0x43:  # Close
                if after > end:
                    break
                entries.append(5)
                if chunk[pos + 5 : pos + 6] == b"S" and self.prepared:
                    self.prepared.pop(chunk[pos + 6 : after - 1], None)
            elif kind == 0x58:  # Terminate
                self.leaving = True
            elif kind in (0x63, 0x66):  # CopyDone, CopyFail
                if server.copy_in:
                    server.copy_in = False
                elif entries:
                    entries.append(COPY_END)
            elif kind == 0x46:  # FunctionCall
                if entries:
                    server.pipeline.mixed = True
                entries.append(18)
            elif kind not in KNOWN_FRONTEND:
                self.counters.unknown_messages += 1
            if after > end:
                self.skip = after - end
                pos = end
                break
            pos = after
        if pos < end:
            # A header that is not whole waits here: it may turn out not to be forwarded at all.
            self.partial = chunk[pos:]
            if chunk[pos] in EXPECTED:
                chunk = chunk[:pos]
            else:
                # Postgres looks at the type alone, and has a word for it.
                pos = end
        if later:
            guarding.send(self, server, chunk, later)
        elif chunk:
            try:
                server.forward(chunk)
            except RuntimeError:
                # The server's socket has just closed: its loss is about to be reported.
                return
        if len(entries) > MANY:
            self.out.rest()
            server.pipeline.shorten()

    def let_go(self) -> None:
        holding.let_go(self)

    def catch_up(self) -> None:
        holding.catch_up(self)

    def verdicts_came(self, *, final: bool) -> None:
        guarding.resume(self, final=final)

    def warn(self, statement: Statement) -> None:
        guarding.warn(self, statement)

    def _receive_unlinked(self, data: bytes) -> None:
        holding.keep(self, data)

    def vanished(self) -> bool:
        """Whether the client has left while so much was held that nothing more was read (T4)."""
        return len(self.held) > HELD_LIMIT and self.out.gone()

    def eof(self) -> bool:
        """The client sends no more. Returns whether the connection stays open for replies."""
        if self.state is SessionState.LINKED and self.server is not None:
            self.gone_at = self.hub.clock()
            self.hub.gone.add(self)
            if not self.held_back:
                if self.partial and self.partial[0] in EXPECTED:
                    # Postgres looks at the type before the length, and may have a word for it.
                    self.server.write(self.partial)
                self.server.write_eof()
            return True
        self.hub.session_gone(self, "client closed the connection")
        return False

    def lost(self, error: BaseException | None) -> None:
        """The connection is gone. `error` is None only when it was closed on purpose."""
        self.hub.session_lost(self, error)

    def pause_writing(self) -> None:
        """The client does not read: stop reading from its server."""
        self.paused = True
        if self.server is not None:
            self.server.out.pause_reading()

    def resume_writing(self) -> None:
        self.paused = False
        if self.server is not None:
            self.server.out.resume_reading()

    def link(self, server: Server, now: float) -> None:
        """`server` is ours from now on; the client learns that it may begin."""
        self.server = server
        server.session = self
        self.hub.places.move(self, SessionState.LINKED, now)
        key = backend.backend_key_data(server.pid, self.secret_key)
        self.write(
            b"".join(server.greeting) + key + backend.ready_for_query(server.status.encode())
        )
        server.greeting = []
        self.parameters = _NOTHING_MORE
        self.secret = None
        if self.relay is not None:
            self.held, self.relay = self.relay.rest, None
        if self.paused:
            server.out.pause_reading()
        held, self.held = self.held, b""
        if len(held) > HELD_LIMIT:
            self.out.resume_reading()
        if held:
            self.receive(held)

    def unlink(self) -> Server | None:
        """Session and server belong together no more; the caller closes the server."""
        gathering.stop(self, self.skip)
        server, self.server = self.server, None
        if server is not None:
            server.session = None
        return server

    stuck_since, is_blocked = holding.stuck_since, holding.is_blocked
    """For pool.admission.Holder, like the next."""
    describe = holding.describe
