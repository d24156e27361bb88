"""The object that owns every session, server and client, and moves them.

Laws: no await, no I/O, no clock of its own (`clock` is given); slow work is asked of `net` and
comes back as a call; a granted ticket is given back exactly once, when its server's socket has
given EOF or its dial is over. Observers get events in batches and cannot raise into here.
"""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING

from pgguard import events
from pgguard.core import cancelling
from pgguard.core.cancel import CancelKeys
from pgguard.core.clients import Clients
from pgguard.core.entry import notify
from pgguard.core.gate import Gate, readable
from pgguard.core.introductions import Introductions
from pgguard.core.login import shutting_down, timed_out
from pgguard.core.secrets import Secrets
from pgguard.core.session import Session
from pgguard.core.shared_server import SharedServer
from pgguard.core.shared_session import SharedSession
from pgguard.core.sharing import Sharing
from pgguard.core.states import Places, SessionState
from pgguard.core.tapping import sample
from pgguard.core.types import Client, HubSettings, Net, Nowhere, Out, Peer
from pgguard.core.upstream import Upstream
from pgguard.counters import ProcessCounters
from pgguard.errors import AdmissionRefused, LoginRefused, Refusal
from pgguard.pool.admission import Admission, Share, Ticket, TicketState
from pgguard.tenancy.policy import Policy
from pgguard.wire import backend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgguard.core.secrets import Role
    from pgguard.core.server import Server
    from pgguard.core.server_login import ServerLogin
    from pgguard.sql.statement import Statement

EVENTS_LIMIT = 100_000
"""Events kept for the subscribers; more are counted as dropped."""

FLUSH_WITHIN = 10.0
"""Seconds that a client gets to read the last bytes of a session that has ended."""


