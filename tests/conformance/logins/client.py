"""A login by hand: every message of its dialogue, as one word each, up to its end.

It reads what it needs of the protocol and no more (manual, "Message Flow"; RFC 5802, 5929, 7677)
and shares no code with pgguard, which it tests.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import hmac
import os
import socket
import ssl
import stringprep
import struct
import time
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOCOL, SSL_REQUEST = 196608, 80877103
WITHIN = 20.0
PLUS, PLAIN = b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"
END_POINT = b"p=tls-server-end-point"


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect: a port of 127.0.0.1, or a unix socket's path."""

    port: int = 0
    path: str = ""
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """Who logs in, and how it behaves.

    `does`: `answer`; `leave` (closes when asked), `terminate` and `query` (says something else),
    `stop` (leaves before the last message of SCRAM). `binding`: disable, prefer or require.
    """

    user: bytes
    database: bytes
    password: str = field(default="", repr=False)
    does: str = "answer"
    binding: str = "prefer"
    more: tuple[tuple[bytes, bytes], ...] = ()

    def packet(self) -> bytes:
        pairs = [(b"user", self.user), (b"database", self.database), *self.more]
        return startup(b"".join(name + b"\0" + value + b"\0" for name, value in pairs) + b"\0")


@dataclass(slots=True)
class Outcome:
    """What was seen: a word for each message, and the seconds from the first byte to the end."""

    words: list[str] = field(default_factory=list)
    seconds: float = 0.0
    salt: str = ""

    @property
    def entered(self) -> bool:
        return "ReadyForQuery" in self.words


def startup(body: bytes, protocol: int = PROTOCOL) -> bytes:
    return struct.pack("!II", len(body) + 8, protocol) + body


def log_in(place: Place, person: Person) -> Outcome:
    """The whole dialogue of one login."""
    return converse(place, person.packet(), person)


def converse(place: Place, packet: bytes, person: Person | None = None) -> Outcome:
    """A dialogue that begins with any bytes. Without a person nothing is answered."""
    outcome = Outcome()
    begun = time.perf_counter()
    with contextlib.ExitStack() as stack:
        try:
            sock = stack.enter_context(_connect(place))
            sock.sendall(packet)
            login = _Login(sock, person, outcome, has_tls=place.tls is not None)
            for kind, body in _messages(sock):
                if login.hear(kind, body):
                    break
        except (OSError, EOFError) as error:
            left = error.args[0] if isinstance(error, EOFError) and error.args else b""
            outcome.words.append("hangs" if isinstance(error, TimeoutError) else "closed")
            if left:
                outcome.words.append(f"left over: {left!r}")
    outcome.seconds = time.perf_counter() - begun
    return outcome


def _connect(place: Place) -> socket.socket:
    if place.path:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(WITHIN)
        sock.connect(place.path)
        return sock
    sock = socket.create_connection(("127.0.0.1", place.port), WITHIN)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if place.tls is None:
        return sock
    sock.sendall(struct.pack("!II", 8, SSL_REQUEST))
    if sock.recv(1) != b"S":
        sock.close()
        raise EOFError
    return place.tls.wrap_socket(sock, server_hostname="localhost")


def _messages(sock: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    buffer = b""
    while True:
        while len(buffer) >= 5 and len(buffer) > (length := _word(buffer, 1)):
            yield buffer[:1], buffer[5 : length + 1]
            buffer = buffer[length + 1 :]
        data = sock.recv(65536)
        if not data:
            raise EOFError(buffer)
        buffer += data


def _word(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 4], "big")


