"""Proof of a password without I/O: SCRAM-SHA-256 in both roles, MD5, clear text.

Laws: secrets are compared in constant time and appear in no message or repr; random bytes are given
from outside; a malformed message is ProtocolViolation in Postgres's words, a wrong proof is
AuthenticationFailed. The only channel binding is tls-server-end-point (RFC 5929). RFC 5802, RFC
7677, RFC 4013; manual "SASL Authentication". Deriving a key costs some 5 ms per 4,096 iterations.
"""

from __future__ import annotations

import hashlib
import hmac
import stringprep
import unicodedata
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass

from pgguard.errors import LoginRefused, PgGuardError, ProtocolViolation
from pgguard.wire.codes import PG_MAX_SASL_MESSAGE_LENGTH

MECHANISM = b"SCRAM-SHA-256"
MECHANISM_PLUS = b"SCRAM-SHA-256-PLUS"
BINDING_TYPE = b"tls-server-end-point"
DEFAULT_ITERATIONS = 4096
MAX_ITERATIONS = 1_000_000
"""More than this asked for by a server is an attack on our time (about a second)."""

_KEY_LENGTH = 32
_MAX_SALTED = 1000


class AuthenticationFailed(PgGuardError):
    """A session does not know the password of the user that it claims to be."""


def saslprep(password: str) -> bytes:
    """The bytes that Postgres hashes: SASLprep as pg_saslprep does it, and where that fails (not
    UTF-8, prohibited characters) the password's own bytes."""
    raw = password.encode("utf-8", "surrogateescape")
    if password.isascii():
        return raw
    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c
        for c in password
        if stringprep.in_table_c12(c) or not stringprep.in_table_b1(c)
    )
    if not mapped or any(map(_is_prohibited, mapped)) or not _is_bidi_sound(mapped):
        return raw
    return unicodedata.normalize("NFKC", mapped).encode()


def _is_prohibited(character: str) -> bool:
    return (
        stringprep.in_table_a1(character)
        or stringprep.in_table_c12(character)
        or stringprep.in_table_c21_c22(character)
        or stringprep.in_table_c3(character)
        or stringprep.in_table_c4(character)
        or stringprep.in_table_c5(character)
        or stringprep.in_table_c6(character)
        or stringprep.in_table_c7(character)
        or stringprep.in_table_c8(character)
        or stringprep.in_table_c9(character)
    )


def _is_bidi_sound(text: str) -> bool:
    if not any(map(stringprep.in_table_d1, text)):
        return True
    return (
        stringprep.in_table_d1(text[0])
        and stringprep.in_table_d1(text[-1])
        and not any(map(stringprep.in_table_d2, text))
    )


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")


def _salt(password: bytes, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password, salt, iterations)


def _keys(salted_password: bytes) -> tuple[bytes, bytes]:
    """(client key, server key)."""
    return _hmac(salted_password, b"Client Key"), _hmac(salted_password, b"Server Key")


