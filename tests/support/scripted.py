"""A server that does what it is told instead of what a Postgres does: it lies, hangs, cuts, resets.

A script is a list of steps: bytes to send, `Hear(n)` to wait for n messages, `Slowly(bytes)` to
send byte by byte, HANG, RESET, CLOSE. The scripts of the connections follow one another; the last
one is played for every later connection. `heard` keeps what came, connection by connection.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from local import LOCALHOST, LocalServer

from pgguard.wire import backend


@dataclass(frozen=True)
class Hear:
    """Wait until so many frontend messages have come; the first of a connection is its startup."""

    messages: int = 1


@dataclass(frozen=True)
class Slowly:
    """Send each byte in a segment of its own."""

    data: bytes


HANG, RESET, CLOSE = "hang", "reset", "close"
Step = bytes | Hear | Slowly | str

KEY = backend.backend_key_data(4242, b"real")
GREETING = (
    backend.parameter_status("server_version", "16.1")
    + backend.parameter_status("client_encoding", "UTF8")
    + backend.parameter_status("standard_conforming_strings", "on")
)
READY = backend.ready_for_query(b"I")
TRUSTING = backend.authentication_ok() + GREETING + KEY + READY
"""All that a server says to a user whom it trusts."""


class ScriptedServer(LocalServer):
    """Plays its scripts on a free port for as long as it is entered."""

    def __init__(self, *scripts: list[Step], port: int = 0) -> None:
        super().__init__(port)
        self.scripts = list(scripts)
        self.heard: list[bytes] = []

    @property
    def url(self) -> str:
        # A script begins with the startup packet.
        return f"postgresql://user@{LOCALHOST}:{self.port}/db?sslmode=disable"

    def meet(self) -> None:
        self.heard.append(b"")

    def serve(self, sock: socket.socket, number: int) -> None:
        script = self.scripts[min(number, len(self.scripts) - 1)]
        sock.settimeout(0.02)
        taken = 0
        with sock:
            try:
                for step in script:
                    if isinstance(step, Hear):
                        for _ in range(step.messages):
                            taken = self._hear(sock, number, taken)
                    elif isinstance(step, Slowly):
                        for byte in step.data:
                            sock.sendall(bytes([byte]))
                    elif isinstance(step, bytes):
                        sock.sendall(step)
                    else:
                        self._end(sock, step, number)
                        return
                self._end(sock, HANG, number)
            except OSError:
                # The guard has closed its side, which a script need not foresee.
                pass

    def _hear(self, sock: socket.socket, number: int, start: int) -> int:
        """Read until one more message is whole; returns where it ends."""
        head = 4 if start == 0 else 5
        while True:
            data = self.heard[number][start:]
            if len(data) >= head:
                end = int.from_bytes(data[head - 4 : head], "big") + head - 4
                if len(data) >= end:
                    return start + end
            self._read(sock, number)

    def _read(self, sock: socket.socket, number: int) -> None:
        while not self.over.is_set():
            try:
                data = sock.recv(65536)
            except TimeoutError:
                continue
            if not data:
                break
            self.heard[number] += data
            return
        raise ConnectionError

    def _end(self, sock: socket.socket, how: str, number: int) -> None:
        if how == RESET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == HANG:
            while True:
                self._read(sock, number)


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server((LOCALHOST, 0)) as sock:
        return int(sock.getsockname()[1])