class _Login:
    def __init__(
        self, sock: socket.socket, person: Person | None, outcome: Outcome, *, has_tls: bool
    ) -> None:
        self._sock = sock
        self._person = person
        self._outcome = outcome
        self._tls = has_tls
        self._bare = b"n=,r=" + base64.b64encode(os.urandom(18))
        self._gs2 = b"n,,"
        self._bound = b""
        self._proof: bytes = b""

    def hear(self, kind: bytes, body: bytes) -> bool:
        """Note a message and answer it; whether that was the last one."""
        words = self._outcome.words
        if kind == b"R":
            return self._authenticate(_word(body, 0), body[4:])
        if kind == b"E":
            words.append(_report(body))
        elif kind == b"S":
            name, value = body.split(b"\0")[:2]
            words.append(f"ParameterStatus {name.decode()}={value.decode(errors='replace')}")
        elif kind == b"Z":
            words.append("ReadyForQuery")
            self._send(b"X", b"")
            return True
        elif kind == b"K":
            words.append("BackendKeyData")
        else:
            words.append(f"message {kind!r}")
        return False

    def _authenticate(self, request: int, data: bytes) -> bool:
        words = self._outcome.words
        person = self._person
        if request == 0:
            words.append("AuthenticationOk")
            return False
        if request == 12:
            words.append("SASLFinal")
            return not self._proves_itself(data)
        said = {3: "Cleartext", 5: "MD5", 11: "SASLContinue"}.get(request, f"request {request}")
        if request == 10:
            said = "SASL " + " ".join(name.decode() for name in data.split(b"\0") if name)
        elif request == 11:
            said += f" i={data.rpartition(b'i=')[2].decode()}"
            self._outcome.salt = data.partition(b",s=")[2].partition(b",")[0].decode()
        words.append(said)
        if person is None or person.does == "leave":
            return True
        if person.does == "stop" and request == 11:
            return True
        if person.does == "terminate":
            self._send(b"X", b"")
        elif person.does == "query":
            self._send(b"Q", b"select 1\0")
        elif person.does == "garbage":
            self._send(b"p", b"garbage")
        else:
            return self._answer(person, request, data)
        return False

    def _answer(self, person: Person, request: int, data: bytes) -> bool:
        password = person.password.encode("utf-8", "surrogateescape")
        if request == 3:
            self._send(b"p", password + b"\0")
        elif request == 5:
            inner = hashlib.md5(password + person.user).hexdigest().encode()
            self._send(b"p", b"md5" + hashlib.md5(inner + data).hexdigest().encode() + b"\0")
        elif request == 10:
            return self._begin(person, data.split(b"\0"))
        else:
            self._send(b"p", self._finish(person.password, data))
        return False

    def _begin(self, person: Person, offered: list[bytes]) -> bool:
        """As libpq chooses."""
        mechanism = PLAIN
        if self._tls and person.binding != "disable":
            if PLUS in offered:
                mechanism, self._gs2 = PLUS, END_POINT + b",,"
                self._bound = _end_point(self._sock)
            elif person.binding == "require":
                self._outcome.words.append("client: no PLUS")
                return True
            else:
                self._gs2 = b"y,,"
        first = self._gs2 + self._bare
        self._send(b"p", mechanism + b"\0" + struct.pack("!I", len(first)) + first)
        return False

    def _finish(self, password: str, data: bytes) -> bytes:
        words = dict(part.split(b"=", 1) for part in data.split(b","))
        salted = _salted(password, base64.b64decode(words[b"s"]), int(words[b"i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        channel = base64.b64encode(self._gs2 + self._bound)
        without = b"c=" + channel + b",r=" + words[b"r"]
        signed = b",".join((self._bare, data, without))
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        self._proof = base64.b64encode(hmac.digest(server_key, signed, "sha256"))
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        return without + b",p=" + base64.b64encode(proof)

    def _proves_itself(self, data: bytes) -> bool:
        if data == b"v=" + self._proof:
            return True
        self._outcome.words.append("client: the server has not proved itself")
        return False

    def _send(self, kind: bytes, body: bytes) -> None:
        self._sock.sendall(kind + struct.pack("!I", len(body) + 4) + body)


def _report(body: bytes) -> str:
    fields = {part[:1]: part[1:] for part in body.split(b"\0") if part}
    shown = (
        f"{letter.decode()}={fields[letter].decode(errors='backslashreplace')}"
        for letter in (b"S", b"V", b"C", b"M", b"D", b"H")
        if letter in fields
    )
    return "ErrorResponse " + " ".join(shown)


def _end_point(sock: socket.socket) -> bytes:
    assert isinstance(sock, ssl.SSLSocket)
    # The certificates of these tests are all signed with SHA-256.
    return hashlib.sha256(sock.getpeercert(binary_form=True) or b"").digest()


@functools.cache
def _salted(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", _prepared(password), salt, iterations)


def _prepared(password: str) -> bytes:
    """SASLprep, as far as these tests go: NBSP to space, soft hyphen to nothing, NFKC."""
    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c)
    )
    return unicodedata.normalize("NFKC", mapped).encode("utf-8", "surrogateescape")


def verifier(password: str, iterations: int, salt: bytes = b"sixteen bytes...") -> str:
    """What CREATE ROLE takes for a password that is hashed already."""
    salted = hashlib.pbkdf2_hmac("sha256", _prepared(password), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    texts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{texts[0]}${texts[1]}:{texts[2]}"
