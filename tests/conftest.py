"""What every test may ask for: a real Postgres per test process, and fresh databases on it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pytest

from pgguard.launch.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count(1)


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
    """Postgres with SCRAM and max_connections 100; its superuser is `pgguard`."""
    with EmbeddedPostgres(max_connections=100) as server:
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
