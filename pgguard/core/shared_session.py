"""A session that has a server only while it needs one.

Without a server it answers what Postgres would answer without looking (transparency T5); with one
its most usual chunks go the way of `core/session` and all others through `core/translating`. Laws:
whatever is sent is known before it is sent, so that what it leaves behind is learned when Postgres
has done it, and the server stays as long as it hides anything (T20, T21, T23).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, cast

from pgguard.core import defining, handover, holding, leaving, sequences, spelling, tapping, usual
from pgguard.core.ahead import HELD_LIMIT, has_left
from pgguard.core.cancelling import gone_on
from pgguard.core.gate import concerns_databases
from pgguard.core.learning import NOTIFYING, Answered, Sent, learn
from pgguard.core.malformed import EXPECTED, ends_alone, go_on
from pgguard.core.pins import BY_LOGIN, Pins, Reason
from pgguard.core.prepared import Names, Prepared, may_name_prepared
from pgguard.core.session import Session
from pgguard.core.states import SessionState
from pgguard.core.suspecting import suspected
from pgguard.core.tracked import Tracked
from pgguard.core.translating import translate
from pgguard.sql.cache import DIGITS
from pgguard.sql.effects import ANY, DDL, SEQUENCES
from pgguard.sql.session_effects import Effect, Kind
from pgguard.wire import backend, codes
from pgguard.wire.startup import is_replication

if TYPE_CHECKING:
    from pgguard.core.hub import Hub
    from pgguard.core.pools import Pool
    from pgguard.core.server import Server
    from pgguard.core.shared_server import SharedServer
    from pgguard.errors import Refusal
    from pgguard.sql.statement import Statement

_header = Struct(">BI").unpack_from

SHUTDOWN = "57P01"

NEEDS_SERVER = frozenset(b"QPBDEF")
"""Query, Parse, Bind, Describe, Execute, FunctionCall (T5)."""

_NONE: frozenset[str] = frozenset()
_ANYTHING = (Effect(Kind.CODE),)


class SharedSession(Session):
    """One frontend connection of a client whose servers are shared."""

    server: SharedServer | None

    __slots__ = (
        "advanced",
        "again",
        "batch",
        "batches",
        "bound",
        "creates_temporary",
        "dotted",
        "drop_next",
        "dropping",
        "ending",
        "greeted",
        "links_failed",
        "missed",
        "must_wait",
        "named",
        "names",
        "pid",
        "pinned",
        "pins",
        "pool",
        "told",
        "tracked",
        "unsynced",
        "unverified",
        "waits",
    )

    def __init__(self, hub: Hub, number: int, address: str, port: int, *, loopback: bool) -> None:
        super().__init__(hub, number, address, port, loopback=loopback)
        self.pool: Pool = hub.sharing.nowhere
        self.names = Names(number)
        self.again: Prepared | None = None
        """The unnamed statement of the batch that begins as `usual` says."""
        self.tracked = Tracked()
        self.pins = Pins()
        self.pinned = self.pins.reasons
        self.ending: tuple[Effect, ...] = ()  # in the open transaction: see learning._ending_now
        self.dotted = _NONE
        """Settings with a dot that it has made, if only for a transaction (T24)."""
        self.creates_temporary = False
        """By its search_path whatever it creates may be temporary."""
        self.named = ""
        """The application_name that it began with."""
        self.greeted = False
        self.told: dict[str, str] = {}
        """The parameters as Postgres has told them last."""
        self.advanced: tuple[Statement, SharedServer] | None = None
        """The newest statement that may have advanced a sequence, and where it did."""
        self.missed: tuple[Statement, str] | None = None
        """The same where it does not have that server any more, and who got it."""
        self.links_failed = 0
        """How often in a row no server could be made its own."""
        self.must_wait = False
        """A statement about databases is among what is being sent (T27)."""
        self.drop_next = 0
        """Bytes to come of a message that was refused."""
        self.dropping = False
        """What comes up to the next Sync is dropped: its batch was refused."""
        self.unsynced = False
        """Messages were sent whose Sync was not: a transaction may be open behind them (T13)."""
        self.bound = False
        """Among them was a Bind or an Execute: what they did is kept or undone by the Sync."""
        self.unverified = True
        """Something was sent since Postgres was asked what is left behind (T23)."""
        self.waits = False
        """Something must be answered before more is sent: what comes is held."""
        self.pid = 0
        """The pid that the client was told."""
        self.batch: list[Sent] = []
        """What has been sent since the last Sync, Query or FunctionCall."""
        self.batches: list[list[Sent]] = []
        """The same of those that are not answered yet."""

    @property
    def shared(self) -> SharedServer:
        """The server that it has."""
        server = self.server
        assert server is not None
        return server

    # What the client says

    receive = usual.receive

    def receive_unusual(self, data: bytes) -> None:
        """A chunk that is not one of those (core/usual)."""
        server = self.server
        if server is None or self.waits or self.held_back is not None:
            self.last_byte = self.hub.clock()
            self._receive_unlinked(data)
        elif self.partial and self.partial[0] not in EXPECTED:
            go_on(self, data)
        elif data == _TERMINATE and not server.pipeline.entries and not self.partial:
            self.leaving = True
            self.hub.end_session(self, "closed by the client")
        else:
            self.last_byte = now = self.hub.clock()
            self.counters.received_bytes += len(data)
            if not server.pipeline.entries:
                server.started = now
                if server.transaction_since is not None:
                    server.resumed(now)
            server.walk()
            translate(self, server, data)
            if self.leaving:
                self.hub.end_session(self, "closed by the client")

    def _receive_unlinked(self, data: bytes) -> None:
        logs_in = self.entrance is not None or self.relay is not None
        if self.state is SessionState.CLOSING or logs_in:
            super()._receive_unlinked(data)
            return
        if self.drop_next:
            dropped = min(self.drop_next, len(data))
            self.drop_next -= dropped
            data = data[dropped:]
            if self.drop_next:
                return
        self.held += data
        if self.dropping:
            self.drop_batch()
        elif self.state is SessionState.IDLE:
            self._answer_alone()
        elif (
            self.state is SessionState.WAITING
            and has_left(self.held)
            and not leaving.is_served(self)
        ):
            self.hub.session_gone(self, "client closed the session while it waited")
        elif len(self.held) > HELD_LIMIT:
            self.out.pause_reading()

    def _answer_alone(self) -> None:
        """Without a server: answer what needs none, up to the first message that does (T5)."""
        held = self.held
        pos = 0
        while len(held) - pos >= 5:
            kind, length = _header(held, pos)
            if ends_alone(self, kind, length):
                return
            after = pos + 1 + length
            alone = kind == codes.PARSE and held.startswith(_SYNC, after)
            if kind in NEEDS_SERVER and not (alone and self._parses(held[pos + 5 : after])):
                self.held = held[pos:]
                self.hub.sharing.want(self)
                return
            if after > len(held):
                if kind == codes.COPY_DATA:
                    # Of a copy that has failed: nobody reads it.
                    self.drop_next, pos = after - len(held), len(held)
                break
            if kind == codes.TERMINATE:
                self.leaving = True
                self.hub.end_session(self, "closed by the client")
                return
            self._answer(kind, held[pos + 5 : after])
            pos = after
        self.held = held[pos:]
        if self.held and self.held[0] not in EXPECTED:
            ends_alone(self, self.held[0], 4)

    def _answer(self, kind: int, body: bytes) -> None:
        if kind == codes.SYNC:
            self.write(backend.ready_for_query(b"I"))
        elif kind == codes.CLOSE:
            if body[:1] == b"S":
                self.names.put(body[1:-1], None)
            self.write(backend.message(codes.CLOSE_COMPLETE, b""))

    def _parses(self, body: bytes) -> bool:
        """A Parse of which Postgres has told the pool what comes of it: it is made when it is
        bound. So a thread that prepares for one session, while its others hold all servers, does
        not wait for itself."""
        name, _, parse = body.partition(b"\0")
        if name and self.names.get(name) is not None:
            # Postgres is to say that the name is taken.
            return False
        epoch = self.hub.sharing.epoch(self.database)
        parsed = self.pool.recall(parse, self.tracked.settings, epoch)
        if parsed is None:
            return False
        statement = self.look_up(parse.partition(b"\0")[0], whole=True)
        if self.lays_bare(statement):
            return False
        self.last = statement
        self.names.put(name, Prepared(parse, statement, *parsed))
        self.write(_PARSED)
        return True

    def drop_batch(self) -> None:
        """What was refused is not answered any more: up to its Sync, or the Query alone (T6)."""
        held = self.held
        pos = 0
        alone = not self.dropping and held[:1] in (b"Q", b"F")
        self.dropping = True
        while self.dropping and len(held) - pos >= 5:
            kind, length = _header(held, pos)
            if ends_alone(self, kind, length):
                return
            if kind == codes.TERMINATE:
                self.hub.end_session(self, "closed by the client")
                return
            # A Query in the wake of an extended message is passed over, too, as by Postgres.
            self.dropping = not alone and kind != codes.SYNC
            pos += 1 + length
        # The rest of a message that has not come whole is dropped when it comes.
        self.drop_next = max(0, pos - len(held))
        self.held = held[pos:]
        if not self.dropping:
            self.write(backend.ready_for_query(b"I"))
            self.receive(b"")

    def go_on(self) -> None:
        """What was held can be sent now."""
        self.waits = False
        self.shared.stand.awaited = None
        held, self.held = self.held, b""
        if len(held) > HELD_LIMIT and not self.paused:
            self.out.resume_reading()
        if held:
            self.receive(held)
        if self.server is not None:
            gone_on(self, self.server)

    eof = leaving.eof

    # What is sent, and what it leaves behind

    def look_up(self, text: bytes, *, whole: bool) -> Statement:
        """The statement of a text, judged."""
        judge = self.judge
        assert judge is not None
        if not whole:
            return judge.too_long(text)
        statement = self.exact.get(text) or self.numbered.get(text.translate(DIGITS))
        if statement is None:
            statement = judge.statement(text, self.readable)
        if statement.version != judge.version and not judge.wants_worker(statement):
            judge.judge(statement)
        return statement

    def lays_bare(self, statement: Statement, parsed: bytes = b"") -> bool:
        """Whether the names of its prepared statements must be its own for that statement, or for a
        Parse of that name (T19)."""
        taken = bool(parsed) and self.pins.may_have_prepared(parsed)
        if self.names.bare or not (statement.session or taken) or not self._may_sync():
            # Within a batch we can run nothing: there it finds none of the names.
            return False
        return taken or any(
            kind is Kind.NAMES_PREPARED
            or (kind in _NAMING and self._will_have(name.encode()))
            or (kind is Kind.UNREAD and may_name_prepared(statement.text))
            for kind, name in statement.session
        )

    def _will_have(self, name: bytes) -> bool:
        """Whether it has prepared a statement of that name, if only by what is not answered yet."""
        server = self.server
        found = server.stand.sees(self.names, name) if server is not None else self.names.get(name)
        return found is not None

    def _may_sync(self) -> bool:
        """Whether nothing would come of a Sync of ours (asyncpg parses, flushes and stops)."""
        if not self.unsynced:
            return True
        server = self.server
        if server is None or server.pipeline.entries or server.batch_failed:
            return False
        return server.status == "T" or not self.bound

    def prepare_for(self, statement: Statement, parsed: bytes = b"") -> bytes:
        """What must be sent before a statement that names prepared statements in SQL (T19)."""
        if self.shared.status == "E" or not self.lays_bare(statement, parsed):
            return b""
        self.pin(Reason.NAMES, statement.masked)
        ended = self.shared.sync() if self.unsynced else b""
        return ended + self.shared.lay_bare(self)

    def signals(self, statement: Statement) -> bool:
        """Whether it may name the pid of a session (T28)."""
        return any(effect.kind is Kind.SIGNAL for effect in statement.session)

    def keeps(self, statement: Statement) -> bool:
        """Whether it makes a setting, which is kept by its text."""
        return len(statement.session) == 1 and statement.session[0].kind is Kind.SET

    def sends(
        self,
        statement: Statement,
        text: bytes,
        *,
        parameters: bool = False,
        weighed: Statement | None = None,
    ) -> None:
        """An execution is about to be sent; `parameters`: the text does not say it all, `weighed`:
        the statement as its values show it."""
        judge = self.judge
        assert judge is not None
        if statement.effects & (SEQUENCES | ANY) or any(
            kind in CALLING for kind, _ in statement.session
        ):
            self.shared.sequences_of = self
            self.advanced = statement, self.shared
        if statement.clean == judge.version and weighed in (None, statement):
            self.statements[statement.verdict] += 1
            return
        self.must_wait = self.must_wait or concerns_databases(judge, [statement])
        self.hub.settle(self, weighed or statement)
        if self.shared.started == self.last_byte and not self.batches and not self.batch:
            tapping.watch(self, weighed or statement)
        # What has not been read may do anything.
        effects = defining.of_others(self, statement.session if statement.facts else _ANYTHING)
        defines = defining.sends(self, statement)
        if effects:
            defining.leads(self, effects, text, parameters=parameters)
            self._brought(effects, statement.masked, statement)
            self.unverified = True
            self.shared.may_mark(effects)
        if statement.effects & DDL:
            defining.creates(self, statement)
        if effects or defines is not None:
            self.batch.append(Sent(effects, text, statement.masked, parameters, defines))

    def calls_function(self) -> None:
        """FunctionCall: by its OID it may be anything."""
        self._brought(_ANYTHING, "FunctionCall", None)
        self.batch.append(Sent(_ANYTHING, b"", "FunctionCall", parameters=True))

    def promised(self) -> None:
        """A message was added that ReadyForQuery answers."""
        self.batches.append(self.batch)
        self.batch = []

    def joined(self, count: int) -> None:
        """So many of the oldest Syncs will not be answered: their batches go on (T14)."""
        for _ in range(count):
            first = self.batches.pop(0)
            if self.batches:
                self.batches[0][:0] = first
            else:
                self.batch[:0] = first
                self.unsynced = self.bound = True

    def synced(self) -> None:
        """What it has sent up to a Sync within a copy was over with that Sync (T14)."""
        self.unsynced = self.bound = False
        batch, self.batch = self.batch, []
        if batch:
            learn(self, batch, Answered(failed=True, status=self.shared.status))

    def pin_by_login(self) -> None:
        if self.relay is not None:
            self.pin(Reason.RELAYED, "relayed login")
        if is_replication(self.parameters):
            self.pin(Reason.REPLICATION, "replication connection")

    def pin_for_life(self, why: str) -> None:
        self.pin(Reason.OBJECT, why)

    def respelled(self) -> None:
        """Its server reads texts in another way now."""
        if self.names.respelled(spelling.of(self.shared.parameters)):
            self.pin_for_life("prepared statements whose texts are read in another way now")

    def pin(self, reason: Reason, text: str, name: str = "") -> None:
        """The session keeps its server for `reason` from now on; `text` says what brought it."""
        if self.pins.add(reason, name, self.hub.clock(), text):
            self.hub.sharing.pinned(self, reason)

    def _brought(self, effects: tuple[Effect, ...], text: str, statement: Statement | None) -> None:
        suspected(self, statement, effects)
        for reason in self.pins.brought(effects, self.hub.clock(), text):
            self.hub.sharing.pinned(self, reason)
        if not NOTIFYING.isdisjoint(kind for kind, _ in effects):
            self.hub.sharing.notifies(self, self.shared)

    def settled(self, answered: Answered) -> None:
        """The oldest batch was answered."""
        batch = self.batches.pop(0) if self.batches else []
        if batch:
            learn(self, batch, answered)

    # Link and unlink

    def link(self, server: Server, now: float) -> None:
        """`server` is ours from now on, until it is let go."""
        shared = self.server = cast("SharedServer", server)
        shared.session, shared.names = self, self.names
        self.hub.places.move(self, SessionState.LINKED, now)
        own = not self.greeted and bool(shared.greeting)
        if own:
            self._greet(b"".join(shared.greeting), shared.parameters)
        elif not self.greeted:
            self.greet()
        shared.greeting = []
        if self.relay is not None:
            self.held, self.relay = self.relay.rest, None
        if self.paused:
            shared.out.pause_reading()
        self.hub.sharing.judged(self, shared.parameters)
        if handover.take_over(self, shared, own=own):
            shared.linking = self.waits = True
            return
        self.go_on()
        if self.gone_at is not None and not shared.pipeline.entries:
            self.hub.sharing.replied(shared)

    def greet(self, first: bytes = b"") -> None:
        """The login is complete without a server: what Postgres has said to others of its kind."""
        parameters, said = self.pool.told_to(self.named)
        self._greet(first + said, parameters)

    def _greet(self, greeting: bytes, parameters: dict[str, str]) -> None:
        self.greeted, self.told = True, parameters
        self.names.spelling = spelling.of(parameters)
        key = backend.backend_key_data(self.pid, self.secret_key)
        self.write(greeting + key + backend.ready_for_query(b"I"))

    def lives_on(self, error: Refusal) -> bool:
        """Whether that is an ERROR to it, and not its end (T6)."""
        return self.greeted and error.sqlstate != SHUTDOWN

    def describe(self, now: float) -> str:
        """One line for those who wait, which says why it keeps its server between transactions."""
        return holding.described(self, now, sequences.kept_for(self))

    def stuck_since(self, *, everybody: bool = False) -> float | None:
        server = self.server
        # What its login brought its client can end only with the session.
        pinned = any(reason not in BY_LOGIN for reason in self.pins.reasons)
        keeps = pinned or self.unsynced or self.partial or self.skip
        if server is not None and keeps and not server.pipeline.entries:
            return max(self.last_byte, server.ready_at)
        return holding.stuck_since(self, everybody=everybody)


_TERMINATE = b"X\0\0\0\4"
_SYNC = b"S\0\0\0\4"
_PARSED = backend.message(codes.PARSE_COMPLETE, b"")
CALLING = frozenset({Kind.CALL, Kind.CODE, Kind.UNREAD, Kind.UNKNOWN})
_NAMING = frozenset({Kind.PREPARE, Kind.EXECUTE, Kind.DEALLOCATE})
