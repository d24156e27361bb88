"""Both login dialogues, as generators: a session's with us, and ours with Postgres.

A generator yields when it needs something and is sent it: `Need.MESSAGE` → (type, body) of the next
message; `Need.METHOD` → how Postgres receives this user (`Method`). It writes with the function it
was given and returns when the dialogue is over.

Laws: before login only the message that was asked for is accepted (reliability R3). Nobody is let
in whom Postgres would not let in (transparency T3). An unknown user and a wrong password get the
same dialogue and the same words. Secrets leave this module only as proofs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from enum import Enum
from typing import Any

from pgguard.errors import LoginRefused, ProtocolViolation, Refusal, ServerUnavailable
from pgguard.wire import backend, codes, frontend
from pgguard.wire.auth import (
    AuthenticationFailed,
    ScramClient,
    ScramServer,
    Verifier,
    cleartext_matches,
    md5_matches,
    md5_response,
    md5_secret,
    mock_verifier,
)

MECHANISM = b"SCRAM-SHA-256"
LOOPBACK_HINT = (
    "Postgres lets pgguard in without a password, so only those are let in whom it would let in, "
    "too: pgguard's own user over a unix socket and, unless pgguard itself uses one to Postgres, "
    "clients on the loopback interface; set listen.trust to let in others."
)

Write = Callable[[bytes], object]


class Need(Enum):
    """What a dialogue waits for."""

    MESSAGE = "message"
    METHOD = "method"


class Method(Enum):
    """How Postgres receives a user on our address, learned by asking it."""

    TRUST = "trust"
    MD5 = "md5"
    CHALLENGE = "challenge"
    """SCRAM or a clear-text password: we must know the password or the client key."""


class Secret:
    """What we hold for one user: a password, a SCRAM verifier or an md5 hash.

    `client_key` and `password` may be learned from a login: a proof shows the client key, a clear
    text shows the password. Both die with the process.
    """

    __slots__ = ("_verifier", "client_key", "md5", "password")

    def __init__(self, text: str) -> None:
        self.password: str | None = None
        self.md5: str | None = None
        self.client_key: bytes | None = None
        self._verifier: Verifier | None = None
        if text.startswith("SCRAM-SHA-256$"):
            self._verifier = Verifier.parse(text)
        elif text.startswith("md5") and len(text) == 35:
            self.md5 = text
        else:
            self.password = text

    def __repr__(self) -> str:
        return "Secret(***)"

    def verifier(self) -> Verifier | None:
        """The verifier that clients are checked against; derived once."""
        if self._verifier is None and self.password is not None:
            self._verifier = Verifier.derive(self.password, os.urandom(16))
        return self._verifier


class Secrets:
    """User → `Secret`, the PBKDF2 results of both legs, and the seed of mock challenges."""

    __slots__ = ("_secrets", "salted", "seed")

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets = {user: Secret(text) for user, text in secrets.items()}
        self.salted: dict[Any, bytes] = {}
        self.seed = os.urandom(32)

    def get(self, user: str) -> Secret | None:
        return self._secrets.get(user)


def wrong_password(user: str, log: str) -> LoginRefused:
    """Postgres's own words for a password that is wrong, or a user that does not exist."""
    return LoginRefused(
        f'password authentication failed for user "{user}"', sqlstate="28P01", log=log
    )


def shutting_down() -> Refusal:
    """Postgres's own words (57P01)."""
    return Refusal(
        "terminating connection due to administrator command",
        sqlstate="57P01",
        hint="pgguard is shutting down.",
    )


def session_login(
    user: str, secrets: Secrets, write: Write, *, trusted: bool
) -> Generator[Need, Any, bool]:
    """Authenticate a session; `trusted` = it may enter without a password if we may.

    Returns whether it has proved who it is. Raises LoginRefused or ProtocolViolation;
    AuthenticationOk is the caller's to write.
    """
    method: Method = yield Need.METHOD
    if method is Method.TRUST and trusted:
        return False
    secret = secrets.get(user)
    if secret is not None and secret.md5 is not None:
        yield from _md5_login(user, secret, method, write)
    elif method is Method.TRUST and secret is None:
        raise LoginRefused(
            f'pgguard: user "{user}" needs a password that pgguard does not know',
            sqlstate="28000",
            hint=LOOPBACK_HINT,
        )
    else:
        yield from _scram_login(user, secret, secrets.seed, write)
    return True


def _scram_login(
    user: str, secret: Secret | None, seed: bytes, write: Write
) -> Generator[Need, Any, None]:
    verifier = secret.verifier() if secret else None
    known = verifier is not None
    scram = ScramServer(verifier or mock_verifier(user, seed), nonce=os.urandom(18))
    write(backend.authentication_sasl([MECHANISM]))
    mechanism, initial = frontend.decode_sasl_initial((yield from _password_message()))
    if mechanism != MECHANISM:
        raise ProtocolViolation("client selected an invalid SASL authentication mechanism")
    write(backend.authentication_sasl_continue(scram.first(initial or b"")))
    answer = yield from _password_message()
    try:
        final = scram.final(answer)
    except AuthenticationFailed as error:
        log = "wrong password" if known else _unknown_user_log(user)
        raise wrong_password(user, log) from error
    if secret is None or not known:
        raise wrong_password(user, _unknown_user_log(user))
    secret.client_key = scram.client_key
    write(backend.authentication_sasl_final(final))


