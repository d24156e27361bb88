"""A server that sessions share: what stands on it, whose state it has, and when it is let go.

Laws: it belongs to one session at a time; between two of them nothing is due, the status is I and
nothing is hidden; replies that we asked for are walked (core/replies); on doubt it is closed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pgguard.core import (
    cancelling,
    defining,
    handover,
    leaving,
    sequences,
    signals,
    tapping,
    upkeep,
)
from pgguard.core.defining import Defining
from pgguard.core.gate import readable
from pgguard.core.learning import MARKING, Answered, control, end, transaction_over
from pgguard.core.pins import Reason
from pgguard.core.pipeline import (
    BATCH,
    BATCH_NAMED,
    PARSE_OURS,
    QUERY,
    QUERY_OURS,
    READY,
    SYNC_OURS,
    SYNCED,
)
from pgguard.core.pools import Parsed
from pgguard.core.prepared import Change, Names, Prepared, Stand, without_formats
from pgguard.core.replies import CHANGING, DESCRIBING, Walker
from pgguard.core.server import Server
from pgguard.errors import ProtocolViolation
from pgguard.pool.servers import ServerState
from pgguard.sql.session_effects import Effect, Kind
from pgguard.wire import backend, codes, frontend
from pgguard.wire.scan import message

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgguard.core.hub import Hub
    from pgguard.core.pools import Pool
    from pgguard.core.shared_session import SharedSession
    from pgguard.pool.admission import Ticket

pass_on = Server.receive

MUCH = 65536
"""Bytes of replies after whose walk others have their turn."""


class SharedServer(Server):
    """One backend connection of a pool."""

    session: SharedSession | None

    __slots__ = (
        "application_name",
        "asking",
        "batch_failed",
        "begun_as",
        "changed",
        "checked_at",
        "checking",
        "comparing",
        "controlled",
        "defining",
        "dotted",
        "doubt",
        "last_session",
        "linking",
        "loose",
        "marker",
        "names",
        "ours",
        "ours_failed",
        "pool",
        "refusing",
        "renamed",
        "rested",
        "row",
        "sequences_of",
        "settings",
        "signalled",
        "stand",
        "uncounted",
        "walker",
        "walking",
    )

    def __init__(self, hub: Hub, number: int, session: SharedSession, ticket: Ticket) -> None:
        super().__init__(hub, number, session, ticket)
        self.pool: Pool = session.pool
        self.names: Names = session.names
        self.stand = Stand()
        self.walker = Walker(self)
        self.walking = False
        """Replies are walked until nothing is due."""
        self.renamed = False
        """What is owed is the answer to a batch of which the walk knows nothing yet."""
        self.ours = 0
        """Queries of ours that are not answered yet."""
        self.ours_failed = False
        """One of them was answered by an error."""
        self.linking = False
        """They make it its session's, which sends nothing before they are answered."""
        self.asking = False
        """One of them is whether an event trigger ran at its login (core/loginevents)."""
        self.checked_at = self.since
        self.checking = False
        """The newest of them is a check (T23)."""
        self.comparing: Prepared | None = None
        """Made here again after DDL: what it returns now is awaited, and nothing sent (T18)."""
        self.changed: Prepared | None = None
        """It returns something else than the session was told."""
        self.refusing = b""
        """Body of the ErrorResponse that takes the place of the next one."""
        self.row: list[bytes | None] = []
        """What the check, or the marker, has told."""
        self.uncounted = 0
        """Syncs within the copy that goes on: Postgres ignores them, unless it fails before."""
        self.loose = 0
        """Those of a copy that has failed, each of which may be answered or not (T14)."""
        self.signalled: list[SharedServer] = []
        """Others whose pid is in what was sent here: they stay whose they are (T28)."""
        self.marker = b""
        """What the newest query of ours answers, when all that came before it has come."""
        self.settings: dict[str, bytes] = {}
        """Settings that the server has beside its startup ones, by the text that made them."""
        self.dotted: set[str] = set()
        """Settings with a dot that were ever made on it: no reset removes them (T24)."""
        self.begun_as = session.named
        """The application_name that a reset goes back to."""
        self.application_name: str | None = session.named
        """None = a reset has taken its session's away."""
        self.sequences_of: SharedSession | None = None
        self.last_session: SharedSession | None = session
        self.rested = self.since
        self.doubt = ""
        """Why it must be closed rather than shared."""
        self.defining = Defining()
        self.batch_failed = False
        self.controlled = b""
        """A tag of what is being answered that has begun or ended a transaction."""

    @property
    def shared(self) -> SharedSession:
        """The session that has it."""
        session = self.session
        assert session is not None
        return session

    def receive(self, data: bytes) -> None:
        """A chunk from Postgres: passed on as it is where nothing of it is ours."""
        session = self.session
        if session is None:
            self._alone(data)
            return
        if self.renamed:
            self.renamed = False
            if data[0] != codes.BIND_COMPLETE:
                # An error would name the statement as it stands here.
                self.walk()
        if self.walking:
            self._walk(data)
        else:
            pass_on(self, data)
            hub = self.hub
            if not (
                # All that `Sharing.replied` does where no text of ours is answered.
                self.application_name is None
                or self.doubt
                or session.leaving
                or session.gone_at is not None
                or hub.draining
                or hub.admission.waiting
                or hub.settings.restless
            ):
                return
        if not self.pipeline.entries:
            if self.signalled:
                signals.let_go(self)
            self.hub.sharing.replied(self)
        elif session.waits and self.pipeline.passes_over:  # up to a Sync that may be what waits
            session.go_on()

    def _walk(self, data: bytes) -> None:
        session = self.session
        assert session is not None
        compared = self.comparing is not None
        if self.tap is not None:
            tapping.feed(self, data)
        try:
            told = self.walker.feed(data)
        except ProtocolViolation as error:
            self.hub.server_violated(self, error.message)
            return
        if told:
            self.counters.sent_bytes += len(told)
            session.write(told)
        if self.fatal:
            self.hub.upstream.condemned(self)
            return
        if len(data) > MUCH:
            self.out.rest()
        cancelling.now(self)
        over = compared and self.comparing is None
        # In a copy nothing more is answered before what is held has been sent.
        if session.waits and (over or self.copy_in or self.stand.awaits_no_more()):
            session.go_on()
        if not self.pipeline.entries and self.walker.between_messages:
            # Whoever listens hears of others by the pids that they were told.
            self.walking = bool(self.loose) or Reason.LISTEN in session.pinned

    def _alone(self, data: bytes) -> None:
        """Nobody has it: Postgres says goodbye, or has read its configuration again."""
        if self.state is ServerState.CLOSING:
            return
        try:
            self.walker.feed(data)
        except ProtocolViolation as error:
            self.doubt = error.message
        if self.doubt or self.fatal:
            self.hub.sharing.spoiled(self)

    def between_messages(self) -> bool:
        return not self.skip and self.walker.between_messages

    def walk(self) -> None:
        """Replies are walked from now on, those to what went the fast way included."""
        if not self.walking:
            self.walking = True
            self.walker.take_over(self.partial, self.skip)
            self.partial, self.skip = b"", 0
            for entry in self.pipeline.entries:
                if entry != BATCH_NAMED:
                    # Only the last of several unnamed statements is still there at the end.
                    unnamed = self.names.unnamed if entry == BATCH else None
                    self.stand.will(Change(b"", unnamed, ours=False))
                self.shared.promised()

    def _look_into(self, kind: int, body: bytes) -> None:
        super()._look_into(kind, body)
        self.batch_failed = self.batch_failed or kind == codes.ERROR_RESPONSE
        if kind == codes.PARAMETER_STATUS and not self.walking:
            with suppress(ProtocolViolation):
                name, value = backend.decode_parameter_status(body)
                self.shared.told = {**self.shared.told, name: value}
                self.parameters = {**self.parameters, name: value}

    def run(self, text: bytes) -> bytes:
        """A Query of ours that the caller writes next."""
        self.walk()
        self.pipeline.entries.append(QUERY_OURS)
        self.ours += 1
        self.stand.will(Change(b"", None, ours=True))
        return text

    def lay_bare(self, session: SharedSession) -> bytes:
        """Text of ours: the session's statements under their own names, and no others (T19)."""
        clear = [b"DEALLOCATE ALL"]
        if Reason.PREPARE in session.pins.reasons:
            # Those made by PREPARE are its own.
            clear = [upkeep.deallocate(name) for name in self.stand.cleared()] or [b"SELECT"]
        text = self.run(upkeep.query(clear))
        self.stand.cleared()
        session.names.bare = True
        pieces = [text]
        for name, prepared in session.names:
            if not session.names.reads(prepared):
                continue
            self.stand.will(Change(name, prepared, ours=True))
            self.pipeline.entries.append(PARSE_OURS)
            pieces.append(prepared.parse(name))
        return b"".join(pieces) + self.sync()

    def sync(self) -> bytes:
        """A Sync of ours."""
        self.walk()
        self.pipeline.entries.append(SYNC_OURS)
        return frontend.sync()

    # What its session is learned to have done

    def has_set(self, name: str, text: bytes) -> None:
        """A setting was made, or reset where there is no text."""
        if text:
            self.settings[name] = text
        else:
            self.settings.pop(name, None)
            if name == handover.APPLICATION_NAME:
                self._renamed()

    def has_reset(self) -> None:
        """All settings were reset."""
        self.settings.clear()
        self._renamed()

    def _renamed(self) -> None:
        own = self.begun_as == self.shared.named
        self.application_name = self.begun_as if own else None

    def may_mark(self, effects: Iterable[Effect]) -> None:
        """What is being sent may make settings with a dot, which no reset removes (T24)."""
        for kind, name in effects:
            if "." in name and (kind in MARKING or kind is Kind.MAY_SET):
                self.dotted.add(name)
            elif kind is Kind.TEMPORARY:
                self.dotted.add(upkeep.TEMPORARY)

    # What the walk over the replies tells

    def unexpected(self, kind: int) -> ProtocolViolation:
        return ProtocolViolation(f"unexpected message type {kind}", peer="server")

    def told(self, name: str, value: str, *, ours: bool) -> bytes:
        """ParameterStatus; of `ours` the session is told when they are done, if it is news then."""
        self.parameters = {**self.parameters, name: value}
        if (session := self.session) is None or ours:
            return b""
        value = handover.as_told(session, self, name, value)
        session.told = {**session.told, name: value}
        self.hub.parameter_changed(self, name, value)
        return backend.parameter_status(name, value)

    def notification(self, body: bytes) -> bytes:
        """NotificationResponse as the session gets it: with the pid that the sender was told."""
        pid = self.hub.sharing.told_pid(int.from_bytes(body[:4], "big"))
        return message(codes.NOTIFICATION_RESPONSE, pid.to_bytes(4, "big") + body[4:])

    def rows_told(self, body: bytes) -> None:
        """RowDescription or NoData, the answer to a Describe (T18)."""
        prepared = self.stand.targets[0] if self.stand.targets else None
        if prepared is None:
            return
        rows, epoch = without_formats(body), self.hub.sharing.epoch(self.database)
        if self.comparing is prepared:
            self.comparing = None
            if prepared.rows is not None and prepared.rows != rows:
                self.changed = prepared
                return
        prepared.rows, prepared.epoch = rows, epoch
        session = self.session
        if session is None or prepared.types is None or not prepared.body:
            return
        if self.status == "I" and not session.batch and not any(session.batches):
            # In a transaction it may stand on what others do not see.
            parsed = Parsed(prepared.types, rows, epoch)
            self.pool.learn(prepared.body, session.tracked.settings, parsed)

    def types_told(self, body: bytes) -> None:
        """ParameterDescription: how Postgres has resolved the types of the statement (T18)."""
        targets = self.stand.targets
        if targets and targets[0] is not None and len(body) >= 2:
            count = int.from_bytes(body[:2], "big")
            words = (body[2 + 4 * at : 6 + 4 * at] for at in range(count))
            targets[0].types = tuple(int.from_bytes(word, "big") for word in words)

    def row_of_ours(self, body: bytes) -> None:
        if self.checking or self.marker or self.asking:
            self.row = [*self.row, *backend.decode_row(body)]

    def copy_in_begins(self) -> None:
        promised = self.pipeline.promised
        whole = list(self.pipeline.entries).count(BATCH)
        self.copy_in = not self.pipeline.copy_in_begins()
        leaving.copy_in_began(self)
        self.noted = True
        for _ in range(whole - list(self.pipeline.entries).count(BATCH)):
            # It counts as its Execute from now on.
            self.stand.answered(self.names)
        dropped = promised - self.pipeline.promised
        self.uncounted += dropped
        if self.session is not None:
            self.session.joined(dropped)

    def completed(self, body: bytes) -> None:
        self.uncounted = 0
        self.rolled_back = body.startswith(b"ROLLBACK")
        self.controlled = control(self.controlled, body)

    def failed_with(self, body: bytes) -> None:
        # How often Postgres says ReadyForQuery now differs from case to case (T14).
        self.loose, self.uncounted = self.loose + self.uncounted, 0
        self.batch_failed = True
        self.comparing = None
        self._look_into(codes.ERROR_RESPONSE, body)

    def loose_ready(self, status: str) -> None:
        """ReadyForQuery to a Sync that a copy has not ignored, because it had failed before."""
        self.loose -= 1
        now = self.ready_at = self.hub.clock()
        self.batch_failed = False
        if self.failed:
            self._ready(status, now)
        self.become(status)
        session = self.session
        if session is not None and not self.pipeline.entries:
            session.synced()

    def walked_to_ready(self, status: str) -> bytes:
        """ReadyForQuery: to a Query of ours, or to the oldest batch of the session.

        Returns what the session has to be told beside.
        """
        now = self.ready_at = self.hub.clock()
        if self.pipeline.entries[0] == SYNC_OURS:
            self.pipeline.ready()
            self.become(status)
            self.failed = self.noted = self.batch_failed = False
            return b""
        if self.pipeline.entries[0] == QUERY_OURS:
            self.stand.answered(self.names)
            self.ours -= 1
            self.pipeline.pop()
            self.become(status)
            if status != "I":
                self.doubt = self.doubt or "a transaction is open behind a text of ours"
            if self.marker:
                handover.marked(self)
            self.ours_failed = self.ours_failed or self.batch_failed
            self.failed = self.noted = self.batch_failed = self.rolled_back = False
            return b"" if self.ours else self._news()
        answered = Answered(self.batch_failed, status, self.status == "E", self.controlled)
        self.controlled = b""
        self._answer_whole()
        promised = self.pipeline.promised
        more = self.pipeline.ready()
        self._ready(status, now)
        if more:
            self.started = now
        session = self.session
        # A Query in the wake of an error was passed over, like all else up to Sync.
        for _ in range(promised - self.pipeline.promised if session is not None else 0):
            assert session is not None
            session.settled(answered)
        if status == "I":
            self._count_pinned()
        return b""

    def _count_pinned(self) -> None:
        """A transaction is over; was its session free to be parted from the server?"""
        session = self.session
        if session is not None and (by := sequences.pinned_by(session, self)):
            pinned = self.counters.pinned_transactions
            pinned[by] = pinned.get(by, 0) + 1
            # So that the next one comes here, too, whichever way it goes.
            self.noted = True

    def _answer_whole(self) -> None:
        """What the end of a Query or of a whole batch, and of what was passed over, has changed."""
        stand = self.stand
        for entry in self.pipeline.entries:
            kept = entry in SYNCED or (entry >= READY and not self.pipeline.skipping)
            if kept and entry in (QUERY, BATCH):
                stand.answered(self.names)
            elif entry in CHANGING:
                stand.dropped()
            elif entry in DESCRIBING:
                stand.targets.popleft()
            if kept:
                return

    def _news(self) -> bytes:
        """Parameters that are not what the session was told, now that texts of ours are done."""
        session = self.session
        if session is not None and readable(self.parameters) != session.readable:
            # What whoever had it before has set is reset now, and no news to this one.
            self.hub.sharing.judged(session, self.parameters)
        if session is None or self.parameters == session.told:
            return b""
        news = {n: v for n, v in self.parameters.items() if session.told.get(n) != v}
        session.told = self.parameters
        for name, value in news.items():
            self.hub.parameter_changed(self, name, value)
        return b"".join(backend.parameter_status(name, value) for name, value in news.items())

    def _ready(self, status: str, now: float) -> None:
        # An error that ends a transaction is that of its COMMIT.
        failed, self.batch_failed = self.batch_failed and status == "I", False
        undone = self.rolled_back or self.status == "E" or failed
        super()._ready(status, now)
        session = self.session
        if session is not None and session.ending and (status == "I" or undone):
            transaction_over(session, undone=undone)
        if status != "I" or session is None:
            return
        defining.ended(self, kept=not undone)
        if session.tracked.in_transaction:
            end(session, undone=undone, failed=failed)
        if (session.pinned or session.client.reads_sequences) and not self.walking:
            self._count_pinned()
