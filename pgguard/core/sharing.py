"""Who of the sessions that share servers has which: links, spare servers, resets, room.

A session whose transaction is over keeps its server as long as nobody needs it; whoever asks in
vain makes the one that has rested longest let go. Laws: a ticket is the right to a link, and goes
back when the server is let go, or, if the server is closed, when its socket has given EOF (T12);
servers, spare ones included, never exceed the total, nor those of a client its cap; a server goes
to another client only reset (T25), and never with what no reset removes (T24).
"""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import TYPE_CHECKING, cast

from pgguard import events
from pgguard.core import cancelling, defining, handover, loginevents, sequences, signals, verifying
from pgguard.core.cancel import FIRST_INVENTED
from pgguard.core.gate import readable
from pgguard.core.leaving import has_gone
from pgguard.core.login import Method
from pgguard.core.pins import Reason
from pgguard.core.pools import Pool, Pools, need
from pgguard.core.states import SessionState
from pgguard.counters import PinTally
from pgguard.errors import Refusal
from pgguard.pool.admission import TicketState
from pgguard.pool.servers import ServerState, move
from pgguard.wire import backend

if TYPE_CHECKING:
    from pgguard.core.hub import Hub
    from pgguard.core.secrets import Role
    from pgguard.core.session import Session
    from pgguard.core.shared_server import SharedServer
    from pgguard.core.shared_session import SharedSession
    from pgguard.pool.admission import Ticket

ROLES_LIMIT = 1_000
"""Users of whom it is remembered what their sessions begin as."""

PIDS_LIMIT = 10_000
"""Backends of which it is remembered whose they were last."""

NAME_LIMIT = 63
"""Bytes of an application_name that Postgres keeps (NAMEDATALEN - 1)."""

_LIVING = (ServerState.LINKED, ServerState.IDLE)

_NOT_RESTORED = "pgguard: the settings of this session could not be made again"
_NOT_RESTORED_HINT = "The log of Postgres says which of them it refused."
_CANCELED = "canceling statement due to user request"