def _unknown_user_log(user: str) -> str:
    return (
        f"no password is known for user {user!r}: it is in neither the upstream URL, "
        "a rewritten URL nor auth.users"
    )


def _md5_login(
    user: str, secret: Secret, method: Method, write: Write
) -> Generator[Need, Any, None]:
    """Only an md5 hash is known. If Postgres wants more than that, ask for the password itself."""
    assert secret.md5 is not None
    if method is Method.CHALLENGE and secret.password is None:
        write(backend.authentication_cleartext())
        password = frontend.decode_password((yield from _password_message()))
        if not cleartext_matches(secret.md5, user, password):
            raise wrong_password(user, "wrong password (md5 hash of auth.users)")
        secret.password = password.decode("utf-8", "surrogateescape")
        return
    salt = os.urandom(4)
    write(backend.authentication_md5(salt))
    answer = frontend.decode_password((yield from _password_message()))
    if not md5_matches(secret.md5, salt, answer):
        raise wrong_password(user, "wrong password (md5 hash of auth.users)")


def _password_message() -> Generator[Need, Any, bytes]:
    kind, body = yield Need.MESSAGE
    if kind != codes.PASSWORD:
        raise ProtocolViolation(f"expected password response, got message type {kind}")
    assert isinstance(body, bytes)
    return body


class ServerLogin:
    """Our login at Postgres for one user, fed message by message.

    `receive` takes each backend message and returns what to send, or None. When `done`,
    `greeting` holds, verbatim, what Postgres said between AuthenticationOk and ReadyForQuery except
    BackendKeyData. Raises ServerUnavailable with Postgres's own error fields, or ProtocolViolation.
    """

    __slots__ = (
        "_scram",
        "_secret",
        "_secrets",
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

    def __init__(self, user: str, secrets: Secrets) -> None:
        self.user = user
        self._secrets = secrets
        self._secret = secrets.get(user)
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
        else:
            if kind == codes.PARAMETER_STATUS:
                name, value = backend.decode_parameter_status(body)
                self.parameters[name] = value
            self.greeting.append(backend.message(kind, body))

    def _authenticate(self, body: bytes) -> bytes | None:
        request = int.from_bytes(body[:4], "big") if len(body) >= 4 else -1
        if request == codes.AUTH_OK:
            if self._scram is not None and not self._scram.verified:
                raise ProtocolViolation("server did not prove that it knows us", peer="server")
            self.method = self.method or Method.TRUST
            self.authenticated = True
            return None
        if request == codes.AUTH_SASL_CONTINUE and self._scram is not None:
            return frontend.sasl_response(self._scram.final(body[4:]))
        if request == codes.AUTH_SASL_FINAL and self._scram is not None:
            self._scram.verify(body[4:])
            return None
        self.method = Method.MD5 if request == codes.AUTH_MD5 else Method.CHALLENGE
        secret = self._secret
        if secret is None:
            raise unavailable_login(self.user)
        if request == codes.AUTH_SASL:
            return self._begin_scram(secret, body[4:])
        if request == codes.AUTH_MD5 and (secret.password or secret.md5):
            hashed = secret.md5 or md5_secret(self.user, secret.password or "")
            return frontend.password(md5_response(hashed, body[4:8]).encode())
        if request == codes.AUTH_CLEARTEXT and secret.password is not None:
            return frontend.password(secret.password.encode("utf-8", "surrogateescape"))
        raise unavailable_login(self.user)

    def _begin_scram(self, secret: Secret, offered: bytes) -> bytes:
        if MECHANISM not in offered.split(b"\0"):
            raise ServerUnavailable(
                f"Postgres offers no login method that pgguard knows for user {self.user!r}",
                temporary=False,
            )
        if secret.password is None and secret.client_key is None:
            raise unavailable_login(self.user)
        self._scram = ScramClient(
            self.user,
            password=secret.password,
            client_key=secret.client_key if secret.password is None else None,
            verifier=secret.verifier() if secret.password is None else None,
            nonce=os.urandom(18),
            salted=self._secrets.salted,
        )
        return frontend.sasl_initial(MECHANISM, self._scram.first())


def unavailable(fields: dict[str, str]) -> ServerUnavailable:
    """Postgres's own error as ours. Temporary: starting up, shutting down, no slot free."""
    sqlstate = fields.get("C", "")
    temporary = sqlstate in ("57P03", "53300", "57P01", "57P02")
    return ServerUnavailable(fields.get("M", "unknown error"), fields=fields, temporary=temporary)


def unavailable_login(user: str) -> ServerUnavailable:
    """Postgres asks for a password that we do not hold; told as it would tell a wrong one."""
    fields = {
        "S": "FATAL",
        "V": "FATAL",
        "C": "28P01",
        "M": f'password authentication failed for user "{user}"',
    }
    return ServerUnavailable(fields["M"], fields=fields, temporary=False)


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
    if request == codes.AUTH_OK:
        return Method.TRUST
    return Method.MD5 if request == codes.AUTH_MD5 else Method.CHALLENGE