@dataclass(slots=True, frozen=True, repr=False)
class Verifier:
    """What a server keeps of a password; `str()` gives the form of pg_authid.rolpassword."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """Raises ValueError when `text` is no verifier; never shows it."""
        try:
            mechanism, parameters, keys = text.split("$")
            iterations, salt = parameters.split(":")
            stored, server = (b64decode(key, validate=True) for key in keys.split(":"))
            verifier = cls(b64decode(salt, validate=True), int(iterations), stored, server)
        except ValueError:
            mechanism = ""
        if (
            mechanism != MECHANISM.decode()
            or not (iterations.isascii() and iterations.isdigit())
            or not 1 <= verifier.iterations <= 0x7FFF_FFFF
            or not len(verifier.stored_key) == len(verifier.server_key) == _KEY_LENGTH
        ):
            raise ValueError("not a SCRAM-SHA-256 verifier") from None
        return verifier

    @classmethod
    def derive(cls, password: str, salt: bytes, iterations: int = DEFAULT_ITERATIONS) -> Verifier:
        client_key, server_key = _keys(_salt(saslprep(password), salt, iterations))
        return cls(salt, iterations, hashlib.sha256(client_key).digest(), server_key)

    def __str__(self) -> str:
        salt, stored, server = (
            b64encode(part).decode() for part in (self.salt, self.stored_key, self.server_key)
        )
        return f"{MECHANISM.decode()}${self.iterations}:{salt}${stored}:{server}"

    def __repr__(self) -> str:
        return f"Verifier(iterations={self.iterations})"


def mock_verifier(user: str, seed: bytes, iterations: int = DEFAULT_ITERATIONS) -> Verifier:
    """A verifier for a user without one, so that the dialogue tells nothing: the salt is always
    the same for a user, and no password fits, as nobody knows a preimage of the stored key."""
    name = user.encode("utf-8", "surrogateescape")
    salt, stored, server = (_hmac(seed, label + name) for label in (b"salt:", b"key:", b"server:"))
    return Verifier(salt[:16], iterations, stored, server)


def _malformed(what: str, peer: str) -> ProtocolViolation:
    return ProtocolViolation(f"malformed SCRAM message ({what})", peer=peer)


def _printable(text: bytes) -> str:
    """As Postgres's sanitize_str shows what a client has sent: 30 bytes, `?` for the rest."""
    return "".join(chr(byte) if 0x21 <= byte <= 0x7E else "?" for byte in text[:30])


def _decode64(value: bytes, what: str, peer: str) -> bytes:
    try:
        return b64decode(value, validate=True)
    except Base64Error:
        raise _malformed(f"malformed {what}", peer) from None


def _is_nonce(nonce: bytes) -> bool:
    return bool(nonce) and all(0x21 <= byte <= 0x7E and byte != 0x2C for byte in nonce)


def _attributes(text: bytes, expected: bytes, peer: str) -> list[bytes]:
    """The values of `a=…,b=…` in order: first the expected letters, then whatever extensions."""
    if not text or len(text) > PG_MAX_SASL_MESSAGE_LENGTH or 0 in text:
        raise _malformed("empty, too long or with a NUL", peer)
    values: list[bytes] = []
    for position, attribute in enumerate(text.split(b",")):
        if not attribute[:1].isalpha() or attribute[1:2] != b"=":
            raise _malformed("attribute expected", peer)
        if position < len(expected) and attribute[0] != expected[position]:
            wanted = expected[position : position + 1].decode()
            raise _malformed(f'expected attribute "{wanted}"', peer)
        values.append(attribute[2:])
    if len(values) < len(expected):
        raise _malformed("attribute missing", peer)
    return values


