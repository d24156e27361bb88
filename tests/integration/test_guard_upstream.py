"""A Postgres that is down, starts, hangs, lies or dies: each has a clear end, nothing is lost."""

from __future__ import annotations

import threading
import time
import urllib.error
from typing import TYPE_CHECKING

import pytest
from guard import until
from rawsession import RawSession
from scripted import (
    CLOSE,
    HANG,
    KEY,
    READY,
    RESET,
    TRUSTING,
    Hear,
    ScriptedServer,
    Slowly,
    Step,
    closed_port,
)

from pgguard.errors import ServerUnavailable, SettingsError
from pgguard.wire import backend, codes, frontend

if TYPE_CHECKING:
    from collections.abc import Callable

    from guard import RunningGuard

    Start = Callable[..., RunningGuard]

pytestmark = [pytest.mark.slow, pytest.mark.session_mode]

ROW = backend.message(codes.DATA_ROW, b"\0\1\0\0\0\1x")
ANSWER = ROW + backend.message(codes.COMMAND_COMPLETE, b"SELECT 1\0") + READY
SERVING: list[Step] = [Hear(), TRUSTING, Hear(), ANSWER]
STARTING_UP = backend.error_response(
    severity="FATAL", sqlstate="57P03", message="the database system is starting up"
)


def one_server(start: Start, server: ScriptedServer, **settings: object) -> RunningGuard:
    """A guard that asks this server nothing by itself but how it receives a user."""
    return start(server.url, limits__total=5, **settings)


def test_a_session_is_held_until_postgres_is_up(start_guard: Start) -> None:
    port = closed_port()
    guard = start_guard(f"postgresql://user@127.0.0.1:{port}/db?sslmode=disable", limits__total=5)
    with pytest.raises(urllib.error.HTTPError, match="503"):
        guard.http("/readyz")
    results: list[str] = []

    def work() -> None:
        with RawSession.open(guard) as session:
            results.append("served")
            session.send(frontend.terminate())

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: guard.guard.hub.upstream.last_error, "the first failure")
    assert results == []
    with ScriptedServer(SERVING, port=port):
        thread.join(5)
        assert results == ["served"]
        until(lambda: guard.guard.hub.counters.upstream_up, "the upstream up")
        assert guard.http("/readyz") == "ready\n"
        guard.idle()


def test_a_session_is_refused_with_the_cause_when_postgres_stays_down(start_guard: Start) -> None:
    port = closed_port()
    guard = start_guard(
        f"postgresql://user@127.0.0.1:{port}/db", limits__total=5, limits__pool_timeout="600ms"
    )
    began = time.monotonic()
    with RawSession.open_until_error(guard) as (_, error):
        assert time.monotonic() - began >= 0.45
        assert (error["S"], error["C"]) == ("FATAL", "57P03")
        assert f"cannot connect to 127.0.0.1:{port}: Connection refused" in error["M"]
    assert guard.guard.hub.admission.held == 0


def test_a_session_is_held_while_postgres_starts_up(start_guard: Start) -> None:
    starting: list[Step] = [Hear(), STARTING_UP, CLOSE]
    with ScriptedServer(starting, starting, starting, SERVING) as server:
        guard = one_server(start_guard, server)
        with RawSession.open(guard) as session:
            session.send(frontend.terminate())
        guard.idle()


def test_a_server_that_hangs_ends_in_time(start_guard: Start) -> None:
    with ScriptedServer([HANG]) as server:
        guard = one_server(
            start_guard,
            server,
            limits__pool_timeout="400ms",
            upstream__connect_timeout="300ms",
            upstream__wait="400ms",
        )
        with RawSession.open_until_error(guard) as (_, error):
            assert error["C"] == "57P03"
        with pytest.raises(ServerUnavailable, match="did not answer within"):
            guard.run(guard.guard.wait_upstream())


def test_a_server_that_hangs_does_not_hold_up_the_stop(start_guard: Start) -> None:
    with ScriptedServer([Hear(), TRUSTING, HANG]) as server:
        guard = one_server(start_guard, server)
        with RawSession.open(guard) as session:
            session.send(frontend.query(b"SELECT 1"))
            until(lambda: any(s.due for s in list(guard.guard.hub.servers)), "the statement")
            guard.stop(grace=0.1, within=6)


def test_deadlines_are_kept_while_the_service_connection_hangs(start_guard: Start) -> None:
    with ScriptedServer([Hear(), TRUSTING, HANG]) as server:
        guard = one_server(
            start_guard, server, limits__connection_limit=1, limits__pool_timeout="2s"
        )
        with (
            RawSession.open(guard, application_name="c"),
            RawSession.log_in(guard, application_name="c") as second,
        ):
            began = time.monotonic()
            assert second.error()["C"] == "53300"
            assert time.monotonic() - began >= 1.6


