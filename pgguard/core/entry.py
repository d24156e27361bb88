"""How a session comes in: startup packet, identity, authentication.

Laws: a length is looked at before its body is waited for; bytes that come before they are asked for
are kept, at most 64 KiB, and read in order; when the entrance is over, what is left belongs to the
session's first statements. Nothing of the startup packet reaches SQL text.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from pgguard import events
from pgguard.core.ahead import has_left
from pgguard.core.introductions import LONGEST
from pgguard.core.login import Asking, Need, Way, session_login, timed_out
from pgguard.core.relay import Relay
from pgguard.core.states import SessionState
from pgguard.errors import LoginRefused, ProtocolViolation, Refusal
from pgguard.pool.admission import TicketState
from pgguard.wire import backend, startup
from pgguard.wire.codes import LOGIN_LIMIT
from pgguard.wire.scan import Framer, StartupFramer

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from pgguard.core.introductions import Introduction
    from pgguard.core.secrets import Secret
    from pgguard.core.session import Session
    from pgguard.core.shared_session import SharedSession

BUFFER_LIMIT = 2 * 65536
"""A password message, and what a session may send ahead."""


ABOVE_NOTICE = frozenset({"warning", "error", "fatal", "panic"})
"""Values of client_min_messages that a NOTICE does not reach."""


class Entrance:
    """One session's way in; dropped when it is over."""

    __slots__ = ("_framer", "_head", "dialogue", "need", "said", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self._head: StartupFramer | None = None
        self._framer: Framer | None = None
        """Both only where something comes in pieces, or more than that."""
        self.need: Need | None = None
        self.dialogue: Generator[Need, Any, Secret | Way] | None = None
        self.said: Introduction | None = None
        """The startup packet, once it is there."""

    def receive(self, data: bytes) -> None:
        """Raises ProtocolViolation; refusals are written to the session."""
        if self.said is not None:
            self._push(data)
        else:
            self._startup(data)
        framer = self._framer
        if framer is None:
            return
        if len(framer.rest) > BUFFER_LIMIT:
            raise ProtocolViolation("too many bytes before the end of the login")
        while self.need is Need.MESSAGE and (message := framer.take()) is not None:
            self.advance(message)

    def rest(self) -> bytes:
        """What has come and is not part of the login."""
        return self._framer.rest if self._framer is not None else b""

    def _push(self, data: bytes) -> None:
        if data:
            if self._framer is None:
                self._framer = Framer(LOGIN_LIMIT, "session")
            self._framer.push(data)

    def is_awaited(self) -> bool:
        """Whether it is the client that keeps the login waiting, and not we or Postgres."""
        return self.said is None or self.need is Need.MESSAGE

    def time_out(self) -> None:
        """`listen.login_timeout` is over; as with Postgres nothing is said before there was a
        startup packet."""
        hub, why = self.session.hub, timed_out()
        if self.said is not None:
            hub.refuse(self.session, why)
        else:
            hub.end_session(self.session, why.message)

    def _startup(self, data: bytes) -> None:
        session = self.session
        hub = session.hub
        packet = self._whole(data)
        if packet is None:
            return
        try:
            said = hub.introductions.of(packet, hub.settings.user_separator)
        except LoginRefused as error:
            hub.refuse(session, error)
            return
        if said.negotiation:
            session.write(said.negotiation)
        session.secret_key = os.urandom(said.secret_length)
        session.user, session.database = said.user, said.database
        session.application_name = said.application_name
        self.said = said
        hub.begin_login(session)

    def _whole(self, data: bytes) -> bytes | None:
        """The first packet, once it is whole."""
        length = len(data)
        usual = 8 <= length < LONGEST and int.from_bytes(data[:4], "big") == length
        if usual and self._head is None:
            return data
        head = self._head = self._head or StartupFramer()
        try:
            packets = head.feed(data)
        except ProtocolViolation as error:
            # No packet at all: Postgres closes without a word, too.
            self.session.hub.session_gone(self.session, error.message)
            return None
        if not packets:
            return None
        self._push(head.rest)
        return packets[0]

    def begin(self) -> None:
        """The identity is known: authenticate."""
        session = self.session
        hub = session.hub
        own = session.peer_uid is not None and session.peer_uid == os.geteuid()
        asking = Asking(session.user, own or hub.settings.trust, session.loopback, session.binding)
        self.dialogue = session_login(asking, hub.secrets, session.write)
        self.advance(None)

    def known(self, what: Any) -> None:
        """What the dialogue needed has been found out; what was sent ahead is read now."""
        self.advance(what)
        if self._framer is not None and self.session.entrance is self:
            self.session.receive(b"")

    def advance(self, value: Any) -> None:
        """Give the dialogue what it asked for and go on until it needs something else."""
        session = self.session
        assert self.dialogue is not None
        self.need = None
        try:
            self.need = self.dialogue.send(value)
        except StopIteration as over:
            enter(session, over.value)
            return
        except Refusal as error:
            session.hub.refuse(session, error)
            return
        except ProtocolViolation as error:
            session.hub.session_violated(session, error.message)
            return
        if self.need is Need.METHOD:
            session.hub.want_method(session)
        elif self.need is Need.ROLE and not session.hub.net.read_role(session):
            self.known(None)


def enter(session: Session, outcome: Secret | Way) -> None:
    """The session may enter, or Postgres is to judge it: name its client, ask for a server (T1)."""
    hub = session.hub
    entrance = session.entrance
    assert entrance is not None
    said = entrance.said
    assert said is not None
    if session.state is not SessionState.LOGIN:
        return
    client = hub.clients.of(session)
    session.secret = None if isinstance(outcome, Way) else outcome
    if outcome is Way.RELAYED:
        session.relay = Relay(session, entrance.rest())
    else:
        if not hub.shares:
            session.write(backend.authentication_ok())
        session.held = entrance.rest()
    try:
        hub.admission.open_session(client.share)
    except Refusal as error:
        hub.refuse(session, error)
        return
    session.client = client
    client.sessions.add(session)
    client.counters.sessions += 1
    client.counters.peak_sessions = max(client.counters.peak_sessions, len(client.sessions))
    if (wish := said.absorbed.wish) is not None:
        session.wish = hub.admission.lower_cap(client.share, *wish)
    now = hub.clock()
    if not hub.shares:
        hub.places.move(session, SessionState.WAITING, now)
    hub.emit(events.SessionOpened(now, session.id, client.key, session.user, session.database))
    session.parameters = said.parameters
    session.entrance = None
    if hub.shares:
        hub.sharing.enter(cast("SharedSession", session))
        return
    if has_left(session.held):
        hub.session_gone(session, "client left as soon as it had logged in")
        return
    _acquire(session, now)


def _acquire(session: Session, now: float) -> None:
    hub, client = session.hub, session.client
    try:
        ticket = hub.admission.acquire(client.share, session, now)
    except Refusal as error:
        hub.refuse(session, error)
        return
    session.ticket = ticket
    if ticket.state is TicketState.GRANTED:
        hub.start_server(ticket, now)
    else:
        waiting, by = client.share.waiting, ticket.blocked_by
        hub.emit(events.TicketQueued(now, session.id, client.key, waiting, by))


def notify(session: Session, text: str) -> None:
    """A NOTICE to a session that waits for its first server, if it wants to hear any.

    Before AuthenticationOk a driver does not understand one (T1)."""
    if session.relay is None and hears_notices(session.parameters):
        session.write(backend.notice_response(severity="NOTICE", sqlstate="00000", message=text))


def hears_notices(parameters: Mapping[str, str]) -> bool:
    """Whether a session with these startup parameters wants to be told a NOTICE."""
    options = dict(startup.split_options(parameters.get("options", "")))
    level = parameters.get("client_min_messages") or options.get("client_min_messages", "")
    return level.lower() not in ABOVE_NOTICE
