"""TLS towards a server: what each mode takes and refuses, before and behind the handshake."""

from __future__ import annotations

import datetime
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest
from core_fakes import FakeNet, hub_settings
from scripted import CLOSE, HANG, TRUSTING, Hear, ScriptedServer
from tls import Files, TlsServer, files, server_context

from pgguard.core.hub import Hub
from pgguard.core.login import Method
from pgguard.errors import ServerUnavailable
from pgguard.net.certificates import encryption
from pgguard.net.channel import Channel
from pgguard.net.dialer import Address, Dialer, log_in, open_channel
from pgguard.settings.encryption import Demand
from pgguard.wire.backend import error_response
from pgguard.wire.codes import SSL_REQUEST
from pgguard.wire.startup import build_request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PARAMETERS = {"user": "app", "database": "db"}


def address(port: int, mode: str, **demand: Any) -> Address:
    host = demand.pop("host", "127.0.0.1")
    return Address(host, port, 5.0, encryption(Demand(mode, **demand)))


async def tls_of(place: Address) -> str:
    """Log in, and say how."""
    channel = await open_channel(place)
    try:
        login, rest = await log_in(channel, PARAMETERS, None)
        assert login.method is Method.TRUST
        assert rest == b""
        return channel.tls
    finally:
        channel.close()


@pytest.mark.parametrize("direct", [False, True], ids=["postgres", "direct"])
@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_the_login_goes_through_tls(
    run: Callable[..., Any], pem: Files, mode: str, direct: bool
) -> None:
    with (
        ScriptedServer([Hear(), TRUSTING, HANG]) as behind,
        TlsServer(behind.port, server_context(pem)) as server,
    ):
        place = address(server.port, mode, ca=pem.ca, direct=direct)
        assert run(tls_of(place)) == "TLSv1.3"
        assert server.spoken == ["direct" if direct else "TLSv1.3"]
        assert b"app" in behind.heard[0]


def test_prefer_takes_tls_without_looking_at_the_certificate(
    run: Callable[..., Any], pem: Files
) -> None:
    with (
        ScriptedServer([Hear(), TRUSTING, HANG]) as behind,
        TlsServer(behind.port, server_context(pem)) as server,
    ):
        assert run(tls_of(address(server.port, "prefer"))) == "TLSv1.3"


def test_prefer_goes_on_in_plain_text_and_does_not_ask_again(run: Callable[..., Any]) -> None:
    with (
        ScriptedServer([Hear(), TRUSTING, HANG]) as behind,
        TlsServer(behind.port, None, answer=b"N") as server,
    ):
        place = address(server.port, "prefer")
        assert run(tls_of(place)) == ""
        assert run(tls_of(place)) == ""
        assert server.spoken == ["declined", "plain"]


def test_prefer_asks_again_once_the_server_was_away(run: Callable[..., Any]) -> None:
    with (
        ScriptedServer([Hear(), TRUSTING, HANG]) as behind,
        TlsServer(behind.port, None, answer=b"N") as server,
    ):
        place = address(server.port, "prefer")
        run(tls_of(place))
    assert place.encryption is not None
    assert place.encryption.declined
    with pytest.raises(ServerUnavailable, match="Connection refused"):
        run(tls_of(place))
    assert not place.encryption.declined


def test_disable_never_asks(run: Callable[..., Any], pem: Files) -> None:
    with (
        ScriptedServer([Hear(), TRUSTING, HANG]) as behind,
        TlsServer(behind.port, server_context(pem)) as server,
    ):
        assert run(tls_of(address(server.port, "disable"))) == ""
        assert server.spoken == ["plain"]


async def failure(place: Address) -> ServerUnavailable:
    with pytest.raises(ServerUnavailable) as caught:
        await tls_of(place)
    return caught.value


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_server_without_tls_is_refused(run: Callable[..., Any], mode: str) -> None:
    with ScriptedServer([Hear(), b"N", HANG]) as server:
        error = run(failure(address(server.port, mode)))
        assert "server does not support SSL, but SSL was required" in str(error)
        assert not error.temporary
        assert server.heard == [build_request(SSL_REQUEST)]


@pytest.mark.parametrize("mode", ["prefer", "require"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([b"S" + TRUSTING, HANG], "received unencrypted data after SSL response"),
        ([b"E\0\0\0\5\0", HANG], "error response during SSL exchange"),
        ([CLOSE], "closed the connection during SSL exchange"),
    ],
    ids=["stuffed", "error", "end"],
)
def test_another_answer_ends_it(
    run: Callable[..., Any], answer: list[Any], said: str, mode: str
) -> None:
    with ScriptedServer([Hear(), *answer]) as server:
        assert said in str(run(failure(address(server.port, mode))))


