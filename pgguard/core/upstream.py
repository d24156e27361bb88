"""The life of servers: how Postgres receives a user, dials and their retries, ends.

Laws: a ticket is given back exactly once, when the socket of its server has given EOF or its dial
is over; a server whose session is gone is never handed on; Postgres's own errors are passed on
verbatim, once; while Postgres is down sessions are held for `pool_timeout`, and few of them try.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pgguard import events
from pgguard.core.leaving import has_gone
from pgguard.core.login import Method
from pgguard.core.methods import Methods
from pgguard.core.redials import AT_ONCE, Redials, Waiting
from pgguard.core.server import Server, sharing
from pgguard.core.server_login import is_limit_of_its_own
from pgguard.core.shared_server import SharedServer
from pgguard.core.shared_session import SharedSession
from pgguard.core.states import SessionState
from pgguard.core.types import Recent
from pgguard.errors import Refusal, ServerUnavailable
from pgguard.pool.servers import ServerState, move
from pgguard.wire import backend, codes

if TYPE_CHECKING:
    from pgguard.core.hub import Hub
    from pgguard.core.server_login import ServerLogin
    from pgguard.core.session import Session
    from pgguard.core.types import Out
    from pgguard.pool.admission import Ticket

AWAITING = (SessionState.WAITING, SessionState.RELAYED)
"""A server is being connected for it."""
LOWERED_FOR = 5.0
"""Seconds for which a total that Postgres's 53300 has lowered stays lowered."""
CLOSE_WITHIN = 5.0
CANCEL_AGAIN = 0.5
"""Seconds. A cancel that overtakes its statement ends nothing, and Postgres tells nobody."""
GONE_REPORTED_AFTER = 2.0


