"""The frontend port on raw sockets: negotiation, cancels, bad peers, and no descriptor left."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import os
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any

import pytest
from loops import LOOPS, on_both_loops, run_on
from ports import AUTHENTICATED, STARTUP, Port, listening, rest

from pgguard.errors import SettingsError
from pgguard.net import listener as module
from pgguard.net.certificates import Entrance
from pgguard.net.listener import bind, is_loopback
from pgguard.net.unix import UnixSocket
from pgguard.wire.codes import GSSENC_REQUEST, SSL_REQUEST
from pgguard.wire.startup import build_cancel, build_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


async def gone(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the connection ends."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


# Startup


@on_both_loops
async def test_a_session_comes_in() -> None:
    async with listening() as port:
        reader, writer = await port.connect(STARTUP)
        assert await reader.readexactly(9) == AUTHENTICATED
        (session,) = port.sessions
        assert (session.user, session.database, session.address) == ("app", "db", "127.0.0.1")
        assert session.loopback
        assert session.port == writer.get_extra_info("sockname")[1]
        writer.close()


@on_both_loops
async def test_a_startup_packet_may_come_byte_by_byte() -> None:
    async with listening() as port:
        ssl = build_request(SSL_REQUEST)
        reader, writer = await port.connect(*[bytes([byte]) for byte in ssl])
        assert await reader.readexactly(1) == b"N"
        for byte in STARTUP:
            writer.write(bytes([byte]))
            await writer.drain()
        assert await reader.readexactly(9) == AUTHENTICATED
        writer.close()


@on_both_loops
async def test_encryption_is_declined_once_each() -> None:
    async with listening() as port:
        requests = build_request(GSSENC_REQUEST), build_request(SSL_REQUEST)
        reader, writer = await port.connect(*requests, STARTUP)
        assert await reader.readexactly(11) == b"NN" + AUTHENTICATED
        writer.close()
        reader, writer = await port.connect(requests[0], requests[0])
        assert (await reader.readexactly(1)) == b"N"
        assert b"C0A000" in await gone(reader)
        writer.close()


@pytest.mark.parametrize(
    ("junk", "said"),
    [
        (b"\xff" * 64, b""),
        (b"GET / HTTP/1.1\r\n\r\n", b""),
        (b"\0\0\0\x08\0\0\0\0", b"SFATAL"),
        (b"\0\0\0\x07\0\x03\0\0", b""),
    ],
    ids=["ones", "http", "version", "short"],
)
async def test_what_is_no_startup_packet_gets_a_clear_end(junk: bytes, said: bytes) -> None:
    loop = asyncio.get_running_loop()
    async with listening() as port:
        with socket.create_connection(port.address) as sock:
            sock.setblocking(False)
            await loop.sock_sendall(sock, junk)
            try:
                answer = await loop.sock_recv(sock, 1000)
            except ConnectionResetError:
                # What was sent behind it had not been read.
                answer = b""
        assert said in answer
        assert bool(answer) is bool(said)
        reader, writer = await port.connect(STARTUP)
        assert await reader.readexactly(9) == AUTHENTICATED
        writer.close()


@pytest.mark.parametrize("length", [0, 7, 10_005, 2**31, 0x16030103])
async def test_on_a_length_that_no_packet_has_nothing_more_is_waited_for(length: int) -> None:
    async with listening() as port:
        reader, writer = await port.connect(struct.pack("!I", length))
        assert await gone(reader) == b""
        assert port.sessions == []
        writer.close()


async def test_one_slow_peer_delays_nobody() -> None:
    async with listening() as port:
        _, slow = await port.connect(b"\0")
        reader, writer = await port.connect(STARTUP)
        assert await reader.readexactly(9) == AUTHENTICATED
        writer.close()
        slow.close()


async def test_a_peer_that_says_nothing_is_dropped_in_time() -> None:
    async with listening() as port:
        hub = port.hub
        hub.settings = dataclasses.replace(hub.settings, login_timeout=0.1)
        reader, writer = await port.connect(b"\0\0\0")
        assert await gone(reader) == b""
        writer.close()


async def test_a_peer_that_leaves_at_once_leaves_nothing() -> None:
    async with listening() as port:
        for piece in (b"", b"\0", STARTUP[:12]):
            _, writer = await port.connect(piece)
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.close()
        reader, writer = await port.connect(STARTUP)
        assert await reader.readexactly(9) == AUTHENTICATED
        writer.close()
        async with asyncio.timeout(5):
            while port.sessions:
                await asyncio.sleep(0.01)


# Cancels


async def test_a_cancel_is_carried_out_before_its_connection_ends() -> None:
    async with listening() as port:
        port.may_end.clear()
        request = build_cancel(4711, b"key!")
        reader, writer = await port.connect(*[bytes([byte]) for byte in request])
        async with asyncio.timeout(5):
            while not port.cancels:
                await asyncio.sleep(0)
        assert port.cancels == [(4711, b"key!")]
        assert not reader.at_eof()
        port.may_end.set()
        assert await gone(reader) == b""
        assert port.sessions == []
        writer.close()


@pytest.mark.parametrize("length", [8, 12, 269, 2**31])
async def test_a_cancel_of_a_wrong_length_is_dropped_without_a_word(length: int) -> None:
    async with listening() as port:
        reader, writer = await port.connect(struct.pack("!II", length, 80877102))
        assert await gone(reader) == b""
        assert port.cancels == []
        writer.close()


# The port


def test_a_port_that_is_taken_is_named_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError) as caught:
            bind("127.0.0.1", port, what="--listen")
    assert str(caught.value).startswith(
        f"--listen: cannot listen on 127.0.0.1:{port}: Address already in use"
    )
    assert "port 0 takes a free one" in caught.value.hint


def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on 192\.0\.2\.1:0: "):
        bind("192.0.2.1", 0, what="--listen")


def test_every_address_of_a_host_is_listened_on() -> None:
    sockets = bind("127.0.0.1", 0, what="--listen")
    assert [sock.getsockname()[0] for sock in sockets] == ["127.0.0.1"]
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize(
    ("address", "so"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", False),
        ("10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("nonsense", False),
    ],
)
def test_loopback_is_known(address: str, so: bool) -> None:
    assert is_loopback(address) is so


async def test_accepting_goes_on_after_descriptors_have_run_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PAUSE_WITHOUT_DESCRIPTORS", 0.01)
    let_in, failures = module._let_in, [OSError(errno.EMFILE, "Too many open files")] * 3

    def scarce(sock: socket.socket) -> Any:
        if failures:
            raise failures.pop()
        return let_in(sock)

    monkeypatch.setattr(module, "_let_in", scarce)
    async with listening() as port:
        reader, writer = await port.connect(STARTUP)
        assert await reader.readexactly(9) == AUTHENTICATED
        writer.close()
    lines = [line for line in caplog.messages if "no descriptors left" in line]
    assert len(lines) == 1


async def test_stopping_ends_no_connection_that_is_there() -> None:
    async with listening() as port:
        reader, writer = await port.connect(STARTUP)
        await reader.readexactly(9)
        await port.listener.stop()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*port.address)
        assert len(port.sessions) == 1
        writer.close()


@on_both_loops
async def test_the_whole_way_in_has_one_time_limit() -> None:
    async with listening() as port:
        reader, writer = await port.connect(STARTUP[:5])
        await once(lambda: port.listener._crowd._entering)
        before = port.hub.clock()
        writer.write(STARTUP[5:9])
        await once(lambda: port.sessions)
        (session,) = port.sessions
        assert session.since <= before <= session.opened
        assert session.since < session.opened
        writer.close()
        await gone(reader)


async def once(is_so: Callable[[], object]) -> None:
    while not is_so():
        await asyncio.sleep(0.001)


@on_both_loops
async def test_each_is_sent_away_when_it_has_had_its_own_time() -> None:
    async with listening() as port:
        port.hub.settings = dataclasses.replace(port.hub.settings, login_timeout=0.05)
        left: list[int] = []

        async def stay(number: int) -> None:
            reader, writer = await port.connect(b"\0")
            assert await gone(reader) == b""
            left.append(number)
            writer.close()

        first = asyncio.ensure_future(stay(1))
        await once(lambda: port.listener._greetings)
        (late,) = port.listener._greetings._here
        second = asyncio.ensure_future(stay(2))
        await once(lambda: len(port.listener._greetings) == 2)
        late.since -= 0.04
        await asyncio.gather(first, second)
        assert sorted(left) == [1, 2]


@on_both_loops
async def test_nothing_is_paced_or_held_back_on_this_machine() -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        async with listening(sockets=bind(host, 0, what="--listen")) as port:
            port.address = ("127.0.0.1", port.address[1])
            reader, writer = await port.connect(STARTUP)
            assert await reader.readexactly(9) == AUTHENTICATED
            (session,) = port.sessions
            sock = session.out._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            if hasattr(socket, "TCP_CONGESTION"):
                chosen = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
                assert chosen.rstrip(b"\0") == b"reno"
            writer.close()


# Too many

FEW = 24
"""Descriptors: enough for 16 connections, 8 of them not logged in."""
NO_ROOM = b"C53300\0Msorry, too many clients already\0"


@on_both_loops
async def test_silent_connections_make_room_for_those_that_speak() -> None:
    async with listening(descriptors=FEW) as port:
        silent = [await port.connect() for _ in range(3 * FEW)]
        reader, writer = await port.connect(STARTUP)
        assert await reader.readexactly(9) == AUTHENTICATED
        # The oldest have gone, and were told why.
        assert NO_ROOM in await gone(silent[0][0])
        assert len(port.listener._crowd._entering) <= FEW
        for _, other in [*silent, (reader, writer)]:
            other.close()


@on_both_loops
async def test_who_has_logged_in_stays_and_who_comes_then_is_told() -> None:
    async with listening(descriptors=FEW) as port:
        inside = [await port.connect(STARTUP) for _ in range(16)]
        for reader, _ in inside:
            await reader.readexactly(9)
        reader, writer = await port.connect(build_request(SSL_REQUEST))
        assert await reader.readexactly(1) == b"N"
        writer.write(STARTUP)
        assert NO_ROOM in await gone(reader)
        assert len(port.sessions) == 16
        # A cancel needs no room.
        reader, other = await port.connect(build_cancel(7, b"abcd"))
        assert await gone(reader) == b""
        assert port.cancels == [(7, b"abcd")]
        for _, each in [*inside, (reader, writer), (reader, other)]:
            each.close()


async def test_only_so_many_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFUSING", 2)
    monkeypatch.setattr(module, "REFUSE_WITHIN", 0.05)
    async with listening(descriptors=FEW) as port:
        inside = [await port.connect(STARTUP) for _ in range(16)]
        for reader, _ in inside:
            await reader.readexactly(9)
        silent = [await port.connect() for _ in range(3)]
        assert await gone(silent[2][0]) == b""
        for reader, _ in silent[:2]:
            await gone(reader)
        assert port.listener._crowd.refusing == 0
        for _, writer in [*inside, *silent]:
            writer.close()


# Unix sockets


@contextlib.asynccontextmanager
async def listening_at(directory: Path, **settings: Any) -> AsyncIterator[Port]:
    made = UnixSocket(str(directory), 6433, backlog=5, what="listen.unix")
    port = Port([made.sock], **settings)
    port.listener.start()
    yield port
    await port.listener.stop()
    made.remove()
    port.hub.abort()
    await asyncio.sleep(0.01)
    await port.tasks.cancel()
    assert port.faults == []


@pytest.mark.parametrize("loop", LOOPS)
def test_a_session_over_a_unix_socket_is_known_by_its_process(loop: str, sockets: Path) -> None:
    async def come_in() -> None:
        async with listening_at(sockets) as port:
            path = f"{sockets}/.s.PGSQL.6433"
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(build_request(SSL_REQUEST) + STARTUP)
            assert await reader.readexactly(10) == b"N" + AUTHENTICATED
            (session,) = port.sessions
            assert (session.address, session.port, session.loopback) == ("[local]", 0, False)
            assert (session.peer_pid, session.peer_uid) == (os.getpid(), os.getuid())
            writer.close()

    run_on(loop, come_in())


async def test_tls_that_is_required_is_not_asked_of_a_unix_socket(sockets: Path) -> None:
    entrance = Entrance(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), required=True)
    async with listening_at(sockets, entrance=entrance) as port:
        reader, writer = await asyncio.open_unix_connection(f"{sockets}/.s.PGSQL.6433")
        writer.write(build_request(SSL_REQUEST) + STARTUP)
        assert await reader.readexactly(10) == b"N" + AUTHENTICATED
        assert len(port.sessions) == 1
        writer.close()


@on_both_loops
async def test_who_connected_before_the_stop_is_refused_in_words() -> None:
    async with listening() as port:
        knocking, writer = await port.connect(STARTUP[:5])
        while not port.listener._greetings:
            await asyncio.sleep(0)
        port.hub.drain()
        stopping = asyncio.ensure_future(port.listener.stop())
        await asyncio.sleep(0)
        writer.write(STARTUP[5:])
        await stopping
        told = await gone(knocking)
        assert told[:1] == b"E"
        assert b"C57P01\0" in told
        writer.close()


@on_both_loops
async def test_who_was_not_accepted_before_the_stop_is_refused_in_words_too() -> None:
    port = Port()
    # It never accepts: the connection stays in the backlog.
    knocking, writer = await port.connect(STARTUP)
    port.hub.drain()
    await port.listener.stop()
    assert b"C57P01\0" in await gone(knocking)
    writer.close()
    await port.tasks.cancel()


@on_both_loops
async def test_who_knocks_in_the_very_moment_of_the_stop_is_not_lost() -> None:
    for turns in range(4):
        async with listening() as port:
            await asyncio.sleep(0.01)
            with socket.create_connection(port.address, 5) as knocking:
                knocking.sendall(STARTUP)
                for _ in range(turns):
                    await asyncio.sleep(0)
                port.hub.drain()
                await port.listener.stop()
                assert b"C57P01\0" in await asyncio.to_thread(rest, knocking), turns


@on_both_loops
async def test_the_stop_does_not_wait_for_who_says_nothing() -> None:
    async with listening() as port:
        _, writer = await port.connect()
        while not port.listener._greetings:
            await asyncio.sleep(0)
        await port.listener.stop()
        writer.close()
