"""Our own login at Postgres, fed message by message.

Laws: a server is believed only when it has proved that it knows us where SCRAM lets it prove that
(reliability R28); nothing is taken from it before it has let us in; its own errors are kept whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgguard.core.login import Method
from pgguard.errors import ProtocolViolation, ServerUnavailable
from pgguard.wire import backend, codes, frontend
from pgguard.wire.auth import BINDING_TYPE, MECHANISM, MECHANISM_PLUS, ScramClient, md5_response

if TYPE_CHECKING:
    from pgguard.core.secrets import Secret


@dataclass(slots=True, frozen=True)
class Binding:
    """What a login can be bound to: the end point of the TLS to the server, empty where there is
    none, and `channel_binding` of the URL (disable, prefer, require)."""

    end_point: bytes = b""
    mode: str = "prefer"


UNBOUND = Binding()

_METHODS = {
    codes.AUTH_SASL: Method.SCRAM,
    codes.AUTH_MD5: Method.MD5,
    codes.AUTH_CLEARTEXT: Method.CLEARTEXT,
}


class ServerLogin:
    """Our login at Postgres for one user, fed message by message.

    `receive` takes each backend message and returns what to send, or None. When `done`,
    `greeting` holds, verbatim, what Postgres said between AuthenticationOk and ReadyForQuery except
    BackendKeyData. Raises ServerUnavailable with Postgres's own error fields, or ProtocolViolation.
    `salted` is shared by logins, see ScramClient.
    """

    __slots__ = (
        "_binding",
        "_bound",
        "_salted",
        "_scram",
        "_secret",
        "authenticated",
        "done",
        "greeting",
        "method",
        "parameters",
        "pid",
        "secret_key",
        "status",
        "user",
    )

    def __init__(
        self,
        user: str,
        secret: Secret | None,
        *,
        salted: dict[Any, bytes] | None = None,
        binding: Binding = UNBOUND,
    ) -> None:
        self.user = user
        self._secret = secret
        self._salted = salted
        self._binding = binding
        self._bound = False
        self._scram: ScramClient | None = None
        self.method: Method | None = None
        self.authenticated = False
        self.done = False
        self.greeting: list[bytes] = []
        self.parameters: dict[str, str] = {}
        self.pid = 0
        self.secret_key = b""
        self.status = "I"

    def receive(self, kind: int, body: bytes) -> bytes | None:
        if kind == codes.ERROR_RESPONSE:
            raise unavailable(backend.decode_fields(body))
        if kind == codes.AUTHENTICATION and not self.authenticated:
            return self._authenticate(body)
        if kind == codes.NEGOTIATE_PROTOCOL_VERSION and not self.authenticated:
            return None
        if kind == codes.NOTICE_RESPONSE:
            self.greeting.append(backend.message(kind, body))
            return None
        if not self.authenticated:
            raise ProtocolViolation(
                f"server sent message type {kind} before AuthenticationOk", peer="server"
            )
        self._greet(kind, body)
        return None

    def _greet(self, kind: int, body: bytes) -> None:
        if kind == codes.BACKEND_KEY_DATA:
            self.pid, self.secret_key = backend.decode_key_data(body)
        elif kind == codes.READY_FOR_QUERY:
            self.status = body.decode("ascii", "replace")
            self.done = True
        elif kind == codes.AUTHENTICATION:
            raise ProtocolViolation("server began to authenticate us again", peer="server")
        elif kind == codes.PARAMETER_STATUS:
            name, value = backend.decode_parameter_status(body)
            self.parameters[name] = value
            self.greeting.append(backend.message(kind, body))
        elif kind not in codes.KNOWN_BACKEND:
            # Of a protocol to come: it is for the client.
            self.greeting.append(backend.message(kind, body))
        elif kind != codes.NEGOTIATE_PROTOCOL_VERSION:
            # The client would take it for the answer to something that it has not asked yet.
            raise ProtocolViolation(f"server sent message type {kind} during login", peer="server")

    def _authenticate(self, body: bytes) -> bytes | None:
        request = int.from_bytes(body[:4], "big") if len(body) >= 4 else -1
        if request == codes.AUTH_OK:
            self._let_in()
            return None
        if request == codes.AUTH_SASL_CONTINUE and self._scram is not None:
            return frontend.sasl_response(self._scram.final(body[4:]))
        if request == codes.AUTH_SASL_FINAL and self._scram is not None:
            self._scram.verify(body[4:])
            return None
        if self.method is not None:
            raise ProtocolViolation("server asks for a second proof", peer="server")
        self.method = method_of(request)
        secret = self._secret
        if secret is None:
            raise unavailable_login(self.user)
        if request == codes.AUTH_SASL:
            return self._begin_scram(secret, body[4:].split(b"\0"))
        if self._binding.mode == "require":
            # libpq's words; a password in clear must not be shown to somebody in the middle.
            raise not_bound(
                "channel binding required but not supported by server's authentication request"
            )
        if request == codes.AUTH_MD5 and (hashed := secret.md5_for(self.user)):
            return frontend.password(md5_response(hashed, body[4:8]).encode())
        if request == codes.AUTH_CLEARTEXT and secret.password is not None:
            return frontend.password(secret.password.encode("utf-8", "surrogateescape"))
        raise unavailable_login(self.user)

    def _let_in(self) -> None:
        if self._scram is not None and not self._scram.verified:
            raise ProtocolViolation("server did not prove that it knows us", peer="server")
        if self._binding.mode == "require" and not self._bound:
            raise not_bound(
                "channel binding required, but server authenticated client without channel binding"
            )
        self.method = self.method or Method.TRUST
        self.authenticated = True

    def _begin_scram(self, secret: Secret, offered: list[bytes]) -> bytes:
        mechanism, flag, binding = self._choose(offered)
        if secret.password is None and secret.client_key is None:
            raise unavailable_login(self.user)
        self._scram = ScramClient(
            self.user,
            password=secret.password,
            client_key=secret.client_key if secret.password is None else None,
            verifier=secret.verifier() if secret.password is None else None,
            nonce=os.urandom(18),
            salted=self._salted,
            flag=flag,
            binding=binding,
        )
        return frontend.sasl_initial(mechanism, self._scram.first())

    def _choose(self, offered: list[bytes]) -> tuple[bytes, bytes, bytes]:
        """(mechanism, gs2 flag, channel binding), as libpq chooses them (RFC 5802 section 6)."""
        ours = self._binding
        able = bool(ours.end_point) and ours.mode != "disable"
        if able and MECHANISM_PLUS in offered:
            self._bound = True
            return MECHANISM_PLUS, b"p=" + BINDING_TYPE, ours.end_point
        if ours.mode == "require":
            raise not_bound(
                "channel binding is required, but server did not offer an authentication method"
                " that supports channel binding"
            )
        if MECHANISM not in offered:
            raise ServerUnavailable(
                f"Postgres offers no login method that pgguard knows for user {self.user!r}",
                temporary=False,
            )
        return MECHANISM, b"y" if able else b"n", b""


def not_bound(what: str) -> ServerUnavailable:
    """channel_binding=require of the upstream URL cannot be met; libpq's words."""
    return ServerUnavailable(what, temporary=False)


