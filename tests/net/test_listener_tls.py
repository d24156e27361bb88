"""TLS at the frontend port: negotiated and direct, refused, stuffed; nobody else is disturbed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from loops import LOOPS, run_on
from ports import AUTHENTICATED, STARTUP, Port, listening, rest
from tls import GSS, SSL, Files, client_context, files

from pgguard.net.certificates import entrance
from pgguard.settings.schema import Listen
from pgguard.wire.startup import build_cancel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(params=LOOPS)
def visit(request: pytest.FixtureRequest, pem: Files) -> Callable[..., Any]:
    """Run a blocking visitor in a thread, while the listener runs on each loop."""

    def run(visitor: Callable[[Port], Any], **listen: Any) -> Any:
        async def main() -> Any:
            settings = Listen(**{"cert": pem.cert, "key": pem.key} | listen)
            async with listening(entrance=entrance(settings)) as port:
                return await asyncio.to_thread(visitor, port)

        return run_on(request.param, main(), 20)

    return run


def connected(port: Port) -> socket.socket:
    return socket.create_connection(port.address, 10)


def take(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


@pytest.mark.parametrize("first", [SSL, GSS + SSL, None], ids=["ssl", "gss, ssl", "direct"])
def test_a_session_comes_in(visit: Callable[..., Any], pem: Files, first: bytes | None) -> None:
    def visitor(port: Port) -> None:
        sock = connected(port)
        for request in [first[i : i + 8] for i in range(0, len(first), 8)] if first else []:
            sock.sendall(request)
            assert take(sock, 1) == (b"S" if request == SSL else b"N")
        with client_context(pem).wrap_socket(sock, server_hostname="localhost") as tls:
            tls.sendall(STARTUP)
            assert take(tls, 9) == AUTHENTICATED
            (session,) = port.hub.sessions
            assert (session.user, session.application_name) == ("app", "a")

    visit(visitor)


def test_requests_and_startup_may_come_byte_by_byte(visit: Callable[..., Any], pem: Files) -> None:
    def visitor(port: Port) -> None:
        sock = connected(port)
        for byte in SSL:
            sock.sendall(bytes([byte]))
        assert take(sock, 1) == b"S"
        with client_context(pem).wrap_socket(sock, server_hostname="localhost") as tls:
            tls.sendall(GSS)
            assert take(tls, 1) == b"N"
            for byte in STARTUP:
                tls.sendall(bytes([byte]))
            assert take(tls, 9) == AUTHENTICATED

    visit(visitor)


def test_tls_is_offered_once_and_plain_text_allowed(visit: Callable[..., Any], pem: Files) -> None:
    def visitor(port: Port) -> None:
        with connected(port) as sock:
            sock.sendall(STARTUP)
            assert take(sock, 9) == AUTHENTICATED
        sock = connected(port)
        sock.sendall(SSL)
        assert take(sock, 1) == b"S"
        with client_context(pem).wrap_socket(sock, server_hostname="localhost") as tls:
            tls.sendall(SSL)
            assert b"C0A000" in rest(tls)

    visit(visitor)


def test_bytes_behind_the_request_end_it(visit: Callable[..., Any]) -> None:
    def visitor(port: Port) -> None:
        with connected(port) as sock:
            sock.sendall(SSL + STARTUP)
            said = rest(sock)
            assert b"C08P01" in said
            assert b"received unencrypted data after SSL request" in said
        assert not port.hub.sessions

    visit(visitor)


def test_direct_tls_needs_the_protocols_name(
    visit: Callable[..., Any], pem: Files, caplog: pytest.LogCaptureFixture
) -> None:
    def visitor(port: Port) -> None:
        for alpn in ("", "http/1.1"):
            context = client_context(pem, alpn=alpn)
            with context.wrap_socket(connected(port), server_hostname="localhost") as tls:
                assert rest(tls) == b""
        assert not port.hub.sessions

    visit(visitor)
    assert caplog.text.count("without ALPN") == 2


def test_require_refuses_plain_text_in_the_words_of_postgres(visit: Callable[..., Any]) -> None:
    def visitor(port: Port) -> None:
        with connected(port) as sock:
            sock.sendall(STARTUP)
            said = rest(sock)
        assert b"C28000" in said
        assert (
            b'no pg_hba.conf entry for host "127.0.0.1", user "app", database "db", no encryption'
            in said
        )
        for junk in (b"\0\0\0\x08\0\x03\0\0", b"\xff" * 64, b"\0\0\0\x09\0\x03\0\0x"):
            with connected(port) as sock:
                sock.sendall(junk)
                with contextlib.suppress(OSError):
                    # What is no packet is closed, with what it has not read: a reset.
                    sock.shutdown(socket.SHUT_WR)
                assert rest(sock) == b""
        assert not port.hub.sessions

    visit(visitor, tls="require")


@pytest.mark.parametrize("asks", [False, True], ids=["", "for a certificate"])
def test_a_cancel_may_come_in_tls_or_without_and_needs_no_certificate(
    visit: Callable[..., Any], pem: Files, asks: bool
) -> None:
    def visitor(port: Port) -> None:
        sock = connected(port)
        sock.sendall(SSL)
        assert take(sock, 1) == b"S"
        with client_context(pem).wrap_socket(sock, server_hostname="localhost") as tls:
            tls.sendall(build_cancel(7, b"key1"))
            assert rest(tls) == b""
        with connected(port) as sock:
            sock.sendall(build_cancel(8, b"key2"))
            assert rest(sock) == b""
        assert port.cancels == [(7, b"key1"), (8, b"key2")]

    visit(visitor, tls="require", client_ca=pem.ca if asks else None)


def test_a_handshake_that_fails_is_one_line_and_disturbs_nobody(
    visit: Callable[..., Any], pem: Files, caplog: pytest.LogCaptureFixture
) -> None:
    def visitor(port: Port) -> None:
        silent = connected(port)
        silent.sendall(SSL)
        assert take(silent, 1) == b"S"
        with connected(port) as sock:
            sock.sendall(SSL)
            assert take(sock, 1) == b"S"
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            rest(sock)
        with connected(port) as sock:
            sock.sendall(STARTUP)
            assert take(sock, 9) == AUTHENTICATED
        silent.close()

    with caplog.at_level(logging.WARNING):
        visit(visitor)
    lines = [record.message for record in caplog.records]
    assert len([line for line in lines if "http request" in line]) == 1
    assert all(line.startswith("TLS with a client at 127.0.0.1 failed: ") for line in lines)
    assert len(lines) == 2


@pytest.mark.parametrize("by", ["ours", "theirs", None])
def test_a_client_shows_a_certificate_where_that_is_demanded(
    visit: Callable[..., Any], pem: Files, tmp_path: Path, by: str | None
) -> None:
    shows = files(tmp_path / "client", "app", by=by) if by else None

    def visitor(port: Port) -> bytes:
        sock = connected(port)
        sock.sendall(SSL)
        assert take(sock, 1) == b"S"
        try:
            context = client_context(pem, shows=shows)
            with context.wrap_socket(sock, server_hostname="localhost") as tls:
                tls.sendall(STARTUP)
                return rest(tls) if by is None else take(tls, 9)
        except ssl.SSLError as error:
            return str(error).encode()
        finally:
            sock.close()

    said = visit(visitor, client_ca=pem.ca)
    if by == "ours":
        assert said == AUTHENTICATED
    elif by == "theirs":
        assert b"ALERT" in said.upper()
    else:
        # Postgres's own words.
        assert b"SFATAL\0VFATAL\0C28000\0Mconnection requires a valid client certificate\0" in said


def test_tls_1_2_is_spoken_too(visit: Callable[..., Any], pem: Files) -> None:
    context = client_context(pem)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def visitor(port: Port) -> str | None:
        sock = connected(port)
        sock.sendall(SSL)
        assert take(sock, 1) == b"S"
        with context.wrap_socket(sock, server_hostname="localhost") as tls:
            tls.sendall(STARTUP)
            assert take(tls, 9) == AUTHENTICATED
            return tls.version()

    assert visit(visitor) == "TLSv1.2"
