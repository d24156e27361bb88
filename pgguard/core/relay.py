"""A login that Postgres conducts with the client over us, where we hold no secret (T2).

Authentication* messages go to the client and its answers to Postgres as they came, on a server
connection of the session's own. Laws: one answer to one question, and nothing but an answer; what
the client says is forwarded and forgotten, never kept, parsed for a password or logged; no channel
binding is relayed (reliability R15); once the client has been asked, nothing is tried twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.core.login import expected
from pgguard.core.server_login import ServerLogin, method_of, refused, unavailable
from pgguard.core.states import SessionState
from pgguard.errors import LoginRefused, ProtocolViolation, ServerUnavailable
from pgguard.pool.servers import ServerState
from pgguard.wire import backend, codes, frontend
from pgguard.wire.auth import MECHANISM_PLUS
from pgguard.wire.codes import BACKEND_LOGIN_LIMIT, LOGIN_LIMIT, PASSWORD
from pgguard.wire.scan import Framer

if TYPE_CHECKING:
    from pgguard.core.server import Server
    from pgguard.core.session import Session
    from pgguard.core.types import Out

SENT_AHEAD = 2 * 65536
"""Bytes that a client may send before it is asked."""
GREETING_LIMIT = 1 << 20

_SILENT = (codes.AUTH_OK, codes.AUTH_SASL_FINAL)
"""What the client does not answer."""
_KINDS = {
    codes.AUTH_SASL: "SASL",
    codes.AUTH_SASL_CONTINUE: "SASL",
    codes.AUTH_GSS: "GSS",
    codes.AUTH_GSS_CONTINUE: "GSS",
    codes.AUTH_SSPI: "SSPI",
}


class Relay:
    """One session's dialogue with Postgres, from the wait for its server to ReadyForQuery."""

    __slots__ = (
        "_asked",
        "_from_server",
        "_from_session",
        "_login",
        "_out",
        "_plus_offered",
        "_server",
        "_session",
        "over",
    )

    def __init__(self, session: Session, sent_ahead: bytes) -> None:
        self._session = session
        self._from_session = Framer(LOGIN_LIMIT, "session")
        self._from_session.push(sent_ahead)
        self._asked = 0
        """The authentication request whose answer is awaited."""
        self._plus_offered = False
        self._server: Server | None = None
        self._out: Out = session.hub.nowhere
        self.over = False
        """Postgres has let the client in, or has refused it, or the session has ended."""

    @property
    def rest(self) -> bytes:
        """What the client has sent beyond its login: its first statements."""
        return self._from_session.rest

    def is_awaited(self) -> bool:
        """Whether it is the client that keeps the login waiting."""
        return bool(self._asked)

    # The server's side

    def connected(self, server: Server, out: Out) -> None:
        """A connection to Postgres stands, the startup packet is sent."""
        self._server, self._out = server, out
        self._from_server = Framer(BACKEND_LOGIN_LIMIT, "server")
        self._login = ServerLogin(server.user, None)
        server.connected(out)
        if server.session is None:
            self.leave("client gone while its server was connected")

    def from_server(self, server: Server, data: bytes) -> tuple[ServerLogin, bytes] | None:
        """What Postgres says. At the end of the login: what it came to, and what came behind it."""
        if self.over or server is not self._server:
            return None
        try:
            self._from_server.push(data)
            while not self.over and (message := self._from_server.take()) is not None:
                self._hear(*message)
                if self._login.done:
                    self.over = True
                    return self._login, self._from_server.rest
            if len(self._from_server.rest) + sum(map(len, self._login.greeting)) > GREETING_LIMIT:
                raise ProtocolViolation("login of more than 1 MiB", peer="server")
        except ServerUnavailable as error:
            self._fail(error)
        except ProtocolViolation as error:
            self._fail(ServerUnavailable(error.message, temporary=False))
        return None

    def lost(self, server: Server, error: BaseException | None) -> None:
        """The connection to Postgres is gone before the login was over."""
        if server.state is ServerState.CLOSING:
            server.hub.server_lost(server, error)
        elif server is self._server:
            self._fail(ServerUnavailable("Postgres closed the connection during login"))

    def _hear(self, kind: int, body: bytes) -> None:
        if kind == codes.ERROR_RESPONSE:
            raise unavailable(backend.decode_fields(body))
        if kind == codes.AUTHENTICATION and not self._login.authenticated:
            self._ask(body)
        else:
            self._login.receive(kind, body)

    def _ask(self, body: bytes) -> None:
        if len(body) < 4:
            raise ProtocolViolation("server asks for nothing that can be read", peer="server")
        request = int.from_bytes(body[:4], "big")
        if self._asked:
            raise ProtocolViolation("server asks before it was answered", peer="server")
        session = self._session
        if session.state is SessionState.WAITING:
            session.hub.places.move(session, SessionState.RELAYED, session.hub.clock())
        login = self._login
        login.method = login.method or method_of(request)
        if request == codes.AUTH_SASL:
            body = self._without_plus(body)
        session.write(backend.message(codes.AUTHENTICATION, body))
        if request == codes.AUTH_OK:
            login.authenticated = True
        elif request not in _SILENT:
            self._asked = request
            self._answer()

    def _without_plus(self, body: bytes) -> bytes:
        """The client would be bound to our certificate, Postgres expects its own."""
        offered = [name for name in body[4:].split(b"\0") if name]
        self._plus_offered = MECHANISM_PLUS in offered
        left = [name for name in offered if name != MECHANISM_PLUS]
        return backend.authentication_sasl(left)[5:]

    def _fail(self, error: ServerUnavailable) -> None:
        """Postgres has refused, or has gone. While the client waits unasked, the dial is tried
        again where another one is."""
        server, out = self._server, self._out
        self._server, self._out = None, self._session.hub.nowhere
        self.over = self._session.state is SessionState.RELAYED
        out.close()
        if server is not None:
            server.hub.upstream.dial_failed(server, error)

    # The session's side

    def from_session(self, data: bytes) -> None:
        """What the client says."""
        self._from_session.push(data)
        if len(self._from_session.rest) > SENT_AHEAD:
            what = "too many bytes before the end of the login"
            self._session.hub.session_violated(self._session, what)
        elif self._asked:
            self._answer()

    def _answer(self) -> None:
        """Pass on the answer that is awaited, once it is whole."""
        session = self._session
        try:
            message = self._from_session.take()
            if message is not None:
                self._pass_on(*message)
        except ProtocolViolation as error:
            session.hub.session_violated(session, error.message)
        except LoginRefused as error:
            session.hub.refuse(session, error)

    def _pass_on(self, kind: int, body: bytes) -> None:
        if kind != PASSWORD:
            raise expected(_KINDS.get(self._asked, "password"), kind)
        if self._asked == codes.AUTH_SASL:
            self._check_binding(body)
        self._asked = 0
        self._out.write(backend.message(PASSWORD, body))

    def _check_binding(self, body: bytes) -> None:
        """A login that is bound to our TLS would fail at Postgres, without saying why."""
        mechanism, initial = frontend.decode_sasl_initial(body)
        flag = (initial or b"")[:1]
        if mechanism == MECHANISM_PLUS or (self._plus_offered and flag == b"y"):
            raise LoginRefused(
                f'pgguard: the login of user "{self._session.user}" cannot be bound to TLS:'
                " pgguard does not hold its secret, and TLS ends at pgguard on both sides",
                sqlstate="28000",
                hint="Connect with channel_binding=disable, or put the secret into auth.users, or"
                " give the upstream URL a role that may read pg_authid.",
            )

    def leave(self, reason: str) -> None:
        """The session has ended: so does its login. Postgres is told by the end of the bytes."""
        server = self._server
        self.over = True
        if server is not None and server.state is ServerState.CONNECTING:
            server.session = None
            server.hub.upstream.retire(server, reason, half_sent=True)


def not_relayed(user: str) -> ServerUnavailable:
    """channel_binding=require of the upstream URL: what a client says cannot be bound to it."""
    return refused(
        "28000",
        f'pgguard: user "{user}" needs a password that pgguard does not know',
        "The upstream URL has channel_binding=require, so a login cannot be left to Postgres;"
        " put the secret into auth.users, or give the URL a role that may read pg_authid.",
    )