def unavailable(fields: dict[str, str]) -> ServerUnavailable:
    """Postgres's own error as ours. Temporary: starting up, shutting down, no slot free."""
    sqlstate = fields.get("C", "")
    temporary = sqlstate in ("57P03", "53300", "57P01", "57P02")
    return ServerUnavailable(fields.get("M", "unknown error"), fields=fields, temporary=temporary)


def is_limit_of_its_own(error: ServerUnavailable) -> bool:
    """Whether CONNECTION LIMIT of a role or a database is reached, and not max_connections: told
    apart by the place in Postgres that says so, as the words are translated."""
    return error.fields.get("R") in ("InitializeSessionUserId", "CheckMyDatabase")


def unavailable_login(user: str) -> ServerUnavailable:
    """Postgres asks for a password that we do not hold; told as it would tell a wrong one."""
    return refused("28P01", f'password authentication failed for user "{user}"')


def refused(sqlstate: str, message: str, hint: str = "") -> ServerUnavailable:
    """A login that is over before Postgres could say so; its fields are as Postgres's own."""
    fields = {"S": "FATAL", "V": "FATAL", "C": sqlstate, "M": message}
    if hint:
        fields["H"] = hint
    return ServerUnavailable(message, fields=fields, temporary=False)


def probe_method(kind: int, body: bytes) -> Method:
    """What the first backend message after our StartupMessage says about the method.

    Raises ServerUnavailable with Postgres's error if it refuses at once (no such database is only
    seen after authentication, so it does not show here unless the method is trust).
    """
    if kind == codes.ERROR_RESPONSE:
        raise unavailable(backend.decode_fields(body))
    if kind != codes.AUTHENTICATION or len(body) < 4:
        raise ProtocolViolation(f"server began its login with message type {kind}", peer="server")
    request = int.from_bytes(body[:4], "big")
    return Method.TRUST if request == codes.AUTH_OK else method_of(request)


def method_of(request: int) -> Method:
    """The method that an authentication request belongs to."""
    return _METHODS.get(request, Method.OTHER)