class Upstream:
    """Everything between a granted ticket and the EOF that gives it back."""

    __slots__ = (
        "_cancelled",
        "_closing",
        "_hub",
        "_lowered_at",
        "_told",
        "last_error",
        "methods",
        "pids",
        "redials",
        "single",
        "total",
        "version",
    )

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.methods = Methods(hub.clock)
        self.redials = Redials()
        self._cancelled: dict[Server, float] = {}
        """When each server was sent its last cancel."""
        self._closing: dict[Server, float] = {}
        self._lowered_at: float | None = None
        self.single = ""
        """What the server is that has one backend for all, `PGlite 0.5`; empty for a Postgres."""
        self.total = hub.settings.total
        self.version = ""
        self.last_error = ""
        self.pids = Recent()
        """Of the newest servers that there were: who else is connected is not ours."""
        self._told: dict[str, str] = {}
        """What the newest server told at login: one dictionary for all that are told the same."""

    def is_single(self, what: str) -> None:
        """The server has one backend for all: one session at a time, whatever the settings say."""
        self.single = what
        self.set_total(1)

    # How Postgres receives a user

    def method(self, session: Session) -> Method | None:
        """The method if it is known; otherwise `entrance.advance` is called with it later."""
        if self.single and self.methods.ever(Method.TRUST):
            # Looking would take the only backend; who has none checks nobody.
            return Method.TRUST
        method = self.methods.known(session.user, session.database)
        if method is None and self.methods.wait(session):
            self._hub.net.probe(session.user, session.database)
        return method

    def probed(self, user: str, database: str, method: Method) -> None:
        self.methods.learned(user, database, method)
        self._up()
        for session in self.methods.take(user, database):
            if session.entrance is not None and session.state is SessionState.LOGIN:
                session.entrance.known(method)

    def probe_failed(self, user: str, database: str, error: ServerUnavailable) -> None:
        """Hold who may still wait; refuse the others."""
        self._down(error)
        now = self._hub.clock()
        for session in self.methods.take(user, database):
            if session.state is not SessionState.LOGIN:
                continue
            patience = self._hub.settings.admission.defaults.pool_timeout
            if error.fields.get("C") == "53300" and self._hub.admission.neighbours:
                patience = self._hub.settings.admission.total_timeout
            if error.temporary and now - session.since < patience:
                self.redials.add(Waiting(session, None, error), now)
            else:
                self._pass_on(session, error)

    # Dials

    def dial(self, session: Session, ticket: Ticket) -> None:
        """Connect a server for a session, or let it wait its turn while Postgres is away."""
        if self.is_away():
            error = ServerUnavailable(self.last_error)
            self.redials.add(Waiting(session, ticket, error), self._hub.clock())
        else:
            self._dial(session, ticket)

    def is_away(self) -> bool:
        """Postgres has not answered lately, and somebody waits until it does."""
        return bool(self.redials) and not self._hub.counters.upstream_up

    def why_refused(self, error: Refusal) -> Refusal:
        """Who waited in vain for those who wait for Postgres has waited for Postgres."""
        return not_ready(self.last_error) if self.is_away() else error

    def _dial(self, session: Session, ticket: Ticket) -> None:
        hub = self._hub
        shared = isinstance(session, SharedSession)
        server = (SharedServer if shared else Server)(hub, hub.number(), session, ticket)  # type: ignore[arg-type]
        hub.servers.add(server)
        hub.net.dial(server, session.parameters)

    def connected(self, server: Server, out: Out, login: ServerLogin) -> None:
        """The dial has ended well; bytes from Postgres go to `server.receive` from now on."""
        hub = self._hub
        now = hub.clock()
        server.connected(out)
        server.pid, server.secret_key = login.pid, login.secret_key
        self.pids.add(login.pid)
        server.greeting = login.greeting
        if login.parameters != self._told:
            self._told = login.parameters
        server.parameters = self._told
        server.become(login.status)
        self._up(login.parameters.get("server_version", ""))
        move(server, ServerState.IDLE)
        session = server.session
        if session is not None and session.vanished():
            hub.session_gone(session, "client left while it waited")
        if session is None or session.state not in AWAITING:
            server.session = None
            self.retire(server, "client gone while its server was connected")
            return
        move(server, ServerState.LINKED)
        server.since = now
        if isinstance(server, SharedServer):
            hub.sharing.connected(server)
        else:
            hub.keys.add(server.pid, session.secret_key, session)
            hub.linking(session, server)
        hub.emit(events.ServerOpened(now, server.id, session.id, session.client.key, server.pid))
        session.link(server, now)

    def dial_failed(self, server: Server, error: ServerUnavailable) -> None:
        hub = self._hub
        now = hub.clock()
        session = server.session
        ticket = server.ticket
        assert ticket is not None
        hub.servers.discard(server)
        self._closing.pop(server, None)
        move(server, ServerState.CLOSED)
        hub.sharing.start()
        full = error.fields.get("C") == "53300"
        if self.single:
            # There it has only not noticed yet that the one before has gone.
            self._try_others(now, room=False)
        elif not self._down(error):
            # An answer, but one that makes room for nobody if there is no slot.
            self._try_others(now, room=not full)
        if session is None or session.state not in AWAITING:
            self._give_back(ticket)
            return
        if isinstance(session, SharedSession) and has_gone(session):
            hub.end_session(session, "client left, and Postgres does not let pgguard in")
            self._give_back(ticket)
            return
        asked = session.state is SessionState.RELAYED
        patience = session.client.limits.pool_timeout
        if full and not asked and self._requeue(session, ticket, error, now):
            return
        self.methods.forget(server.user, server.database)
        if error.temporary and not (full or asked) and now - session.since < patience:
            self.redials.add(Waiting(session, ticket, error), now)
            return
        self._pass_on(session, error)
        self._give_back(ticket)

    def _requeue(
        self, session: Session, ticket: Ticket, error: ServerUnavailable, now: float
    ) -> bool:
        """Postgres has no slot although we granted one (T12). False = the error is passed on.

        While another guard holds what we lack, it is about to give some up.
        """
        hub = self._hub
        others = hub.admission.held - 1
        beside = bool(hub.admission.neighbours) and not is_limit_of_its_own(error)
        if is_limit_of_its_own(error):
            # A limit of the role or of the database: only servers of the same can be waited for.
            others = min(others, len(sharing(hub.servers, session)))
        passed_on = others < 1 and not beside
        hub.emit(events.ServerRefused(now, session.client.key, "53300", error.message, passed_on))
        hub.net.read_limits()
        if others < 1:
            waited = now - session.since
            if not beside or waited > hub.settings.admission.total_timeout:
                return False
            self.redials.add(Waiting(session, ticket, error), now)
            return True
        self._lowered_at = now
        hub.granted(hub.admission.set_total(others, now))
        hub.granted(hub.admission.requeue(ticket, now))
        return True

    def set_total(self, total: int | None) -> None:
        """`limits.total`, or what auto came to."""
        admission = self._hub.admission
        self.total = total = 1 if self.single else total
        lower = total is not None and admission.total is not None and total < admission.total
        if self._lowered_at is None or lower:
            self._hub.granted(admission.set_total(total, self._hub.clock()))

    def _pass_on(self, session: Session, error: ServerUnavailable) -> None:
        """Postgres's own error verbatim, or 57P03 with the last cause."""
        hub = self._hub
        fields = error.fields
        shared = fields.get("C") == "53300" and not is_limit_of_its_own(error)
        if shared and hub.admission.neighbours:
            waited = hub.clock() - session.since
            hub.refuse(session, hub.admission.none_left(session.client.share, waited))
            return
        if not fields or fields.get("C") == "57P03":
            hub.refuse(session, not_ready(error.message))
            return
        if fields.get("C") == "53300" and isinstance(session, SharedSession) and session.greeted:
            hub.refuse(session, Refusal(error.message, sqlstate="53300"))
            return
        session.write(backend.fields_message(codes.ERROR_RESPONSE, fields))
        hub.emit(
            events.LoginFailed(
                hub.clock(),
                session.address,
                session.user,
                session.database,
                fields.get("C", ""),
                error.message,
                "refused by Postgres",
            )
        )
        hub.end_session(session, error.message)

    # Ends

    def retire(self, server: Server, reason: str, *, half_sent: bool = False) -> None:
        """The server has no session any more: end it and wait for its EOF.

        `half_sent`: a message of the session was cut off, so nothing may be written behind it.
        """
        now = self._hub.clock()
        server.close_reason = server.close_reason or reason
        if server.state is ServerState.CONNECTING and server.out is self._hub.nowhere:
            return
        if server.state is not ServerState.CLOSING:
            move(server, ServerState.CLOSING)
            server.since = now
        self._closing[server] = now
        if server.pipeline.due and not server.fatal:
            # What nobody waits for is not run to its end, or the slot would stay taken (T12).
            self.cancel(server)
        server.out.resume_reading()
        if half_sent:
            server.out.write_eof()
        else:
            server.say_goodbye()

    def abandon(self, session: Session, reason: str) -> None:
        """The session ended while its server was being connected: the dial ends in vain."""
        for server in self._hub.servers:
            if server.session is session:
                server.session = None
                server.close_reason = reason
        if session.relay is not None:
            session.relay.leave(reason)

    def run_on(self, server: Server, reason: str) -> None:
        """The client said goodbye while its statement runs: Postgres finishes it (T30)."""
        server.close_reason = reason
        move(server, ServerState.CLOSING)
        server.out.resume_reading()

    def condemned(self, server: Server) -> None:
        """Postgres has said FATAL: that was the last word, whatever comes behind it (R24)."""
        if server.session is not None:
            self._session_left_alone(server.session, server, None, self._hub.clock())
        self.retire(server, server.fatal.get("M", ""), half_sent=True)

    def cancel(self, server: Server) -> None:
        if not server.cancelling:
            server.cancelling = True
            self._cancelled[server] = self._hub.clock()
            self._hub.net.cancel(server)

    def lost(self, server: Server, error: BaseException | None) -> None:
        """The socket of the server is gone: its slot is free."""
        hub = self._hub
        now = hub.clock()
        hub.servers.discard(server)
        hub.blocking.discard(server)
        self._cancelled.pop(server, None)
        self._closing.pop(server, None)
        move(server, ServerState.CLOSED)
        session = server.session
        if session is not None:
            self._session_left_alone(session, server, error, now)
        reason = server.close_reason or "closed by Postgres"
        hub.emit(events.ServerClosed(now, server.id, server.client.key, reason))
        self._give_back(server.ticket)
        if isinstance(server, SharedServer):
            hub.sharing.lost(server)

    def _session_left_alone(
        self, session: Session, server: Server, error: BaseException | None, now: float
    ) -> None:
        hub = self._hub
        hub.keys.remove(server.pid, session)
        session.unlink()
        expected = session.leaving or session.gone_at is not None
        if not expected:
            message = server.fatal.get("M", "") or str(error or "Postgres closed the connection")
            hub.emit(
                events.ServerLost(
                    now, session.id, session.client.key, server.fatal.get("C", ""), message
                )
            )
            if not server.fatal and server.between_messages():
                session.write(
                    backend.error_response(
                        severity="FATAL",
                        sqlstate="08006",
                        message=f"pgguard: the connection to Postgres was lost: {message}",
                        hint="Look into the log of Postgres: it, or its backend, has ended.",
                    )
                )
        hub.end_session(session, "closed by the client" if expected else "server lost")

    def _give_back(self, ticket: Ticket | None) -> None:
        if ticket is not None:
            self._hub.granted(self._hub.admission.give_back(ticket, self._hub.clock()))

    # Time

    def tick(self, now: float) -> None:
        hub = self._hub
        if self._lowered_at is not None and now - self._lowered_at > LOWERED_FOR:
            self._lowered_at = None
            self.set_total(self.total)
        if self.redials:
            self._hold(now)
        for server, at in list(self._cancelled.items()):
            if server in self._closing and now - at >= CANCEL_AGAIN:
                self.cancel(server)
        for server, since in self._closing.items():
            if now - since > CLOSE_WITHIN:
                self._closing[server] = float("inf")
                hub.emit(events.ServerLingers(now, server.id, server.client.key, now - since))
        for session in list(hub.gone):
            self._report_gone(session, now)
        for server in list(hub.servers):
            # While Postgres does not read, nothing is read from the client, not even its end (R23).
            if server.paused and server.session is not None and server.session.out.was_reset():
                server.session.out.abort()
        for place in list(hub.places.of(SessionState.WAITING)):
            if cast("Session", place).vanished():
                hub.session_gone(cast("Session", place), "client left while it waited")

    def _hold(self, now: float) -> None:
        """Let go of whom nobody waits for, tell those whose time is over, let one try."""
        for waiting in self.redials.take_if(lambda waiting: not _wants(waiting)):
            if waiting.ticket is not None:
                self._give_back(waiting.ticket)
        defaults = self._hub.settings.admission.defaults

        def is_over(waiting: Waiting) -> bool:
            if waiting.error.fields.get("C") == "53300":
                # `_requeue` says how long that is waited for.
                return False
            limits = defaults if waiting.ticket is None else waiting.session.client.limits
            return now - waiting.session.since >= limits.pool_timeout

        for waiting in self.redials.take_if(is_over):
            self._pass_on(waiting.session, waiting.error)
            if waiting.ticket is not None:
                self._give_back(waiting.ticket)
        self._try(self.redials.due(now))

    def _try_others(self, now: float, *, room: bool = True) -> None:
        """Postgres has answered."""
        if self.redials or not room:
            dialling = (s for s in self._hub.servers if s.state is ServerState.CONNECTING)
            connecting = sum(1 for _ in dialling) if room else AT_ONCE
            self._try(self.redials.answered(connecting, now))

    def _try(self, those: list[Waiting]) -> None:
        for waiting in those:
            session = waiting.session
            if not _wants(waiting):
                if waiting.ticket is not None:
                    self._give_back(waiting.ticket)
            elif waiting.ticket is not None and isinstance(session, SharedSession):
                # There may be a spare server by now, or no room.
                self._hub.sharing.give(waiting.ticket)
            elif waiting.ticket is not None:
                self._dial(session, waiting.ticket)
            elif (method := self.method(session)) is not None and session.entrance is not None:
                session.entrance.known(method)

    def _report_gone(self, session: Session, now: float) -> None:
        """A client that left while its statement runs is an event after two seconds (T30)."""
        server = session.server
        if server is None and session.state in AWAITING:
            return
        if server is None or session.gone_at is None:
            self._hub.gone.discard(session)
        elif server.pipeline.due and now - session.gone_at > GONE_REPORTED_AFTER:
            self._hub.gone.discard(session)
            text = session.last.masked if session.last is not None else ""
            running = now - server.started
            self._hub.emit(events.ClientGone(now, session.id, session.client.key, text, running))

    def stop(self) -> None:
        for server in list(self._hub.servers):
            if server.out is not self._hub.nowhere:
                server.out.close()

    def _down(self, error: ServerUnavailable) -> bool:
        """Whether that is what a Postgres says, or does not say, that is away."""
        away = error.fields.get("C") in (None, "57P03", "57P01", "57P02")
        if away:
            self.last_error = error.message
            if self._hub.counters.upstream_up:
                self._hub.counters.upstream_up = False
                self._hub.emit(events.UpstreamDown(self._hub.clock(), error.message))
        return away

    def _up(self, version: str = "") -> None:
        self.version = version or self.version
        if not self._hub.counters.upstream_up:
            self._hub.counters.upstream_up = True
            self.last_error = ""
            self._hub.emit(events.UpstreamUp(self._hub.clock(), self.version))
        self._try_others(self._hub.clock())

    def is_up(self, version: str) -> None:
        """The service connection got through."""
        self._up(version)

    def is_down(self, error: ServerUnavailable) -> None:
        self._down(error)


def not_ready(why: str) -> Refusal:
    return Refusal(
        f"pgguard: Postgres is not ready: {why}",
        sqlstate="57P03",
        hint="Start it or correct the upstream URL (pgguard doctor says what is wrong).",
    )


def _wants(waiting: Waiting) -> bool:
    """Whether the session still waits, be it to log in or for its server."""
    session, ticket = waiting.session, waiting.ticket
    if ticket is None:
        return session.state is SessionState.LOGIN
    # It may have been refused meanwhile, and wait for another one.
    return session.state is SessionState.WAITING and session.ticket is ticket