def test_look_ups_that_are_answered_with_nonsense_harm_nobody(
    start_guard: Start, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedServer([Hear(), TRUSTING, *[Hear(), ANSWER] * 30]) as server:
        guard = one_server(start_guard, server)
        with RawSession.open(guard) as session:
            until(lambda: "catalogue of 'db' not understood" in caplog.text, "the catalogue")
            until(lambda: "limits of Postgres not understood" in caplog.text, "the limits")
            assert session.query("SELECT 1")


def test_bytes_that_come_one_by_one_are_understood(start_guard: Start) -> None:
    slow: list[Step] = [Hear(), Slowly(TRUSTING), Hear(), Slowly(ANSWER)]
    with ScriptedServer(slow) as server:
        guard = one_server(start_guard, server)
        with RawSession.open(guard) as session:
            kinds = [kind for kind, _ in session.query("SELECT 1")]
            assert kinds == [codes.DATA_ROW, codes.COMMAND_COMPLETE, codes.READY_FOR_QUERY]


@pytest.mark.parametrize(
    "told",
    [
        [Hear(), CLOSE],
        [Hear(), RESET],
        [Hear(), backend.authentication_ok(), RESET],
        [Hear(), backend.authentication_ok() + KEY[:-2], CLOSE],
        [Hear(), READY, HANG],
        [Hear(), b"HTTP/1.1 400 Bad Request\r\n\r\n", CLOSE],
        [Hear(), b"R\xff\xff\xff\xff", HANG],
        [Hear(), backend.authentication_ok() + b"S\0\0\0\x06ab", HANG],
    ],
    ids=["closes", "resets", "resets later", "cuts", "lies", "http", "length", "layout"],
)
def test_a_login_at_postgres_that_goes_wrong_is_an_error_and_no_slot_is_lost(
    start_guard: Start, told: list[Step]
) -> None:
    with ScriptedServer(told) as server:
        guard = one_server(
            start_guard,
            server,
            limits__pool_timeout="300ms",
            upstream__connect_timeout="300ms",
        )
        with RawSession.open_until_error(guard) as (session, error):
            assert error["S"] == "FATAL"
            assert error["C"] in ("57P03", "28P01")
            assert session.ended()
        guard.idle()
        assert guard.guard.hub.admission.held == 0


@pytest.mark.parametrize(
    ("told", "sqlstate"),
    [
        ([RESET], "08006"),
        ([CLOSE], "08006"),
        ([ROW[:4], RESET], "08006"),
        ([ROW, b"Z\0\0\0\x63I", HANG], "08P01"),
        ([b"E\xff\xff\xff\xff", HANG], "08P01"),
        ([STARTING_UP, CLOSE], "57P03"),
    ],
    ids=["reset", "close", "cut header", "ready", "length", "fatal"],
)
def test_a_server_that_breaks_off_ends_its_session_with_one_error(
    start_guard: Start, told: list[Step], sqlstate: str
) -> None:
    with ScriptedServer(SERVING[:2], [Hear(), TRUSTING, Hear(), *told]) as server:
        guard = one_server(start_guard, server)
        with RawSession.open(guard) as session:
            session.send(frontend.query(b"SELECT 1"))
            error = session.error()
            assert (error["S"], error["C"]) == ("FATAL", sqlstate)
            assert session.ended()
        guard.idle()
        assert guard.guard.hub.admission.held == 0


def test_a_server_that_breaks_off_within_a_row_adds_nothing_to_it(start_guard: Start) -> None:
    half = backend.message(codes.DATA_ROW, b"\0\1\0\0\xff\xff" + bytes(65535))[:30_000]
    with ScriptedServer(SERVING[:2], [Hear(), TRUSTING, Hear(), half, CLOSE]) as server:
        guard = one_server(start_guard, server)
        with RawSession.open(guard) as session:
            session.send(frontend.query(b"SELECT 1"))
            taken = b""
            while data := session.socket.recv(65536):
                taken += data
        assert taken == half


def test_a_notice_and_a_setting_during_login_reach_the_session(start_guard: Start) -> None:
    notice = backend.notice_response(severity="WARNING", sqlstate="01000", message="take care")
    told = backend.parameter_status("flavour", "plum") + notice
    with ScriptedServer(SERVING[:2], [Hear(), TRUSTING[: -len(READY)] + told + READY]) as server:
        guard = one_server(start_guard, server)
        with RawSession.open(guard) as session:
            assert session.parameters["flavour"] == "plum"
            assert [said["M"] for said in session.notices] == ["take care"]
            assert session.pid == 4242
            assert session.secret != b"real"


@pytest.mark.parametrize("which", ["listen__address", "http__address"])
def test_a_port_that_is_taken_is_named_and_nothing_is_left(start_guard: Start, which: str) -> None:
    with ScriptedServer([HANG]) as server:
        address = f"127.0.0.1:{server.port}"
        with pytest.raises(SettingsError) as caught:
            start_guard(server.url, **{which: address})
        assert f"cannot listen on {address}: Address already in use" in str(caught.value)
        assert caught.value.where == ("--listen" if which == "listen__address" else "--http")
        assert "port 0 takes a free one" in caught.value.hint
