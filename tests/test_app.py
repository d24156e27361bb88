"""The composition root: what settings become, how a guard starts, reloads and tells of itself."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import TYPE_CHECKING, Any

import pytest
from guard import settings_for, until
from rawsession import RawSession
from scripted import TRUSTING, Hear, ScriptedServer, closed_port

from pgguard import app, events
from pgguard.app import Guard
from pgguard.errors import ServerUnavailable, SettingsError
from pgguard.settings.schema import Settings, fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from guard import RunningGuard

NOWHERE = "postgresql://user:hush@127.0.0.1:1/db"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Stands in for a Postgres that lets everybody in and never answers."""
    with ScriptedServer([Hear(), TRUSTING]) as server:
        yield server


@pytest.fixture
def guard(start_guard: Callable[..., RunningGuard], server: ScriptedServer) -> RunningGuard:
    return start_guard(server.url, limits__total=5)


# Settings


def test_a_guard_needs_something_to_guard() -> None:
    with pytest.raises(SettingsError, match="nothing to guard"):
        Guard(Settings())


def test_secrets_come_from_the_url_the_settings_and_the_caller() -> None:
    settings = settings_for(NOWHERE, auth__users={"other": "word"})
    guard = Guard(settings, secrets={"third": "pw", "user": "not this"})
    held = {name: guard.hub.secrets.get(name) for name in ("user", "other", "third", "fourth")}
    assert [secret and secret.password for secret in held.values()] == ["hush", "word", "pw", None]


# Start


def test_a_guard_starts_without_its_postgres(start_guard: Callable[..., RunningGuard]) -> None:
    guard = start_guard(f"postgresql://user:hush@127.0.0.1:{closed_port()}/db")
    until(lambda: guard.guard.hub.upstream.last_error, "the failure")
    ready, reason = guard.guard.ready()
    assert not ready
    assert "Connection refused" in reason
    host, port = guard.guard.listen
    assert guard.guard.url == f"postgresql://user:hush@{host}:{port}/db"
    assert guard.guard.http == "http://{}:{}".format(*guard.guard.http_address)


def test_waiting_for_postgres_ends_with_the_last_cause(
    start_guard: Callable[..., RunningGuard],
) -> None:
    port = closed_port()
    for wait in ("300ms", "0s"):
        guard = start_guard(f"postgresql://user@127.0.0.1:{port}/db", upstream__wait=wait)
        with pytest.raises(ServerUnavailable, match=f"cannot connect to 127.0.0.1:{port}"):
            guard.run(guard.guard.wait_upstream())


def test_an_error_that_waiting_cannot_mend_is_told_at_once(
    start_guard: Callable[..., RunningGuard], postgres: Any
) -> None:
    guard = start_guard(postgres.url_of("nowhere"), upstream__wait="60s")
    with pytest.raises(ServerUnavailable, match='database "nowhere" does not exist'):
        guard.run(guard.guard.wait_upstream())


def test_the_version_of_postgres_is_known(
    start_guard: Callable[..., RunningGuard], postgres: Any
) -> None:
    guard = start_guard(postgres.url)
    version = guard.run(guard.guard.wait_upstream())
    assert version == guard.guard.upstream_version
    assert int(version.partition(".")[0]) >= 13
    assert guard.guard.ready() == (True, "")


# Reload


