"""What every test may ask for: a real Postgres per test process, and fresh databases on it."""

from __future__ import annotations

import gc
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from guard import RunningGuard, settings_for
from hypothesis import HealthCheck, settings

from pgguard.launch.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("pgguard", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pgguard")

_numbers = itertools.count(1)
OF_GUARD = ("factory", "secrets", "reread")
"""Arguments of `start_guard` that are no settings."""


@dataclass(slots=True)
class Database:
    """A database of its own on the test server; dropped after the test."""

    name: str
    url: str
    host: str
    port: int
    user: str
    password: str


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """Postgres with SCRAM and max_connections 100; its superuser is `pgguard`. It also listens on
    unix sockets: in the directory of its data, and in the abstract namespace."""
    settings = {"unix_socket_directories": f".,@pgguard-tests-{os.getpid()}"}
    with EmbeddedPostgres(max_connections=100, settings=settings) as server:
        yield server


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield Database(
        name, postgres.url_of(name), postgres.host, postgres.port, postgres.user, postgres.password
    )
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A directory whose path is short enough for unix sockets."""
    with TemporaryDirectory(prefix="pgguard-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def start_guard(request: pytest.FixtureRequest) -> Iterator[Callable[..., RunningGuard]]:
    """Starts guards before an upstream URL; settings as `limits__pool_timeout="1s"`. Each is
    stopped after the test, and nothing may be left of it. What the mark `session_mode` is on holds
    where each session has a server of its own."""
    running: list[RunningGuard] = []
    mode = {"pool__mode": "session"} if request.node.get_closest_marker("session_mode") else {}

    def start(upstream: str, /, **values: Any) -> RunningGuard:
        values = mode | values
        own = {
            name: values.pop(name) for name in ("factory", "secrets", "reread") if name in values
        }
        running.append(RunningGuard(settings_for(upstream, **values), **own))
        return running[-1].start()

    yield start
    for guard in running:
        guard.close()
    gc.collect()


@pytest.fixture
def guard(start_guard: Callable[..., RunningGuard], database: Database) -> RunningGuard:
    """A guard with default settings before a fresh database."""
    return start_guard(database.url)
