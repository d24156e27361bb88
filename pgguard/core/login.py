"""A session's login with us, as a generator.

It yields what it needs and is sent it (`Need`), writes with the function it was given, and returns
what the session has proved. Whom it cannot judge it leaves to Postgres itself (`RELAYED`).

Laws: before login only the message that was asked for is accepted (reliability R3). Nobody is let
in whom Postgres would not let in (transparency T3), and each is asked as Postgres would ask. An
unknown user and a wrong password get the same dialogue, the same words and the same work. Secrets
leave this module only as proofs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from pgguard.errors import LoginRefused, ProtocolViolation, Refusal
from pgguard.wire import backend, codes, frontend
from pgguard.wire.auth import (
    MECHANISM,
    MECHANISM_PLUS,
    AuthenticationFailed,
    ScramServer,
    Verifier,
    cleartext_matches,
    md5_matches,
    mock_verifier,
)

if TYPE_CHECKING:
    from pgguard.core.secrets import Role, Secret, Secrets

TRUST_HINT = (
    "Postgres lets pgguard in without a password (trust), so only clients on the loopback "
    "interface, and those of pgguard's own user over a unix socket, are let in; set listen.trust "
    "to let in others."
)
IDENTIFIED_HINT = (
    "Postgres lets pgguard in for what pgguard itself is (peer or cert), so only clients of the "
    "same user over a unix socket are let in; set listen.trust to let in others."
)
_IDENTIFIED_LOG = "let in at Postgres is pgguard alone, for its own user or certificate"

Write = Callable[[bytes], object]


class Need(Enum):
    """What a dialogue waits for, and what it is sent."""

    MESSAGE = "message"
    """(type, body) of the session's next message."""
    METHOD = "method"
    """How Postgres receives this user: a `Method`."""
    ROLE = "role"
    """What pg_authid says of this user: a `Role`, or None where we may not read it."""


class Method(Enum):
    """How Postgres receives a user on our address, learned by asking it."""

    TRUST = "trust"
    """No challenge, whoever we are."""
    PEER = "peer"
    """No challenge for our uid."""
    CERT = "cert"
    """No challenge for our certificate."""
    MD5 = "md5"
    SCRAM = "scram"
    CLEARTEXT = "cleartext"
    """Also LDAP, PAM and RADIUS, of which pg_authid knows nothing."""
    OTHER = "other"
    """GSSAPI, SSPI: a dialogue between client and server."""


_IDENTIFIED = {Method.PEER: "Peer", Method.CERT: "certificate"}
"""Methods that judge what we are → how Postgres begins its words to somebody else."""


class Way(Enum):
    """How a session got in without having proved anything to us."""

    UNPROVEN = "unproven"
    """Postgres must let us in without a proof, too."""
    RELAYED = "relayed"
    """Postgres itself conducts the dialogue (transparency T2)."""


class Asking(NamedTuple):
    """What is known of a session that asks to be let in."""

    user: str
    own: bool
    """It comes from our own uid over a unix socket, or `listen.trust` says that it may."""
    near: bool
    """It comes from this machine: enough where Postgres trusts us."""
    binding: bytes = b""
    """The end point of the session's TLS; empty without."""


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


def timed_out() -> Refusal:
    """Postgres's own words for who takes too long (57014)."""
    return Refusal("canceling authentication due to timeout", sqlstate="57014")


def session_login(
    asking: Asking, secrets: Secrets, write: Write
) -> Generator[Need, Any, Secret | Way]:
    """Authenticate a session; AuthenticationOk is the caller's to write.

    Returns what its server may log in with. Raises LoginRefused or ProtocolViolation.
    """
    method: Method = yield Need.METHOD
    held = secrets.get(asking.user)
    if method is Method.TRUST or method in _IDENTIFIED:
        return (yield from _unchallenged(asking, method, held, secrets.seed, write))
    role: Role | None = yield Need.ROLE
    secret = role.secret if role is not None else held
    if method is Method.SCRAM:
        verifier = secret.verifier() if secret is not None else None
        if verifier is not None or role is not None:
            return (yield from _scram(asking, secret, role, secrets.seed, write))
    elif method is Method.MD5:
        if secret is not None and secret.md5_for(asking.user):
            return (yield from _md5(asking.user, secret, write))
    elif method is Method.CLEARTEXT and held is not None and held.password is not None:
        return (yield from _cleartext(asking.user, held, held.password, write))
    return Way.RELAYED


