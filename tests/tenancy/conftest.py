"""The schemas of tests/fixtures/scopes on a real Postgres, and judges that know them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from schemas import SCOPES, SETTINGS, read_catalogue

from pgguard.counters import ProcessCounters
from pgguard.tenancy.judge import Judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgguard.launch.embedded import EmbeddedPostgres
    from pgguard.tenancy.catalogue import Catalogue


@pytest.fixture(scope="session")
def schemas(postgres: EmbeddedPostgres) -> Iterator[dict[str, psycopg.Connection]]:
    """A connection to a database with each of the schemas."""
    connections = {}
    for name in SETTINGS:
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE scopes_{name}".encode())
        url = postgres.url_of(f"scopes_{name}")
        connections[name] = psycopg.connect(url, autocommit=True)
        connections[name].execute((SCOPES / f"{name}.schema.sql").read_bytes())
    yield connections
    for connection in connections.values():
        connection.close()


@pytest.fixture(scope="session")
def catalogues(schemas: dict[str, psycopg.Connection]) -> dict[str, Catalogue]:
    return {name: read_catalogue(connection) for name, connection in schemas.items()}


@pytest.fixture
def judge_of(catalogues: dict[str, Catalogue]) -> Callable[[str], Judge]:
    """A fresh judge that knows one of the schemas."""

    def make(name: str) -> Judge:
        judge = Judge(SETTINGS[name], ProcessCounters())
        judge.set_catalogue(catalogues[name])
        return judge

    return make