def yesterday() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


@pytest.mark.parametrize(
    ("mode", "made", "said"),
    [
        ("verify-ca", {"by": "theirs"}, "unable to get local issuer certificate"),
        ("verify-full", {"by": "theirs"}, "unable to get local issuer certificate"),
        ("verify-ca", {"expires": yesterday}, "certificate has expired"),
        ("verify-full", {"names": ["db.example"]}, "IP address mismatch"),
        ("require", {"by": "theirs"}, "unable to get local issuer certificate"),
    ],
)
def test_a_certificate_that_does_not_hold_is_refused(
    run: Callable[..., Any], pem: Files, tmp_path: Path, mode: str, made: dict[str, Any], said: str
) -> None:
    options = {name: value() if callable(value) else value for name, value in made.items()}
    theirs = files(tmp_path / "theirs", *options.pop("names", ()), **options)
    with (
        ScriptedServer([Hear(), TRUSTING, HANG]) as behind,
        TlsServer(behind.port, server_context(theirs)) as server,
    ):
        error = run(failure(address(server.port, mode, ca=pem.ca)))
        assert "SSL error: certificate verify failed" in str(error)
        assert said in str(error)
        assert not error.temporary
        assert behind.heard == []


def test_verify_ca_takes_another_name(run: Callable[..., Any], tmp_path: Path) -> None:
    theirs = files(tmp_path, "db.example")
    with (
        ScriptedServer([Hear(), TRUSTING, HANG]) as behind,
        TlsServer(behind.port, server_context(theirs)) as server,
    ):
        assert run(tls_of(address(server.port, "verify-ca", ca=theirs.ca))) == "TLSv1.3"


def test_direct_tls_without_the_protocols_name_is_refused(
    run: Callable[..., Any], pem: Files
) -> None:
    with (
        ScriptedServer([Hear(), TRUSTING, HANG]) as behind,
        TlsServer(behind.port, server_context(pem, alpn=False)) as server,
    ):
        place = address(server.port, "verify-full", ca=pem.ca, direct=True)
        assert "without ALPN" in str(run(failure(place)))
        assert behind.heard in ([], [b""])


def test_we_show_a_certificate_to_who_asks(run: Callable[..., Any], pem: Files) -> None:
    with (
        ScriptedServer([Hear(), TRUSTING, HANG]) as behind,
        TlsServer(behind.port, server_context(pem, client_ca=True)) as server,
    ):
        shown = address(server.port, "verify-full", ca=pem.ca, cert=pem.cert, key=pem.key)
        assert run(tls_of(shown)) == "TLSv1.3"
        with pytest.raises((ServerUnavailable, OSError)):
            run(tls_of(address(server.port, "verify-full", ca=pem.ca)))


class Alerted(Channel):
    """TLS 1.3 whose server tells behind the handshake that it misses our certificate."""

    __slots__ = ()

    async def send(self, data: bytes) -> None:
        assert data

    async def receive(self, size: int) -> bytes:
        error = ssl.SSLError(1, "[SSL: X] tlsv13 alert certificate required (_ssl.c:2580)")
        error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
        raise error


def test_a_refusal_behind_the_handshake_is_told_as_one_of_tls(run: Callable[..., Any]) -> None:
    async def log_in_there() -> None:
        with socket.socket() as sock:
            await log_in(Alerted(sock), PARAMETERS, None)

    with pytest.raises(ServerUnavailable) as caught:
        run(log_in_there())
    assert str(caught.value) == "SSL error: tlsv13 alert certificate required"
    assert not caught.value.temporary


def test_prefer_asks_again_once_postgres_has_refused_plain_text(run: Callable[..., Any]) -> None:
    refusal = error_response(severity="FATAL", sqlstate="28000", message="no encryption")

    async def refused(port: int) -> Address:
        dialer = Dialer(
            Hub(hub_settings(), FakeNet(), clock=time.monotonic),
            address(port, "prefer"),
            lambda *fault: pytest.fail(str(fault)),
        )
        with pytest.raises(ServerUnavailable, match="no encryption"):
            await dialer._login(PARAMETERS, None)
        return dialer.address

    with (
        ScriptedServer([Hear(), refusal, CLOSE]) as behind,
        TlsServer(behind.port, None, answer=b"N") as server,
    ):
        place = run(refused(server.port))
        assert server.spoken == ["declined"]
        assert place.encryption is not None
        assert not place.encryption.declined