class ScramServer:
    """The server's side of one exchange: `first`, then `final`. `nonce` is random bytes (18, as
    Postgres has it), sent as base64. With a `binding` (the hash of our certificate) PLUS was
    offered too; `plus` says that the client has chosen it."""

    __slots__ = ("_auth_message", "_binding", "_gs2", "_nonce", "_plus", "_verifier", "client_key")

    def __init__(
        self, verifier: Verifier, *, nonce: bytes, binding: bytes = b"", plus: bool = False
    ) -> None:
        self._verifier = verifier
        self._nonce = b64encode(nonce)
        self._binding = binding
        self._plus = plus
        self._gs2 = b""
        self._auth_message = b""
        self.client_key = b""
        """Set by `final`: with the verifier it does for ScramClient what the password does."""

    def first(self, client_first: bytes) -> bytes:
        """server-first-message. Raises ProtocolViolation."""
        flag, comma, rest = client_first.partition(b",")
        if not comma:
            raise _malformed("unexpected channel-binding flag", "session")
        self._gs2 = self._channel_binding(flag)
        authzid, comma, bare = rest.partition(b",")
        if authzid:
            raise ProtocolViolation("client uses authorization identity, but it is not supported")
        if not comma:
            raise _malformed("comma expected", "session")
        if bare.startswith(b"m="):
            raise ProtocolViolation("client requires an unsupported SCRAM extension")
        client_nonce = _attributes(bare, b"nr", "session")[1]
        if not _is_nonce(client_nonce):
            raise ProtocolViolation("non-printable characters in SCRAM nonce")
        self._nonce = client_nonce + self._nonce
        salt = b64encode(self._verifier.salt)
        server_first = b"r=%b,s=%b,i=%d" % (self._nonce, salt, self._verifier.iterations)
        self._auth_message = bare + b"," + server_first
        return server_first

    def _channel_binding(self, flag: bytes) -> bytes:
        """What `c=` of the last message has to be, as the flag and the mechanism demand."""
        if flag.startswith(b"p="):
            if not self._plus:
                raise _malformed(
                    "the client selected SCRAM-SHA-256 without channel binding, but the SCRAM"
                    " message includes channel binding data",
                    "session",
                )
            if flag[2:] != BINDING_TYPE:
                name = _printable(flag[2:])
                raise ProtocolViolation(f'unsupported SCRAM channel-binding type "{name}"')
            return b64encode(flag + b",," + self._binding)
        if flag not in (b"n", b"y"):
            raise _malformed("unexpected channel-binding flag", "session")
        if self._plus:
            raise _malformed(
                "the client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include"
                " channel binding data",
                "session",
            )
        if flag == b"y" and self._binding:
            # Somebody has taken PLUS out of our offer on its way (RFC 5802, section 6).
            raise LoginRefused("SCRAM channel binding negotiation error", sqlstate="28000")
        return b64encode(flag + b",,")

    def final(self, client_final: bytes) -> bytes:
        """server-final-message. Raises ProtocolViolation; AuthenticationFailed on a wrong proof."""
        without_proof, separator, proof64 = client_final.rpartition(b",p=")
        binding, nonce = _attributes(client_final, b"cr", "session")[:2]
        if not self._gs2 or not hmac.compare_digest(binding, self._gs2):
            if self._plus:
                raise LoginRefused("SCRAM channel binding check failed", sqlstate="28000")
            raise ProtocolViolation(
                "unexpected SCRAM channel-binding attribute in client-final-message"
            )
        if not hmac.compare_digest(nonce, self._nonce):
            raise ProtocolViolation("invalid SCRAM response (nonce does not match)")
        proof = _decode64(proof64, "proof in client-final-message", "session")
        if not separator or len(proof) != _KEY_LENGTH:
            raise _malformed("malformed proof in client-final-message", "session")
        auth_message = self._auth_message + b"," + without_proof
        signature = _hmac(self._verifier.stored_key, auth_message)
        client_key = _xor(proof, signature)
        stored_key = hashlib.sha256(client_key).digest()
        if not hmac.compare_digest(stored_key, self._verifier.stored_key):
            raise AuthenticationFailed("wrong SCRAM proof")
        self.client_key = client_key
        return b"v=" + b64encode(_hmac(self._verifier.server_key, auth_message))


