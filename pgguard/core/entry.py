"""How a session comes in: startup packet, identity, authentication.

Laws: a length is looked at before its body is waited for; bytes that come before they are asked for
are kept, at most 64 KiB, and read in order; when the entrance is over, what is left belongs to the
session's first statements. Nothing of the startup packet reaches SQL text.
"""

from __future__ import annotations

import os
from sys import intern
from typing import TYPE_CHECKING, Any

from pgguard.core.cancel import SECRET_3_0, SECRET_3_2
from pgguard.core.login import Method, Need, session_login
from pgguard.errors import LoginRefused, ProtocolViolation, Refusal
from pgguard.pool.identity import absorb
from pgguard.wire import backend, startup
from pgguard.wire.codes import LOGIN_LIMIT, PROTOCOL_3_2, TERMINATE
from pgguard.wire.scan import Framer, StartupFramer

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from pgguard.core.session import Session
    from pgguard.pool.identity import Absorbed

BUFFER_LIMIT = 2 * 65536
"""A password message, and what a session may send ahead."""


ABOVE_NOTICE = frozenset({"warning", "error", "fatal", "panic"})
"""Values of client_min_messages that a NOTICE does not reach."""


class Entrance:
    """One session's way in; dropped when it is over."""

    __slots__ = (
        "absorbed",
        "dialogue",
        "framer",
        "head",
        "need",
        "original",
        "parameters",
        "session",
    )

    def __init__(self, session: Session) -> None:
        self.session = session
        self.head = StartupFramer()
        self.framer = Framer(LOGIN_LIMIT, "session")
        self.need: Need | None = None
        self.dialogue: Generator[Need, Any, bool] | None = None
        self.original: dict[str, str] = {}
        """What the client sent, protocol options left out."""
        self.parameters: dict[str, str] = {}
        """What is forwarded to the server."""
        self.absorbed: Absorbed | None = None

    def receive(self, data: bytes) -> None:
        """Raises ProtocolViolation; refusals are written to the session."""
        if self.original:
            self.framer.push(data)
        else:
            self._startup(data)
        if len(self.framer.rest) > BUFFER_LIMIT:
            raise ProtocolViolation("too many bytes before the end of the login")
        while self.need is Need.MESSAGE and (message := self.framer.take()) is not None:
            if message[0] == TERMINATE:
                self.session.hub.session_gone(self.session, "client left during login")
                return
            self.advance(message)

    def is_awaited(self) -> bool:
        """Whether it is the client that keeps the login waiting, and not we or Postgres."""
        return not self.original or self.need is Need.MESSAGE

    def time_out(self) -> None:
        """`listen.login_timeout` is over; as with Postgres nothing is said before there was a
        startup packet."""
        hub, what = self.session.hub, "canceling authentication due to timeout"
        if self.original:
            hub.refuse(self.session, Refusal(what, sqlstate="57014"))
        else:
            hub.end_session(self.session, what)

    def _startup(self, data: bytes) -> None:
        packets = self.head.feed(data)
        if not packets:
            return
        self.framer.push(self.head.rest)
        session = self.session
        try:
            message = startup.decode_packet(packets[0])
        except LoginRefused as error:
            session.hub.refuse(session, error)
            return
        if not isinstance(message, startup.StartupMessage):
            # A second SSLRequest: Postgres takes its number for a version.
            code = int.from_bytes(packets[0][4:8], "big")
            session.hub.refuse(session, startup.unsupported_protocol(code))
            return
        negotiation = startup.negotiation(message)
        if negotiation:
            session.write(negotiation)
        spoken = SECRET_3_2 if message.spoken >= PROTOCOL_3_2 else SECRET_3_0
        session.secret_key = os.urandom(spoken)
        self._read_parameters(message.parameters)

    def _read_parameters(self, parameters: dict[str, str]) -> None:
        session = self.session
        hub = session.hub
        known = {k: v for k, v in parameters.items() if not k.startswith("_pq_.")}
        session.user = intern(hub.login_user(known["user"]))
        session.database = intern(known.get("database") or session.user)
        session.application_name = intern(known.get("application_name", ""))
        forwarded, self.absorbed = absorb(known)
        self.original = known
        self.parameters = {**forwarded, "user": session.user, "database": session.database}
        hub.begin_login(session)

    def begin(self) -> None:
        """The identity is known: authenticate."""
        session = self.session
        hub = session.hub
        self.dialogue = session_login(
            session.user,
            hub.secrets,
            session.write,
            trusted=self._is_trusted(),
        )
        self.advance(None)

    def _is_trusted(self) -> bool:
        """Whether it may enter without a proof where we may (T3). Who reaches Postgres over a unix
        socket may be known there by its uid, which nobody on the loopback interface has shown."""
        settings = self.session.hub.settings
        likewise = self.session.loopback and not settings.by_socket
        return likewise or self.session.peer_uid == os.geteuid() or settings.trust

    def method_known(self, method: Method) -> None:
        """Postgres has shown how it receives the user; what was sent ahead is read now."""
        self.advance(method)
        if self.session.entrance is self:
            self.session.receive(b"")

    def advance(self, value: Any) -> None:
        """Give the dialogue what it asked for and go on until it needs something else."""
        session = self.session
        assert self.dialogue is not None
        self.need = None
        try:
            self.need = self.dialogue.send(value)
        except StopIteration as over:
            session.proven = over.value
            session.hub.authenticated(session)
            return
        except Refusal as error:
            session.hub.refuse(session, error)
            return
        except ProtocolViolation as error:
            session.hub.session_violated(session, error.message)
            return
        if self.need is Need.METHOD:
            session.hub.want_method(session)


def notify(session: Session, text: str) -> None:
    """A NOTICE to a session that waits for its first server, if it wants to hear any."""
    if hears_notices(session.parameters):
        session.write(backend.notice_response(severity="NOTICE", sqlstate="00000", message=text))


def hears_notices(parameters: Mapping[str, str]) -> bool:
    """Whether a session with these startup parameters wants to be told a NOTICE."""
    options = dict(startup.split_options(parameters.get("options", "")))
    level = parameters.get("client_min_messages") or options.get("client_min_messages", "")
    return level.lower() not in ABOVE_NOTICE