class Sharing:
    """The links of all sessions that share servers."""

    __slots__ = (
        "_epochs",
        "_hub",
        "_pids",
        "_pools",
        "_roles",
        "_starting",
        "_told_pids",
        "closing",
        "firing",
        "nowhere",
    )

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._pools = Pools()
        self._starting: deque[Ticket] = deque()
        """Granted, but their servers cannot be connected before another one is closed."""
        self._epochs: dict[str, int] = {}
        self._roles: dict[str, str] = {}
        self._pids = count(FIRST_INVENTED)
        self._told_pids: dict[int, int] = {}
        """Pid of a backend → what the session was told that last may have notified on it."""
        self.closing: set[SharedServer] = set()
        """Spare servers whose end a statement about databases awaits."""
        self.nowhere = Pool(())
        self.firing: set[str] = set()
        """Databases whose newest login ran event triggers."""

    # The way in

    def enter(self, session: SharedSession) -> None:
        """The session has logged in, or Postgres is to judge it."""
        hub = self._hub
        now = hub.clock()
        session.pin_by_login()
        pool = session.pool = self._pools.of(session)
        session.pid = next(self._pids)
        session.named = session.application_name
        session.creates_temporary = defining.is_temporary(str(session.parameters))
        hub.keys.add(session.pid, session.secret_key, session)
        self.judged(session, pool.parameters)
        if not self._lets_in(session):
            if session.relay is None:
                session.write(backend.authentication_ok())
            self.want(session)
            return
        hub.places.move(session, SessionState.IDLE, now)
        session.greet(backend.authentication_ok())
        if session.held:
            session.receive(b"")

    def _lets_in(self, session: SharedSession) -> bool:
        """Whether its login can be completed without a server of its own.

        Whoever has neither proved to know the secret of its user, nor has a user that Postgres has
        let in without one a moment ago, is let in by Postgres or not at all (T3).
        """
        if not session.pool.known or session.relay is not None or loginevents.may_fire(session):
            return False
        if not any(
            server.database == session.database and server.state in _LIVING
            for server in self._hub.servers
        ):
            # While somebody is connected to a database it can be neither dropped nor renamed.
            return False
        # What Postgres makes of other names is not known here.
        if not session.named.isascii() or len(session.named) > NAME_LIMIT:
            return False
        if session.secret is not None:
            return True
        methods = self._hub.upstream.methods
        return methods.known(session.user, session.database) is Method.TRUST

    def judged(self, session: SharedSession, parameters: dict[str, str]) -> None:
        judge = self._hub.gate.judge(session.database)
        judge.sharing = True
        seen = readable(parameters)
        if judge is not session.judge or seen is not session.readable:
            session.judged_by(judge, readable=seen)

    # Links

    def want(self, session: SharedSession) -> None:
        """The session needs a server."""
        hub = self._hub
        now = hub.clock()
        hub.places.move(session, SessionState.WAITING, now)
        try:
            ticket = hub.admission.acquire(session.client.share, session, now)
        except Refusal as error:
            hub.refuse(session, error)
            return
        session.ticket = ticket
        if ticket.state is TicketState.GRANTED:
            hub.start_server(ticket, now)
            return
        self._make_room(ticket)
        if ticket.state is TicketState.QUEUED:
            client = session.client
            queued = events.TicketQueued(
                now, session.id, client.key, client.share.waiting, ticket.blocked_by
            )
            hub.emit(queued)

    def _make_room(self, ticket: Ticket) -> None:
        """Let those go that hold a server without need, longest rested first."""
        while ticket.state is TicketState.QUEUED:
            resting: list[SharedServer] = []
            for server in cast("set[SharedServer]", self._hub.servers):
                if ticket.blocked_by == "cap" and server.client.share is not ticket.share:
                    continue
                if self._rests(server) or self._look(server):
                    resting.append(server)
            if not resting:
                return
            self.let_go(min(resting, key=need))

    def _is_quiet(self, server: SharedServer) -> bool:
        """Nothing is on its way in either direction, and no transaction is open."""
        session = server.session
        if session is None or server.state is not ServerState.LINKED or server.pipeline.entries:
            return False
        if server.status != "I" or server.copy_in or not server.between_messages():
            return False
        if server.cancelling or server.cancels or server.loose:
            # It would hit whoever is next (T29), or be told to it (T14).
            return False
        if session.skip or session.partial or session.unsynced or session.waits:
            return False
        return session.held_back is None and not session.held

    def _rests(self, server: SharedServer) -> bool:
        """Whether its session would not notice that it goes."""
        if not self._is_quiet(server):
            return False
        session = server.shared
        return not session.pins and not sequences.keeps(session, server)

    def rests(self, session: SharedSession) -> bool:
        """Whether the session could be without a server now."""
        server = session.server
        return server is None or self._rests(server)

    def _look(self, server: SharedServer) -> bool:
        """Whether it rests after all; if only Postgres can tell that, it is asked (T23)."""
        return self._is_quiet(server) and verifying.look(server) and self._rests(server)

    def let_go(self, server: SharedServer) -> None:
        """Session and server part; the server is spare, or closed if it cannot be."""
        hub = self._hub
        now = hub.clock()
        session = server.shared
        hub.places.move(session, SessionState.IDLE, now)
        self._put_aside(session, server)

    def _put_aside(self, session: SharedSession, server: SharedServer) -> None:
        """Without a session now: to the spare ones, or to its end."""
        hub = self._hub
        ticket = server.ticket
        session.unlink()
        session.ticket = None
        server.rested = now = hub.clock()
        server.out.resume_reading()
        if server.doubt:
            hub.upstream.retire(server, server.doubt)
            return
        move(server, ServerState.IDLE)
        server.ticket = None
        server.walking = False
        self._pools.put(server)
        if ticket is not None:
            hub.granted(hub.admission.give_back(ticket, now))
        self.start()

    def part(self, session: SharedSession) -> bool:
        """The session ends. Returns False if its server, or the dial of one, must end with it."""
        self._hub.keys.remove(session.pid, session)
        server = session.server
        if server is None or not self._rests(server):
            return False
        self._put_aside(session, server)
        return True

    def give(self, ticket: Ticket) -> None:
        """The ticket was granted: link a spare server, or connect one."""
        hub = self._hub
        session = cast("SharedSession", ticket.holder)
        client = session.client
        lent = session.greeted or self._lets_in(session)
        restless = hub.settings.restless
        if lent and not restless and self._lend(session, ticket, at_cap=True):
            # One of its own client's, as most: then it does not matter how many there are.
            return
        mine = sum(1 for other in hub.servers if other.client is client)
        at_cap = mine >= client.limits.connection_limit
        if lent and self._lend(session, ticket, at_cap=at_cap, restless=restless):
            return
        total = hub.admission.total
        if hub.blocking:
            # Whoever connects makes a statement about databases fail (T27).
            self._starting.append(ticket)
        elif at_cap or (total is not None and len(hub.servers) >= total):
            self._starting.append(ticket)
            spare = self._pools.take_oldest(client if at_cap else None)
            if spare is not None:
                hub.upstream.retire(spare, "another session needs its place")
        else:
            hub.upstream.dial(session, ticket)

    def _lend(
        self, session: SharedSession, ticket: Ticket, *, at_cap: bool, restless: bool = False
    ) -> bool:
        """Link a spare server, if there is one for the session."""
        server = self._pools.take(session, at_cap=at_cap, restless=restless)
        if server is None:
            return False
        move(server, ServerState.LINKED)
        server.since = now = self._hub.clock()
        server.ticket = ticket
        session.link(server, now)
        return True

    def connected(self, server: SharedServer) -> None:
        """The dial of its first session has ended well."""
        server.pool.knows(server.parameters)
        self.notifies(server.shared, server)

    def notifies(self, session: SharedSession, server: SharedServer) -> None:
        """The session may be about to send notifications. They name the pid that it was told last:
        whoever has asked for pg_backend_pid() keeps that server."""
        self._told_pids.pop(server.pid, None)
        asked = Reason.PID in session.pins.reasons
        self._told_pids[server.pid] = server.pid if asked else session.pid
        if len(self._told_pids) > PIDS_LIMIT:
            del self._told_pids[next(iter(self._told_pids))]

    def told_pid(self, pid: int) -> int:
        """The pid by which a session knows itself whose server has this one; else the same."""
        return self._told_pids.get(pid, pid)

    def failed_to_link(self, session: SharedSession, server: SharedServer) -> None:
        """What makes the server the session's has failed: it is closed, and another one tried."""
        hub = self._hub
        hub.places.move(session, SessionState.IDLE, hub.clock())
        session.unlink()
        session.ticket = None
        hub.upstream.retire(server, server.doubt)
        session.links_failed += 1
        if session.links_failed > 1 or has_gone(session):
            hub.refuse(session, Refusal(_NOT_RESTORED, sqlstate="57P01", hint=_NOT_RESTORED_HINT))
        else:
            self.want(session)
            cancelling.linked_again(session, server)

    # What replies bring

    def replied(self, server: SharedServer) -> None:
        """Nothing is due on a server any more."""
        session = server.session
        if session is None:
            return
        # Had Postgres passed over what it was for, it would be another one's.
        server.refusing = b""
        if server.linking:
            server.linking = False
            if server.asking:
                loginevents.answered(session, server)
            if server.ours_failed:
                self.failed_to_link(session, server)
                return
            session.links_failed = 0
        if server.checking:
            handover.checked(session, server, self._hub.clock())
        if server.application_name is None:
            handover.name(session, server)
        if server.loose and not (server.marker or session.unsynced or server.copy_in):
            handover.mark(server)
        if session.waits:
            session.go_on()
            if server.pipeline.entries or server.session is not session:
                return
        if session.leaving or (session.gone_at is not None and session.held_back is None):
            self._hub.end_session(session, "closed by the client")
            return
        if self._hub.draining:
            self._hub.drained(server)
            return
        if server.doubt and server.status == "I":
            self.spoiled(server)
            return
        if self._hub.admission.waiting or self._hub.settings.restless:
            if self._rests(server) or self._look(server):
                self.let_go(server)
        elif session.pinned and verifying.is_due(server, self._hub.clock()):
            self._look(server)

    def spoiled(self, server: SharedServer) -> None:
        """A server that is not to be used any more."""
        if server.session is None:
            self._pools.remove(server)
            self._hub.upstream.retire(server, server.doubt or "Postgres said something unasked")
        elif self._rests(server):
            self.let_go(server)

    def lost(self, server: SharedServer) -> None:
        """Its socket is gone: there is room."""
        defining.lost(server)
        self._pools.remove(server)
        if server.signalled:
            signals.let_go(server)
        if server in self.closing:
            self.closing.discard(server)
            self._hub.let_go_on()
        self.start()

    def start(self) -> None:
        """Try again to connect what has waited for room, or for a statement about databases."""
        for _ in range(len(self._starting)):
            ticket = self._starting.popleft()
            session = cast("SharedSession", ticket.holder)
            if session.state is SessionState.WAITING and session.ticket is ticket:
                self.give(ticket)
            else:
                self._hub.granted(self._hub.admission.give_back(ticket, self._hub.clock()))

    def tick(self, now: float) -> None:
        """Every 100 ms: whoever waits, and spare servers that nobody has needed for long."""
        hub = self._hub
        if hub.admission.waiting:
            for ticket in hub.admission.heads():
                self._make_room(ticket)
        if self._starting:
            self.start()
        for one in cast("set[SharedServer]", hub.servers):
            if one.session is not None and one.shared.pinned and verifying.is_due(one, now):
                self._look(one)
        for server in self._pools.take_if(lambda one: now - one.rested > hub.settings.spare_for):
            hub.upstream.retire(server, "nobody needed it")

    def close_spare(self) -> bool:
        """Close every server that nobody has, before a statement about databases (T27).

        Returns whether there is one; `Hub.let_go_on` is called when the last one is gone.
        """
        for server in self._pools.take_if(lambda one: True):
            self.closing.add(server)
            self._hub.upstream.retire(server, "a statement about databases is next")
        return bool(self.closing)

    def epoch(self, database: str) -> int:
        """Rises with whatever may have changed what statements return (T18)."""
        return self._epochs.get(database, 0)

    def catalogue_changed(self, database: str) -> None:
        self._epochs[database] = self.epoch(database) + 1
        self.start()

    def role_seen(self, user: str, role: Role) -> None:
        """Each login of a role whose verifier is read: has somebody changed what it begins as?"""
        before = self._roles.get(user, role.begins)
        if len(self._roles) >= ROLES_LIMIT:
            self._roles.clear()
        self._roles[user] = role.begins
        if before != role.begins:
            self.roles_changed()

    def roles_changed(self) -> None:
        """What a role may, or begins with, has changed: no server that is there knows it (T26)."""
        self._pools.forget()
        for server in self._pools.take_if(lambda one: True):
            self._hub.upstream.retire(server, "roles have changed")
        for other in self._hub.servers:
            cast("SharedServer", other).doubt = "roles have changed"

    def pinned(self, session: SharedSession, reason: Reason) -> None:
        """A reason is new: counted for the client, with the first statement that brought it."""
        pin = session.pins.reasons[reason]
        tallies = session.client.counters.pins
        tally = tallies.get(reason.name.lower())
        if tally is None:
            tally = tallies[reason.name.lower()] = PinTally(pin.text)
        tally.number += 1
        self._hub.emit(events.Pinned(pin.since, session.id, session.client.key, reason.value))

    def unpinned(self, session: SharedSession, reason: Reason) -> None:
        now = self._hub.clock()
        self._hub.emit(events.Unpinned(now, session.id, session.client.key, reason.value))

    # Cancels and refusals after login

    def cancel_waiting(self, session: Session) -> None:
        """Somebody else has the session's statement canceled, which has no server yet."""
        if session.state is SessionState.WAITING:
            self._cancelled(cast("SharedSession", session))

    def pid_at_rest(self, session: SharedSession) -> int | None:
        """The backend of a spare server that looks like the session, which needs none now: best its
        own last one, or one of its pool."""
        if session.state is not SessionState.IDLE:
            return None
        spare = session.pool.spare or self._pools.spare()
        own = [server for server in spare if server.last_session is session]
        return next((server.pid for server in (own or spare)), None)

    def spare_pid(self) -> int | None:
        """The backend of a server that nobody has."""
        return next((server.pid for server in self._pools.spare()), None)

    def _cancelled(self, session: SharedSession) -> None:
        """A CancelRequest for a session that waits: its ticket is withdrawn (T7)."""
        hub = self._hub
        hub.counters.cancels += 1
        ticket = session.ticket
        assert ticket is not None
        now = hub.clock()
        if ticket.state is TicketState.QUEUED:
            hub.granted(hub.admission.abandon(ticket, now))
        else:
            hub.upstream.abandon(session, "canceled by the client")
        self.refuse(session, Refusal(_CANCELED, sqlstate="57014"))
        self.start()

    def refuse(self, session: SharedSession, error: Refusal) -> None:
        """ERROR; the statement, or the batch up to Sync, is dropped; the session lives (T6)."""
        session.ticket = None
        self._hub.places.move(session, SessionState.IDLE, self._hub.clock())
        session.write(
            backend.error_response(
                severity="ERROR",
                sqlstate=error.sqlstate,
                message=error.message,
                detail=error.detail,
                hint=error.hint,
            )
        )
        session.drop_batch()
        if session.gone_at is not None:
            self._hub.end_session(session, error.message)