class ScramClient:
    """The client's side of one exchange: `first`, `final`, `verify`.

    Known is either the password or the client key, as a ScramServer has seen it, with the verifier
    that the other side holds. `nonce` is random bytes; `user` is ignored by Postgres. `salted` is
    shared by exchanges: (password, salt, iterations) → salted password, so that PBKDF2 runs once;
    without a hit `final` takes some 5 ms, and up to a second if a server asks for so much.
    `flag` begins the gs2 header (`n`, `y` or `p=tls-server-end-point`), `binding` goes with `p`.
    A server may be trusted only when `verified` is true: AuthenticationOk before it is a lie.
    """

    __slots__ = (
        *("_bare", "_binding", "_gs2", "_nonce", "_salted", "_secret", "_signature"),
        "verified",
    )

    def __init__(
        self,
        user: str,
        *,
        password: str | None = None,
        client_key: bytes | None = None,
        verifier: Verifier | None = None,
        nonce: bytes,
        salted: dict[tuple[bytes, bytes, int], bytes] | None = None,
        flag: bytes = b"n",
        binding: bytes = b"",
    ) -> None:
        self._secret: str | tuple[bytes, bytes]
        if password is not None:
            self._secret = password
        elif client_key is not None and verifier is not None:
            self._secret = client_key, verifier.server_key
        else:
            raise ValueError("a password, or a client key with its verifier, is needed")
        self._nonce = b64encode(nonce)
        name = user.replace("=", "=3D").replace(",", "=2C").encode("utf-8", "surrogateescape")
        self._bare = b"n=" + name + b",r=" + self._nonce
        self._salted = {} if salted is None else salted
        self._gs2 = flag + b",,"
        self._binding = b64encode(self._gs2 + binding)
        self._signature = b""
        self.verified = False

    def first(self) -> bytes:
        """client-first-message."""
        return self._gs2 + self._bare

    def final(self, server_first: bytes) -> bytes:
        """client-final-message. Raises ProtocolViolation when the server's is not sound."""
        nonce, salt64, count = _attributes(server_first, b"rsi", "server")[:3]
        if not nonce.startswith(self._nonce) or nonce == self._nonce or not _is_nonce(nonce):
            raise ProtocolViolation("invalid SCRAM response (nonce mismatch)", peer="server")
        salt = _decode64(salt64, "salt", "server")
        if not count.isdigit() or len(count) > 7 or not 1 <= int(count) <= MAX_ITERATIONS:
            raise _malformed(f"iteration count not within 1 to {MAX_ITERATIONS}", "server")
        client_key, server_key = self._keys_for(salt, int(count))
        without_proof = b"c=" + self._binding + b",r=" + nonce
        auth_message = b",".join((self._bare, server_first, without_proof))
        stored_key = hashlib.sha256(client_key).digest()
        proof = _xor(client_key, _hmac(stored_key, auth_message))
        self._signature = _hmac(server_key, auth_message)
        return without_proof + b",p=" + b64encode(proof)

    def verify(self, server_final: bytes) -> None:
        """Check the server's signature. Raises ProtocolViolation."""
        if server_final.startswith(b"e="):
            raise ProtocolViolation("error received in SCRAM exchange", peer="server")
        value = _attributes(server_final, b"v", "server")[0]
        signature = _decode64(value, "server signature", "server")
        if not self._signature or not hmac.compare_digest(signature, self._signature):
            raise ProtocolViolation("incorrect server signature", peer="server")
        self.verified = True

    def _keys_for(self, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
        if not isinstance(self._secret, str):
            return self._secret
        entry = (saslprep(self._secret), salt, iterations)
        salted = self._salted.get(entry)
        if salted is None:
            salted = _salt(*entry)
            while len(self._salted) >= _MAX_SALTED:
                del self._salted[next(iter(self._salted))]
            self._salted[entry] = salted
        return _keys(salted)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def md5_secret(user: str, password: str) -> str:
    """What pg_authid holds for an MD5 password: "md5" and 32 hexadecimal digits."""
    return "md5" + _md5((password + user).encode("utf-8", "surrogateescape"))


def md5_response(secret_md5: str, salt: bytes) -> str:
    """The answer to AuthenticationMD5Password; `secret_md5` as `md5_secret` gives it."""
    return "md5" + _md5(secret_md5.removeprefix("md5").encode() + salt)


def md5_matches(secret_md5: str, salt: bytes, response: bytes) -> bool:
    """Whether a session's answer to our AuthenticationMD5Password is right."""
    return hmac.compare_digest(md5_response(secret_md5, salt).encode(), response)


def cleartext_matches(known: str, password: bytes) -> bool:
    """Whether a password in clear is the one that we know."""
    return hmac.compare_digest(known.encode("utf-8", "surrogateescape"), password)
