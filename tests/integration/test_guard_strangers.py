"""Who comes: names and processes, bad input beside healthy clients, and secrets that stay so."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from commands import environment
from guard import until
from rawsession import RawSession

from pgguard.wire import codes, frontend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from guard import RunningGuard

pytestmark = [pytest.mark.slow, pytest.mark.session_mode]

CHILD = (
    "import sys, psycopg;"
    "session = psycopg.connect(sys.argv[1], autocommit=True);"
    "print('connected', flush=True);"
    "sys.stdin.read()"
)


@pytest.fixture
def children() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python programs that connect and hold their session until the test ends."""
    started: list[subprocess.Popen[str]] = []

    def start(url: str, **variables: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(**variables),
        )
        started.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "connected\n"
        return child

    yield start
    for child in started:
        child.communicate(timeout=10)


def names(guard: RunningGuard) -> set[str]:
    return guard.ask(lambda g: {key for key, client in g.hub.clients.items() if client.sessions})


# Who it is


def test_a_session_without_a_name_is_named_by_its_command(
    guard: RunningGuard, children: Callable[..., subprocess.Popen[str]]
) -> None:
    child = children(guard.url())
    (name,) = names(guard)
    assert re.match(r"python[\d.]* -c import sys, psycopg", name)
    assert str(child.pid) not in name
    assert "postgresql://" not in name
    assert guard.client(name).rule == "process"
    (waiter,) = guard.ask(lambda g: [s.process for s in g.hub.sessions])
    assert waiter is not None
    assert waiter.pid == child.pid


def test_workers_of_a_test_runner_are_clients_of_their_own(
    guard: RunningGuard, children: Callable[..., subprocess.Popen[str]]
) -> None:
    children(guard.url(), PYTEST_XDIST_WORKER="gw0")
    children(guard.url(), PYTEST_XDIST_WORKER="gw1")
    assert {name[-5:] for name in names(guard)} == {"(gw0)", "(gw1)"}


def test_two_live_processes_with_one_name_are_two_clients(
    guard: RunningGuard, children: Callable[..., subprocess.Popen[str]]
) -> None:
    url = guard.url(application_name="suite")
    children(url)
    children(url)
    assert names(guard) == {"suite", "suite #2"}
    assert [guard.client(name).share.held for name in ("suite", "suite #2")] == [1, 1]


def test_sessions_of_one_process_with_one_name_are_one_client(guard: RunningGuard) -> None:
    with guard.connect("mine"), guard.connect("mine"), guard.connect("mine"):
        assert names(guard) == {"mine"}
        assert guard.client("mine").share.held == 3


def test_a_suffix_of_the_user_names_the_client_and_is_no_part_of_the_role(
    guard: RunningGuard,
) -> None:
    with guard.connect(user="pgguard%worker3") as session:
        assert session.execute("SELECT current_user").fetchone() == ("pgguard",)
        assert names(guard) == {"worker3"}


# Bad input


JUNK = {
    "random": random.Random(1).randbytes(5000),
    "zeros": bytes(5000),
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "huge": b"\x7f\xff\xff\xff\0\3\0\0",
    "no user": b"\0\0\0\x09\0\3\0\0\0",
    "version 2": b"\0\0\0\x08\0\2\0\0",
    "version 4": b"\0\0\0\x08\0\4\0\0",
}


NO_PACKET = ("random", "zeros", "tls", "http", "huge")
"""What has no length of a packet: Postgres closes without a word."""


@pytest.mark.parametrize("name", JUNK)
def test_a_stranger_gets_a_clear_end_and_harms_nobody(guard: RunningGuard, name: str) -> None:
    with guard.connect("healthy") as session:
        with RawSession(guard.guard.listen) as stranger:
            stranger.send(JUNK[name])
            if name in NO_PACKET:
                assert stranger.ended()
            else:
                error = stranger.error()
                assert error["S"] == "FATAL"
                assert error["C"] in ("08P01", "0A000", "28000")
        assert session.execute("SELECT 1").fetchone() == (1,)
    guard.idle()


@pytest.mark.parametrize(
    "junk",
    [
        b"Q\0\0\0\x03",
        b"Q\x7f\xff\xff\xff",
        b"S\0\0\xff\xff",
        b"P\xff\xff\xff\xff",
    ],
    ids=["short", "oversized", "sync", "negative"],
)
def test_a_session_that_breaks_the_protocol_ends_alone(guard: RunningGuard, junk: bytes) -> None:
    with guard.connect("healthy") as session:
        with RawSession.open(guard, application_name="broken") as broken:
            broken.send(junk)
            # Postgres only logs an impossible length, and closes without a word.
            assert broken.ended()
        assert session.execute("SELECT 1").fetchone() == (1,)
    guard.idle()


def test_malformed_bodies_are_for_postgres_to_judge(guard: RunningGuard) -> None:
    for body in (b"", b"\0\0\0", b"no end", b"\xff" * 40):
        for kind in b"PBDECF":
            with RawSession.open(guard, application_name="broken") as session:
                size = (len(body) + 4).to_bytes(4, "big")
                session.send(bytes([kind]) + size + body + frontend.sync())
                kinds = set()
                try:
                    kinds = {kind for kind, _ in session.until_ready()}
                except EOFError:
                    continue
                assert codes.READY_FOR_QUERY in kinds
    guard.idle()


def test_a_login_is_not_waited_for_for_ever(start_guard: Any, database: Any) -> None:
    guard = start_guard(database.url, listen__login_timeout="200ms")
    with RawSession(guard.guard.listen) as silent, RawSession(guard.guard.listen) as half:
        half.send(b"\0\0\0\x30\0\3\0\0user\0")
        assert silent.ended()
        until(half.ended, "the end")
    guard.idle()


def test_many_strangers_at_once_harm_nobody(guard: RunningGuard) -> None:
    generator = random.Random(2)
    strangers = [RawSession(guard.guard.listen) for _ in range(100)]
    for stranger in strangers:
        stranger.send(generator.randbytes(generator.randrange(1, 200)))
    with guard.connect("healthy") as session:
        assert session.execute("SELECT 1").fetchone() == (1,)
    for stranger in strangers:
        stranger.reset()
    guard.idle()


# Secrets


def test_no_secret_is_in_log_or_answers(
    guard: RunningGuard, database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with guard.connect("quiet") as session:
        session.execute("SELECT 'literal-4711'")
        with pytest.raises(psycopg.OperationalError):
            guard.connect("wrong", password="mistaken-4712")
        with RawSession.log_in(guard, options="-c no_such=hidden-4713") as odd:
            odd.error()
        pages = [
            str(guard.http(path))
            for path in (
                "/metrics",
                "/readyz",
                *(f"/api/v1/{view}" for view in ("clients", "servers", "waiters", "findings")),
            )
        ]
    guard.stop()
    text = caplog.text + "".join(pages) + repr(guard.guard.upstream) + repr(guard.settings)
    assert "login of" in caplog.text
    for secret in (database.password, "literal-4711", "mistaken-4712"):
        assert secret not in text