def _unchallenged(
    asking: Asking, method: Method, held: Secret | None, seed: bytes, write: Write
) -> Generator[Need, Any, Secret | Way]:
    """Postgres lets us in without a challenge: whom does that cover, too (transparency T3)?"""
    if asking.own or (asking.near and method is Method.TRUST):
        return Way.UNPROVEN
    if held is None:
        raise _not_covered(asking.user, method)
    if held.md5 is not None:
        return (yield from _md5(asking.user, held, write))
    return (yield from _scram(asking, held, None, seed, write))


def _not_covered(user: str, method: Method) -> LoginRefused:
    """Postgres's words to whom it takes for another one; where it trusts, it has none."""
    identified = _IDENTIFIED.get(method)
    if identified is None:
        what = f'pgguard: user "{user}" needs a password that pgguard does not know'
        return LoginRefused(what, sqlstate="28000", hint=TRUST_HINT)
    return LoginRefused(
        f'{identified} authentication failed for user "{user}"',
        sqlstate="28000",
        hint=IDENTIFIED_HINT,
        log=_IDENTIFIED_LOG,
    )


def _scram(
    asking: Asking, secret: Secret | None, role: Role | None, seed: bytes, write: Write
) -> Generator[Need, Any, Secret]:
    known = secret.verifier() if secret is not None else None
    verifier = known or _mock(asking.user, seed, role)
    offered = [MECHANISM_PLUS, MECHANISM] if asking.binding else [MECHANISM]
    write(backend.authentication_sasl(offered))
    mechanism, initial = frontend.decode_sasl_initial((yield from _password_message("SASL")))
    if mechanism not in offered:
        raise ProtocolViolation("client selected an invalid SASL authentication mechanism")
    scram = ScramServer(
        verifier,
        nonce=os.urandom(18),
        binding=asking.binding,
        plus=mechanism == MECHANISM_PLUS,
    )
    if initial is None:
        # Postgres asks for it, with nothing to go by.
        write(backend.authentication_sasl_continue(b""))
        initial = yield from _password_message("SASL")
    write(backend.authentication_sasl_continue(scram.first(initial)))
    answer = yield from _password_message("SASL")
    try:
        final = scram.final(answer)
    except AuthenticationFailed as error:
        raise wrong_password(asking.user, _log(known, role)) from error
    if secret is None or known is None:
        raise wrong_password(asking.user, _log(known, role))
    write(backend.authentication_sasl_final(final))
    return secret.proved(scram.client_key)


def _mock(user: str, seed: bytes, role: Role | None) -> Verifier:
    return mock_verifier(user, seed, role.iterations) if role else mock_verifier(user, seed)


def _log(known: Verifier | None, role: Role | None) -> str:
    if known is None and role is not None:
        return role.why or "the password of the role is stored as md5, which SCRAM cannot use"
    return "wrong password"


def _md5(user: str, secret: Secret, write: Write) -> Generator[Need, Any, Secret]:
    known = secret.md5_for(user)
    assert known is not None
    salt = os.urandom(4)
    write(backend.authentication_md5(salt))
    answer = yield from _password()
    if not md5_matches(known, salt, answer):
        raise wrong_password(user, "wrong password (md5)")
    return secret


def _cleartext(
    user: str, secret: Secret, password: str, write: Write
) -> Generator[Need, Any, Secret]:
    write(backend.authentication_cleartext())
    answer = yield from _password()
    if not cleartext_matches(password, answer):
        raise wrong_password(user, "wrong password (in clear)")
    return secret


def _password() -> Generator[Need, Any, bytes]:
    """The text of a PasswordMessage, as Postgres's recv_password_packet takes it."""
    answer = frontend.decode_password((yield from _password_message()))
    if not answer:
        raise LoginRefused("empty password returned by client", sqlstate="28P01")
    return answer


def expected(what: str, kind: int) -> ProtocolViolation:
    """Another message than the answer that was asked for, in Postgres's words."""
    return ProtocolViolation(f"expected {what} response, got message type {kind}")


def _password_message(what: str = "password") -> Generator[Need, Any, bytes]:
    kind, body = yield Need.MESSAGE
    if kind != codes.PASSWORD:
        raise expected(what, kind)
    assert isinstance(body, bytes)
    return body