def test_a_reload_names_what_takes_a_restart(
    guard: RunningGuard, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgguard")
    settings = settings_for(
        server.url, limits__total=4, limits__connection_limit=2, listen__address="127.0.0.1:7"
    )
    with RawSession.open(guard, application_name="c"):
        guard.run(guard.guard.reload(settings))
        assert guard.client("c").limits.connection_limit == 2
        assert guard.guard.hub.admission.total == 4
        until(lambda: "settings read again" in caplog.text, "the event")
        assert "listen.address has changed: that takes a restart" in caplog.text
        assert "limits.total has changed" not in caplog.text
        caplog.clear()
        guard.run(guard.guard.reload(settings))
        assert "listen.address has changed: that takes a restart" in caplog.text
        caplog.clear()
        guard.run(guard.guard.reload(settings_for(server.url)))
        assert "that takes a restart" not in caplog.text


def test_a_broken_file_changes_nothing(
    start_guard: Callable[..., RunningGuard], server: ScriptedServer
) -> None:
    def reread() -> Settings:
        raise SettingsError("unknown key", where="pgguard.toml:3")

    guard = start_guard(server.url, limits__total=5, reread=reread)
    before = guard.guard.settings
    with pytest.raises(SettingsError, match=r"pgguard\.toml:3"):
        guard.run(guard.guard.reread())
    assert guard.guard.settings is before
    assert guard.guard.hub.admission.total == 5


def test_a_total_that_becomes_auto_is_read(
    start_guard: Callable[..., RunningGuard], postgres: Any
) -> None:
    guard = start_guard(postgres.url, limits__total=5)
    until(lambda: guard.guard.hub.counters.upstream_up, "the first look")
    guard.run(guard.guard.reload(settings_for(postgres.url)))
    until(lambda: (guard.guard.hub.admission.total or 0) > 50, "the total")


# Faults


class Failing:
    """An observer that fails at its first batch."""

    def __init__(self) -> None:
        self.batches = 0

    def on_batch(self, batch: Sequence[events.Event], /) -> None:
        assert batch
        self.batches += 1
        raise ZeroDivisionError("on purpose")


def test_an_observer_that_fails_gets_no_more_and_harms_nobody(guard: RunningGuard) -> None:
    failing = Failing()
    guard.ask(lambda g: g._subscribers.insert(0, failing))
    for _ in range(2):
        RawSession.open(guard, application_name="c").socket.close()
        guard.idle()
        until(lambda: not guard.guard.hub.events, "the events handed on")
    assert failing.batches == 1
    guard.expected_faults = 1


def test_a_deadline_that_fails_does_not_stop_the_clock(
    guard: RunningGuard, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def tick(self, now: float) -> None:
            raise ZeroDivisionError(str(now))

    upstream = guard.guard.hub.upstream
    guard.guard.hub.upstream = Broken()  # type: ignore[assignment]
    until(lambda: caplog.text.count("internal error in tick") >= 2, "two ticks")
    guard.guard.hub.upstream = upstream
    guard.expected_faults = guard.ask(lambda g: g.hub.counters.internal_errors)


@pytest.mark.session_mode
def test_a_guard_that_cannot_load_what_judges_serves_all_the_same_and_tries_again(
    guard: RunningGuard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []

    def load() -> None:
        tried.append(len(tried))
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(app.parse, "load", load)
    for _ in range(2):
        RawSession.open(guard, application_name="c").socket.close()
        guard.idle()
    assert len(tried) >= 2
    assert "not ready to judge statements yet: [Errno 24] Too many open files" in caplog.text
    assert guard.guard.hub.admission.held == 0


def test_a_search_for_processes_that_fails_lets_sessions_in(
    guard: RunningGuard, caplog: pytest.LogCaptureFixture
) -> None:
    class Blind:
        def find(self, ports: object, peer_port: int) -> dict[int, object]:
            raise ZeroDivisionError("on purpose")

    guard.guard._identification.peers = Blind()  # type: ignore[assignment]
    for _ in range(2):
        RawSession.open(guard).socket.close()
        guard.idle()
    assert "internal error in identify" in caplog.text
    assert set(guard.guard.hub.clients) == {"127.0.0.1"}
    guard.expected_faults = 2


def test_the_summary_of_a_guard_that_nobody_used_says_so(
    start_guard: Callable[..., RunningGuard],
) -> None:
    guard = start_guard(f"postgresql://user@127.0.0.1:{closed_port()}/db")
    guard.stop()
    summary = guard.guard.summary(reason_nothing="nobody came")
    assert summary.sessions == 0
    assert summary.reason == "nobody came"


async def test_a_guard_that_could_not_start_leaves_nothing(server: ScriptedServer) -> None:
    guard = Guard(settings_for(server.url, http__address=f"127.0.0.1:{server.port}"))
    with pytest.raises(SettingsError, match="--http"):
        await guard.start()
    assert len(asyncio.all_tasks()) == 1
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*guard.listen)


def test_what_takes_a_restart_is_a_key() -> None:
    for prefix in app.NEEDS_RESTART:
        assert any(key.startswith(prefix) for key in fields())
