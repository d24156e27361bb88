"""Certificates for tests, a TLS in front of a Postgres that has none, and sockets that speak it."""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import trustme
from local import LOCALHOST, WITHIN, LocalServer

from pgguard.wire.codes import GSSENC_REQUEST, SSL_REQUEST
from pgguard.wire.startup import build_request

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

SSL, GSS = build_request(SSL_REQUEST), build_request(GSSENC_REQUEST)


@cache
def authority(name: str = "ours") -> trustme.CA:
    """An authority; one per name in a test process."""
    return trustme.CA(organization_name=name)


@dataclass(slots=True, frozen=True)
class Files:
    """PEM files of one certificate and of its authority."""

    cert: Path
    key: Path
    ca: Path


def files(
    folder: Path,
    *names: str,
    by: str = "ours",
    expires: datetime | None = None,
    common_name: str | None = None,
) -> Files:
    """A certificate for `names` (without any: for 127.0.0.1 and localhost)."""
    names = names or (LOCALHOST, "localhost")
    ca = authority(by)
    made = ca.issue_cert(*names, not_after=expires, common_name=common_name)
    folder.mkdir(exist_ok=True)
    found = Files(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
    found.cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    found.key.write_bytes(made.private_key_pem.bytes())
    ca.cert_pem.write_to_path(str(found.ca))
    return found


def server_context(pem: Files, *, client_ca: bool = False, alpn: bool = True) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem.cert, pem.key)
    if alpn:
        context.set_alpn_protocols(["postgresql"])
    if client_ca:
        context.load_verify_locations(pem.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(
    pem: Files, *, alpn: str = "postgresql", shows: Files | None = None
) -> ssl.SSLContext:
    """One that trusts the authority of `pem` alone, and may show a certificate itself."""
    context = ssl.create_default_context(cafile=str(pem.ca))
    if alpn:
        context.set_alpn_protocols([alpn])
    if shows is not None:
        context.load_cert_chain(shows.cert, shows.key)
    return context


class TlsServer(LocalServer):
    """TLS in front of a port: answers SSLRequest, takes direct TLS, relays what comes in it.

    `answer` stands in for `S`. Plain connections are relayed, too. `spoken` keeps how each
    connection came.
    """

    def __init__(
        self, port: int, context: ssl.SSLContext | None, *, answer: bytes = b"S", plain: bool = True
    ) -> None:
        super().__init__()
        self._behind = port
        self.context = context
        self.answer = answer
        self._plain = plain
        self.spoken: list[str] = []
        self._open: set[socket.socket] = set()

    def hang_up(self) -> None:
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def serve(self, sock: socket.socket, number: int) -> None:
        self._open.add(sock)
        try:
            met = self._negotiate(sock)
            if met is not None:
                self._relay(*met)
        except OSError:
            # The other side has gone: what tests are about.
            pass
        finally:
            self._open.discard(sock)
            sock.close()

    def _negotiate(self, sock: socket.socket) -> tuple[socket.socket, bytes] | None:
        if sock.recv(1, socket.MSG_PEEK) == b"\x16" and self.context is not None:
            self.spoken.append("direct")
            return self._wrapped(sock), b""
        head = sock.recv(8, socket.MSG_WAITALL)
        if head != SSL:
            self.spoken.append("plain")
            return (sock, head) if self._plain else None
        sock.sendall(self.answer)
        if self.answer == b"N":
            self.spoken.append("declined")
            return sock, b""
        if self.context is None:
            return None
        tls = self._wrapped(sock)
        self.spoken.append(str(tls.version()))
        return tls, b""

    def _wrapped(self, sock: socket.socket) -> ssl.SSLSocket:
        assert self.context is not None
        self._open.discard(sock)
        try:
            tls = self.context.wrap_socket(sock, server_side=True)
        except OSError:
            sock.close()
            raise
        self._open.add(tls)
        return tls

    def _relay(self, sock: socket.socket, head: bytes) -> None:
        """One thread for both directions: an SSLSocket is not for two."""
        with sock, socket.create_connection((LOCALHOST, self._behind)) as behind:
            behind.sendall(head)
            sock.settimeout(0.001)
            behind.settimeout(0.001)
            ends = {sock: behind, behind: sock}
            while not self.over.is_set() and ends:
                for source, target in list(ends.items()):
                    try:
                        data = source.recv(65536)
                    except (TimeoutError, ssl.SSLWantReadError):
                        continue
                    if not data:
                        if source is behind:
                            # Postgres has ended it.
                            return
                        behind.shutdown(socket.SHUT_WR)
                        del ends[source]
                        continue
                    target.settimeout(WITHIN)
                    target.sendall(data)
                    target.settimeout(0.001)
