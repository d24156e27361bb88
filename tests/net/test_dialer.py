"""Logins at a server that behaves in every way a server may, and some that it may not."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
from core_fakes import World
from scripted import (
    CLOSE,
    HANG,
    READY,
    RESET,
    TRUSTING,
    Hear,
    ScriptedServer,
    Slowly,
    Step,
    closed_port,
)

from pgguard.core.login import Method
from pgguard.core.secrets import Secret, Secrets
from pgguard.core.states import SessionState
from pgguard.errors import ProtocolViolation, ServerUnavailable
from pgguard.net.certificates import Encryption
from pgguard.net.channel import Channel
from pgguard.net.dialer import Address, Dialer, connect, log_in, open_channel
from pgguard.wire import backend
from pgguard.wire.auth import ScramServer, Verifier, md5_response, md5_secret
from pgguard.wire.codes import PASSWORD
from pgguard.wire.startup import build_cancel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pgguard.core.server_login import ServerLogin

PARAMETERS = {"user": "app", "database": "db"}


def address(server: ScriptedServer, timeout: float = 5.0) -> Address:
    return Address("127.0.0.1", server.port, timeout)


async def login_at(server: ScriptedServer, **secrets: str) -> tuple[ServerLogin, bytes]:
    sock = await connect(address(server))
    try:
        return await log_in(Channel(sock), PARAMETERS, Secrets(secrets).get("app"))
    finally:
        sock.close()


# connect


async def test_a_connection_that_is_refused_says_where_and_why() -> None:
    port = closed_port()
    with pytest.raises(ServerUnavailable) as caught:
        await connect(Address("127.0.0.1", port))
    assert str(caught.value) == f"cannot connect to 127.0.0.1:{port}: Connection refused"
    assert caught.value.temporary


async def test_a_host_that_does_not_exist_is_named() -> None:
    with pytest.raises(ServerUnavailable, match='cannot resolve "no such host"'):
        await connect(Address("no such host", 1))


async def test_an_address_in_digits_waits_for_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked(*_: object, **__: object) -> None:
        raise AssertionError("the loop was asked, and so a thread")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", asked)
    with ScriptedServer([HANG]) as server:
        (await connect(address(server))).close()


async def test_small_messages_are_not_held_back() -> None:
    with ScriptedServer([HANG]) as server:
        sock = await connect(address(server))
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        sock.close()


# log_in


@pytest.mark.parametrize("cut", [bytes, Slowly], ids=["whole", "byte by byte"])
async def test_a_trusting_server_lets_us_in(cut: Callable[[bytes], Step]) -> None:
    notification = b"A\0\0\0\x0e\0\0\0\x01a\0bcde\0"
    with ScriptedServer([Hear(), cut(TRUSTING + notification)]) as server:
        login, rest = await login_at(server)
        assert login.method is Method.TRUST
        assert (login.pid, login.secret_key) == (4242, b"real")
        assert login.parameters["server_version"] == "16.1"
        # What came behind ReadyForQuery may still be on its way when it comes in pieces.
        assert notification.startswith(rest)
        assert server.heard[0].startswith(len(server.heard[0]).to_bytes(4, "big"))


async def test_an_md5_challenge_is_answered() -> None:
    challenge = backend.authentication_md5(b"salt")
    with ScriptedServer([Hear(), challenge, Hear(), TRUSTING]) as server:
        login, _ = await login_at(server, app="secret")
        assert login.method is Method.MD5
        answer = md5_response(md5_secret("app", "secret"), b"salt").encode()
        assert server.heard[0].endswith(answer + b"\0")
        assert b"secret" not in server.heard[0]


async def test_a_clear_text_password_is_given_where_it_is_asked_for() -> None:
    with ScriptedServer([Hear(), backend.authentication_cleartext(), Hear(), TRUSTING]) as server:
        await login_at(server, app="secret")
        assert server.heard[0].endswith(b"p\0\0\0\x0bsecret\0")


async def test_a_server_that_does_not_prove_itself_is_not_trusted() -> None:
    sasl = backend.authentication_sasl([b"SCRAM-SHA-256"])
    with (
        ScriptedServer([Hear(), sasl, Hear(), TRUSTING]) as server,
        pytest.raises(ProtocolViolation, match="did not prove"),
    ):
        await login_at(server, app="secret")


async def test_scram_is_spoken_to_the_end() -> None:
    verifier = Verifier.derive("secret", b"0123456789abcdef")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        scram = ScramServer(verifier, nonce=os.urandom(18))
        size = int.from_bytes(await reader.readexactly(4), "big")
        await reader.readexactly(size - 4)
        writer.write(backend.authentication_sasl([b"SCRAM-SHA-256"]))
        first = (await message(reader)).split(b"\0", 1)[1][4:]
        writer.write(backend.authentication_sasl_continue(scram.first(first)))
        final = scram.final(await message(reader))
        writer.write(backend.authentication_sasl_final(final) + TRUSTING)
        writer.close()

    async def message(reader: asyncio.StreamReader) -> bytes:
        kind, *length = await reader.readexactly(5)
        assert kind == PASSWORD
        return await reader.readexactly(int.from_bytes(bytes(length), "big") - 4)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sock = await connect(Address("127.0.0.1", port))
        login, _ = await log_in(Channel(sock), PARAMETERS, Secret("secret"))
        sock.close()
    assert login.method is Method.SCRAM


async def test_a_password_that_we_do_not_hold_is_told_as_postgres_tells_it() -> None:
    with (
        ScriptedServer([Hear(), backend.authentication_cleartext()]) as server,
        pytest.raises(ServerUnavailable) as caught,
    ):
        await login_at(server)
    assert caught.value.fields["C"] == "28P01"
    assert not caught.value.temporary


async def test_an_error_of_postgres_keeps_its_fields() -> None:
    error = backend.error_response(
        severity="FATAL", sqlstate="3D000", message='database "db" does not exist', hint="make it"
    )
    with (
        ScriptedServer([Hear(), error]) as server,
        pytest.raises(ServerUnavailable) as caught,
    ):
        await login_at(server)
    assert (caught.value.fields["C"], caught.value.fields["H"]) == ("3D000", "make it")
    assert not caught.value.temporary


async def test_a_greeting_without_end_is_cut_off() -> None:
    endless = backend.authentication_ok() + backend.parameter_status("n", "x" * 1000) * 1200
    with (
        ScriptedServer([Hear(), endless]) as server,
        pytest.raises(ProtocolViolation, match="more than 1 MiB"),
    ):
        await login_at(server)


# Dialer


class Dialling:
    """A dialer whose hub has one session; with a method of login that is known, it is dialled."""

    def __init__(self, there: Address, method: Method | None = Method.TRUST) -> None:
        self.world = World(method=method)
        self.faults: list[tuple[str, BaseException]] = []
        self.dialer = Dialer(self.world.hub, there, lambda *fault: self.faults.append(fault))
        self.session = self.world.enter()

    async def dial(self) -> None:
        (server,) = self.world.hub.servers
        await self.dialer.dial(server, PARAMETERS)

    @property
    def said(self) -> str:
        """What the session was told, and what the hub remembers of Postgres."""
        told = self.world.outs[self.session].written.decode("latin-1")
        return told + self.world.hub.upstream.last_error


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([Hear(), CLOSE], "Postgres closed the connection during login"),
        ([Hear(), RESET], "connection lost during login"),
        ([Hear(), READY], "before AuthenticationOk"),
        ([Hear(), b"R\0\0\0\0"], "invalid message length"),
        ([HANG], "did not answer within 0.2 s (upstream.connect_timeout)"),
    ],
    ids=["close", "reset", "order", "length", "hang"],
)
async def test_a_dial_that_fails_tells_why_and_leaves_no_server(
    told: list[Step], words: str
) -> None:
    with ScriptedServer(told) as server:
        dialling = Dialling(address(server, 0.2))
        await dialling.dial()
    assert words in dialling.said
    assert not dialling.world.hub.servers
    assert dialling.faults == []
    dialling.world.end()


async def test_a_dial_that_is_cancelled_leaves_no_server() -> None:
    with ScriptedServer([HANG]) as server:
        dialling = Dialling(address(server))
        dial = asyncio.ensure_future(dialling.dial())
        while not server.heard:
            await asyncio.sleep(0)
        dial.cancel()
        await asyncio.wait([dial])
    assert dial.cancelled()
    assert not dialling.world.hub.servers
    dialling.world.end()


async def test_a_dial_ends_in_a_session_that_may_begin() -> None:
    with ScriptedServer([Hear(), TRUSTING, CLOSE]) as server:
        dialling = Dialling(address(server))
        await dialling.dial()
        assert dialling.session.state is SessionState.LINKED
        while dialling.world.hub.servers:
            await asyncio.sleep(0)
    dialling.world.end()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (backend.authentication_ok(), b"R\0\0\0\x08\0\0\0\0"),
        (b"R\0\0\0\x08", b"Postgres is not ready: Postgres does not answer: no answer in time"),
        (READY, b"server began its login with message type 90"),
    ],
    ids=["trust", "hang", "lie"],
)
async def test_a_probe_learns_how_postgres_receives_a_user(answer: bytes, said: bytes) -> None:
    with ScriptedServer([Hear(), answer]) as server:
        dialling = Dialling(address(server, 0.2), method=None)
        # Longer than anybody is held for.
        dialling.world.clock.now += 30
        await dialling.dialer.probe("app", "shop")
        assert said in dialling.world.outs[dialling.session].written
        assert b"database\0shop\0" in server.heard[0]
        assert b"application_name" not in server.heard[0]
    dialling.world.end()


@pytest.mark.parametrize(
    "answer",
    [backend.authentication_cleartext(), backend.authentication_sasl([b"SCRAM-SHA-256"])],
)
async def test_whoever_is_asked_for_what_we_do_not_hold_is_left_to_postgres(answer: bytes) -> None:
    with ScriptedServer([Hear(), answer]) as server:
        dialling = Dialling(address(server), method=None)
        await dialling.dialer.probe("app", "shop")
        assert dialling.session.relay is not None
    dialling.world.end()


async def test_a_cancel_is_sent_and_its_end_is_waited_for() -> None:
    with ScriptedServer([Hear(), CLOSE]) as server:
        dialling = Dialling(address(server))
        await dialling.dialer.cancel(4242, b"real")
        assert server.heard == [build_cancel(4242, b"real")]
    dialling.world.end()


async def test_a_cancel_that_nobody_takes_is_given_up() -> None:
    dialling = Dialling(Address("127.0.0.1", closed_port()))
    await dialling.dialer.cancel(4242, b"real")
    dialling.world.end()


# Unix sockets


async def test_a_server_behind_a_unix_socket_is_reached(sockets: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{sockets}/.s.PGSQL.5432")
        listening.listen(1)
        sock = await connect(Address(str(sockets), 5432))
        assert sock.gettimeout() == 0
        sock.close()


@pytest.mark.parametrize(("knows_all", "said"), [(True, "R"), (False, "Peer authentication")])
async def test_a_stranger_tells_trust_from_what_knows_our_uid(
    sockets: Path, knows_all: bool, said: str
) -> None:
    refused = backend.error_response(severity="FATAL", sqlstate="28000", message="Peer")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{sockets}/.s.PGSQL.5432")
        listening.listen(2)
        dialling = Dialling(Address(str(sockets), 5432), method=None)
        probe = asyncio.ensure_future(dialling.dialer.probe("app", "shop"))
        asked = []
        for answer in (TRUSTING, TRUSTING if knows_all else refused):
            sock = (await asyncio.to_thread(listening.accept))[0]
            with sock:
                asked.append(sock.recv(4096))
                sock.sendall(answer)
        await probe
    assert b"user\0app\0" in asked[0]
    assert b"user\0pgguard_" in asked[1]
    assert dialling.said.startswith(said) or f"M{said}" in dialling.said
    dialling.world.end()


async def test_a_socket_that_is_not_there_is_named_by_its_path(sockets: Path) -> None:
    with pytest.raises(ServerUnavailable) as caught:
        await connect(Address(str(sockets), 5432))
    path = f"{sockets}/.s.PGSQL.5432"
    assert str(caught.value) == f"cannot connect to {path}: No such file or directory"
    assert caught.value.temporary


async def test_a_socket_whose_queue_is_full_is_tried_until_it_is_not(sockets: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{sockets}/.s.PGSQL.5432")
        listening.listen(0)
        first = await connect(Address(str(sockets), 5432))
        waiting = asyncio.ensure_future(connect(Address(str(sockets), 5432)))
        await asyncio.wait([waiting], timeout=0.05)
        assert not waiting.done()
        accepted, _ = listening.accept()
        second = await waiting
        for sock in (first, second, accepted):
            sock.close()


async def test_nobody_asks_for_tls_over_a_unix_socket(sockets: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{sockets}/.s.PGSQL.5432")
        listening.listen(1)
        tls = Encryption("require", ssl.create_default_context())
        channel = await open_channel(Address(str(sockets), 5432, encryption=tls))
        assert type(channel) is Channel
        accepted, _ = listening.accept()
        accepted.setblocking(False)
        with pytest.raises(BlockingIOError):
            accepted.recv(1)
        channel.close()
        accepted.close()
