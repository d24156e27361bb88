"""A frontend by hand on a blocking socket: it can stop anywhere, and leave as no driver does."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from guard import WITHIN

from pgguard.net.loop import tune
from pgguard.wire import backend, codes, frontend
from pgguard.wire.auth import ScramClient
from pgguard.wire.codes import BACKEND_LIMIT, PROTOCOL_3_0
from pgguard.wire.scan import Framer
from pgguard.wire.startup import build_startup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from guard import RunningGuard


class RawSession:
    """One connection to the guard's wire port."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, WITHIN)
        # A paced connection (BBR) may hold back what was sent, and then its RST comes out of order.
        tune(self.socket, address[0])
        self._framer = Framer(BACKEND_LIMIT, "server")
        self.parameters: dict[str, str] = {}
        self.notices: list[dict[str, str]] = []
        self.pid, self.secret = 0, b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    @classmethod
    def log_in(
        cls,
        guard: RunningGuard,
        *,
        protocol: int = PROTOCOL_3_0,
        via: tuple[str, int] | None = None,
        **parameters: str,
    ) -> Self:
        """Up to AuthenticationOk; what comes behind it is unread. `via` is the address of a relay
        before the guard."""
        session = cls(via or guard.guard.listen)
        there = guard.guard.upstream
        words = {"user": there.user, "database": there.database, **parameters}
        try:
            session.send(build_startup(protocol, words))
            session._authenticate(there.password or "")
        except BaseException:
            session.socket.close()
            raise
        return session

    def _authenticate(self, password: str) -> None:
        scram: ScramClient | None = None
        while True:
            kind, body = self.message()
            assert kind == codes.AUTHENTICATION, (kind, body)
            (step,) = struct.unpack_from("!I", body)
            if step == codes.AUTH_OK:
                return
            if step == codes.AUTH_SASL:
                scram = ScramClient("", password=password, nonce=os.urandom(18), salted={})
                self.send(frontend.sasl_initial(b"SCRAM-SHA-256", scram.first()))
            elif step == codes.AUTH_SASL_CONTINUE and scram is not None:
                self.send(frontend.sasl_response(scram.final(body[4:])))

    @classmethod
    def open(
        cls, guard: RunningGuard, *, via: tuple[str, int] | None = None, **parameters: str
    ) -> Self:
        """Up to the first ReadyForQuery."""
        session = cls.log_in(guard, via=via, **parameters)
        try:
            session.until_ready()
        except BaseException:
            session.socket.close()
            raise
        return session

    @classmethod
    @contextmanager
    def open_until_error(
        cls, guard: RunningGuard, **parameters: str
    ) -> Iterator[tuple[Self, dict[str, str]]]:
        """The session and the error that its login without a password ends with."""
        with cls(guard.guard.listen) as session:
            there = guard.guard.upstream
            words = {"user": there.user, "database": there.database, **parameters}
            session.send(build_startup(PROTOCOL_3_0, words))
            yield session, session.error()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def message(self) -> tuple[int, bytes]:
        """The next message. Raises EOFError at the end of the connection."""
        while (message := self._framer.take()) is None:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError
            self._framer.push(data)
        return message

    def until_ready(self) -> list[tuple[int, bytes]]:
        """All messages up to ReadyForQuery, which is the last."""
        messages = []
        while not messages or messages[-1][0] != codes.READY_FOR_QUERY:
            kind, body = self.message()
            if kind == codes.BACKEND_KEY_DATA:
                self.pid, self.secret = backend.decode_key_data(body)
            elif kind == codes.PARAMETER_STATUS:
                name, value = backend.decode_parameter_status(body)
                self.parameters[name] = value
            elif kind == codes.NOTICE_RESPONSE:
                self.notices.append(backend.decode_fields(body))
            messages.append((kind, body))
        return messages

    def query(self, text: str) -> list[tuple[int, bytes]]:
        self.send(frontend.query(text.encode()))
        return self.until_ready()

    def error(self) -> dict[str, str]:
        """The fields of the next ErrorResponse; other messages before it are passed over."""
        while True:
            kind, body = self.message()
            if kind == codes.ERROR_RESPONSE:
                return backend.decode_fields(body)
            if kind == codes.NOTICE_RESPONSE:
                self.notices.append(backend.decode_fields(body))

    def ended(self) -> bool:
        """Whether nothing but the end of the connection comes."""
        try:
            self.message()
        except EOFError:
            return True
        return False

    def reset(self) -> None:
        """Leave with a RST."""
        linger = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()