class Hub:
    """The proxy without I/O."""

    def __init__(
        self,
        settings: HubSettings,
        net: Net,
        *,
        clock: Callable[[], float],
        wall: float = 0.0,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.shares = settings.sharing
        self.net = net
        self.clock = clock
        self.wall = wall
        self.started = clock()
        self.secrets = Secrets(secrets or {})
        self.counters = ProcessCounters()
        self.admission = Admission(settings.admission, settings.total)
        self.gate = Gate(settings.tenancy, self.counters, net, clock, Policy(settings.policy))
        self.upstream = Upstream(self)
        self.sharing = Sharing(self)
        self.keys: CancelKeys[Session] = CancelKeys()
        self.places = Places()
        self.nowhere: Out = Nowhere()
        self.clients = Clients(self)
        self.introductions = Introductions()
        limits = settings.admission.defaults
        self.nobody = Client("", "none", Share("", limits))
        self.servers: set[Server] = set()
        self.events: list[events.Event] = []
        self.services = False
        """A service connection is open: statements on databases must wait for its end (T27)."""
        self.blocking: set[Server] = set()
        """Servers on which a statement about databases is running (T27)."""
        self.draining = False
        self.gone: set[Session] = set()
        """Sessions whose client has closed its side while its server is still linked."""
        self._holding: list[Session] = []
        self._numbers = 0
        self._seen = 0

    @property
    def sessions(self) -> set[Session]:
        return set(self.places)  # type: ignore[arg-type]

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def has_moved(self) -> bool:
        """Whether sessions or servers came since this was asked last, or are on their way in."""
        before, self._seen = self._seen, self._numbers
        return before != self._numbers or bool(self.places.of(SessionState.LOGIN))

    def emit(self, event: events.Event) -> None:
        if len(self.events) < EVENTS_LIMIT:
            self.events.append(event)
        else:
            self.counters.events_dropped += 1

    # The way in

    def open_session(
        self, address: str, port: int, *, loopback: bool, peer: Peer | None = None
    ) -> Session:
        """A connection was accepted; its bytes go to `receive` from now on.

        Over a unix socket `peer` is who is behind it, and `address` is LOCAL.
        """
        kind = SharedSession if self.shares else Session
        session = kind(self, self.number(), intern(address), port, loopback=loopback)
        session.peer_pid, session.peer_uid = peer or (None, None)
        self.places.add(session)
        return session

    def begin_login(self, session: Session) -> None:
        """The startup packet is read: find out who it is, then authenticate.

        A name of its own that nobody else uses now need not wait for procfs.
        """
        if self.draining:
            self.refuse(session, shutting_down())
            return
        local = session.loopback or session.peer_pid is not None
        procfs = local and "process" in self.settings.identify
        if not procfs or self.net.identify(session) or self.clients.is_named(session):
            self._enter(session)

    def identified(self, session: Session) -> None:
        """`session.process` is as known as it will be."""
        if session in session.client.sessions:
            self.clients.used_by(session)
        self._enter(session)

    def _enter(self, session: Session) -> None:
        entrance = session.entrance if session.state is SessionState.LOGIN else None
        if entrance is not None and entrance.dialogue is None:
            entrance.begin()

    def want_method(self, session: Session) -> None:
        method = self.upstream.method(session)
        if method is not None and session.entrance is not None:
            session.entrance.known(method)

    def role_known(self, session: Session, role: Role | None) -> None:
        """What pg_authid says of the session's user; None if it could not be read after all."""
        if self.shares and role is not None:
            self.sharing.role_seen(session.user, role)
        if session.entrance is not None and session.state is SessionState.LOGIN:
            session.entrance.known(role)

    def start_server(self, ticket: Ticket, now: float) -> None:
        """The ticket was granted: connect its server."""
        session = ticket.holder
        assert isinstance(session, Session)
        waited = ticket.waited(now)
        if waited > 0:
            self.count_wait(session.client, waited)
            self.emit(events.TicketGranted(now, session.id, session.client.key, waited))
        self.counters.pool_wait_seconds.observe(waited)
        self.counters.added_wait.observe(waited)
        if isinstance(session, SharedSession):
            self.sharing.give(ticket)
        else:
            self.upstream.dial(session, ticket)

    def count_wait(self, client: Client, waited: float) -> None:
        counters = client.counters
        counters.waits += 1
        counters.waited += waited
        counters.waited_max = max(counters.waited_max, waited)

    def granted(self, tickets: list[Ticket]) -> None:
        now = self.clock()
        for ticket in tickets:
            self.start_server(ticket, now)

    # The way out

    def refuse(self, session: Session, error: Refusal) -> None:
        """FATAL to a session that is still on its way in, and its end."""
        if session.state in (SessionState.CLOSING, SessionState.CLOSED):
            return
        now = self.clock()
        if isinstance(error, LoginRefused):
            who = session.address, session.user, session.database
            self.emit(events.LoginFailed(now, *who, error.sqlstate, error.message, error.log))
        elif isinstance(error, AdmissionRefused):
            self._count_refusal(session, error, now)
        if isinstance(session, SharedSession) and session.lives_on(error):
            self.sharing.refuse(session, error)
            return
        session.write(
            backend.error_response(
                severity="FATAL",
                sqlstate=error.sqlstate,
                message=error.message,
                # Who holds servers is told to the authenticated only (T1).
                detail="" if session.relay is not None else error.detail,
                hint=error.hint,
            )
        )
        self.end_session(session, error.message)

    def _count_refusal(self, session: Session, error: AdmissionRefused, now: float) -> None:
        client = session.client if session.client is not self.nobody else self.clients.of(session)
        reason = error.reason
        refusals = client.counters.refusals
        refusals[reason] = refusals.get(reason, 0) + 1
        waited = session.ticket.waited(now) if session.ticket else 0.0
        if waited > 0:
            self.count_wait(client, waited)
        self.emit(
            events.SessionRefused(
                now,
                session.id,
                client.key,
                error.code,
                reason,
                error.message,
                error.holders,
                waited,
            )
        )

    def end_session(self, session: Session, reason: str) -> None:
        """What was written is flushed, then the connection is closed; ticket and server go."""
        if session.state in (SessionState.CLOSING, SessionState.CLOSED):
            return
        now = self.clock()
        if session.state is SessionState.LOGIN and session.user:
            self.counters.logins_ended += 1
        self._give_up_ticket(session, now)
        self.places.move(session, SessionState.CLOSING, now)
        self._forget(session, reason, now)
        self.gone.discard(session)
        if isinstance(session, SharedSession) and self.sharing.part(session):
            session.out.close()
            return
        server = session.unlink()
        if server is None:
            if session.ticket is not None:
                self.upstream.abandon(session, reason)
        elif session.leaving and server.pipeline.due and session.held_back is None:
            if isinstance(server, SharedServer):
                server.say_goodbye()
            self.upstream.run_on(server, reason)
        else:
            cut_off = session.skip or session.held_back or session.gone_at is not None
            self.upstream.retire(server, reason, half_sent=bool(cut_off))
        session.out.close()

    def _give_up_ticket(self, session: Session, now: float) -> None:
        ticket = session.ticket
        if ticket is not None and ticket.state is TicketState.QUEUED:
            waited = ticket.waited(now)
            self.granted(self.admission.abandon(ticket, now))
            self.count_wait(session.client, waited)
            self.emit(events.TicketAbandoned(now, session.id, session.client.key, waited))

    def _forget(self, session: Session, reason: str, now: float) -> None:
        client = session.client
        if session in client.sessions:
            client.sessions.discard(session)
            self.admission.close_session(client.share, session.wish)
            self.clients.left(client)
            self.emit(events.SessionClosed(now, session.id, client.key, reason))
        if session.server is not None:
            self.keys.remove(session.server.pid, session)

    def session_violated(self, session: Session, what: str) -> None:
        """The session broke the protocol: FATAL 08P01, and its server is not trusted with more."""
        now = self.clock()
        self.emit(events.ProtocolBroken(now, session.address, session.client.key, what))
        server = session.server
        if server is None or server.between_messages():
            session.write(backend.error_response(severity="FATAL", sqlstate="08P01", message=what))
        if server is not None and server.pipeline.due:
            # What came before it is executed to its end, as Postgres does.
            session.leaving = True
            server.say_goodbye()
        self.end_session(session, what)

    def session_gone(self, session: Session, reason: str) -> None:
        """The client left before it had a server: nothing of what it sent is executed."""
        self.end_session(session, reason)

    def session_lost(self, session: Session, error: BaseException | None) -> None:
        """Its socket is gone."""
        now = self.clock()
        if session.state is not SessionState.CLOSED:
            server = session.server
            if server is not None and server.pipeline.due and not session.leaving:
                # A reset or a failed write: what runs is cancelled (T30). A client that said
                # Terminate or closed in order is served to the end, as Postgres does.
                self.upstream.cancel(server)
            self.end_session(session, f"connection lost: {error}" if error else "connection closed")
            self.places.move(session, SessionState.CLOSED, now)

    # Statements

    def flag(self, session: Session, statement: Statement) -> None:
        self.gate.flag(session.client, statement, self.clock())

    def settle(self, session: Session, statement: Statement) -> None:
        self.gate.settle(session, statement, self.clock())

    def catalogue_changed(self, server: Server) -> None:
        """A statement that may have changed the catalogue, or databases, is done."""
        self.blocking.discard(server)
        self.sharing.catalogue_changed(server.database)
        self.gate.changed(server.database)

    def close_services(self, server: Server) -> bool:
        """A statement about databases is next on `server`: no service connection may stand in its
        way until it is done (T27). Returns whether one has to be closed first."""
        server.noted = server.ddl = True
        self.blocking.add(server)
        if self.services:
            self.net.close_services()
        waits = self.sharing.close_spare() or self.services
        if waits and server.session is not None:
            self._holding.append(server.session)
        return waits

    def services_closed(self) -> None:
        self.services = False
        self.let_go_on()

    def let_go_on(self) -> None:
        """Let those go on whose statement about databases nobody stands in the way of any more."""
        if self.services or self.sharing.closing:
            return
        holding, self._holding = self._holding, []
        for session in holding:
            session.let_go()
            if session.server is not None:
                cancelling.gone_on(session, session.server)

    def parameter_changed(self, server: Server, name: str, value: str) -> None:
        """ParameterStatus: can texts of this session still be read as they are?"""
        session = server.session
        if session is None:
            return
        if name == "application_name":
            session.application_name = value
        elif name in ("client_encoding", "standard_conforming_strings"):
            # Shared by all servers that were told the same at login.
            server.parameters = {**server.parameters, name: value}
            if isinstance(session, SharedSession):
                session.respelled()
            self.linking(session, server)

    def linking(self, session: Session, server: Server) -> None:
        judge = session.judge or self.gate.judge(session.database)
        session.judged_by(judge, readable=readable(server.parameters))

    def reconfigure(self, settings: HubSettings) -> None:
        """New settings for everything that can change while running; nobody is dropped."""
        total_changed = settings.total != self.settings.total
        self.settings = settings
        self.granted(self.admission.reconfigure(settings.admission, self.clock()))
        if total_changed and settings.total is not None:
            self.upstream.set_total(settings.total)
        self.gate.policy.reconfigure(settings.policy)
        self.gate.reconfigure(settings.tenancy)
        for session in self.sessions:
            if session.judge is not None:
                judge = self.gate.judge(session.database)
                session.judged_by(judge, readable=session.readable)

    # Cancel requests

    def cancel_request(self, pid: int, secret: bytes) -> Server | None:
        """The server that a CancelRequest means now; None if it runs nothing of that session's."""
        session = self.keys.find(pid, secret)
        server = cancelling.means(session) if session is not None else None
        if session is None or server is None or not server.pipeline.entries:
            return None
        self.counters.cancels += 1
        self.emit(events.CancelForwarded(self.clock(), session.id, session.client.key))
        server.cancels += 1
        return server

    def cancel_sent(self, server: Server) -> None:
        """Postgres has taken the cancel of the client, or it is given up."""
        server.cancels -= 1
        if isinstance(server, SharedServer) and not server.pipeline.entries:
            self.sharing.replied(server)

    # Time

    def tick(self) -> None:
        """Every 100 ms: deadlines of logins, tickets, retries and closing servers."""
        now = self.clock()
        result = self.admission.tick(now)
        for ticket, error in result.refused:
            assert isinstance(ticket.holder, Session)
            self.refuse(ticket.holder, self.upstream.why_refused(error))
        for ticket, text in result.notices:
            assert isinstance(ticket.holder, Session)
            notify(ticket.holder, text)
        self.granted(result.granted)
        for place in list(self.places.of(SessionState.LOGIN)):
            assert isinstance(place, Session)
            if place.entrance and now - place.since > self.settings.login_timeout:
                place.entrance.time_out()
        for place in list(self.places.of(SessionState.RELAYED)):
            assert isinstance(place, Session)
            if now - place.since > self.settings.login_timeout:
                self.refuse(place, timed_out())
        for place in list(self.places.of(SessionState.CLOSING)):
            if now - place.since > FLUSH_WITHIN:
                assert isinstance(place, Session)
                place.out.abort()
        self.gate.tick(now)
        sample(self, now)
        self.upstream.tick(now)
        if self.shares:
            self.sharing.tick(now)

    # What `net` reports

    def server_connected(self, server: Server, out: Out, login: ServerLogin) -> None:
        self.upstream.connected(server, out, login)

    def server_lost(self, server: Server, error: BaseException | None) -> None:
        self.upstream.lost(server, error)

    def server_violated(self, server: Server, what: str) -> None:
        """Postgres, or what we took for it, broke the protocol: both ends are closed."""
        now = self.clock()
        self.emit(events.ProtocolBroken(now, "server", server.client.key, what))
        server.close_reason = what
        session = server.session
        if session is not None:
            if server.between_messages():
                session.write(
                    backend.error_response(
                        severity="FATAL",
                        sqlstate="08P01",
                        message=f"pgguard: Postgres broke the protocol: {what}",
                    )
                )
            self.end_session(session, what)
        server.out.abort()

    # The end

    def drain(self) -> None:
        """Tell idle sessions 57P01, let the others finish what runs, refuse who waits."""
        self.draining = True
        now = self.clock()
        self.admission.drain(now)
        for session in list(self.sessions):
            if session.server is not None:
                self.drained(session.server)
            elif session.out is not self.nowhere:  # else with its startup packet
                self.refuse(session, shutting_down())

    def drained(self, server: Server) -> None:
        """While draining: end the session whose server owes nothing and is in no transaction."""
        session = server.session
        busy = server.pipeline.entries or server.status != "I" or not server.between_messages()
        if session is not None and not busy:
            self.refuse(session, shutting_down())

    def stop(self) -> None:
        """The grace time is over: end every session now."""
        for session in list(self.sessions):
            if session.state is SessionState.CLOSING:
                continue
            server = session.server
            if server is None or server.between_messages():
                self.refuse(session, shutting_down())
            else:
                self.end_session(session, "shutdown")
        self.upstream.stop()

    def abort(self) -> None:
        """Whoever has not closed by now is cut off."""
        for session in list(self.sessions):
            session.out.abort()
        for server in list(self.servers):
            server.out.abort()
