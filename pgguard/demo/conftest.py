"""What every test file of the booking application gets: an engine with a pool, and visitors."""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.engine import make_url

VISITORS = 20
"""Who comes at once."""
POOL = 20
"""Connections that a test file keeps open once it has needed them, as SQLAlchemy's pool does."""


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Connects as the test file: `application_name` is what names a client for pgguard."""
    url = make_url(os.environ["DATABASE_URL"]).set(
        drivername=f"postgresql+{psycopg.dialect.driver}"
    )
    engine = create_engine(
        url,
        pool_size=POOL,
        max_overflow=0,
        connect_args={"application_name": request.path.name},
    )
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A connection for one test; what the test changes is rolled back."""
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def visit(engine: Engine) -> Callable[..., list[Any]]:
    """`visit(function, *arguments)`: twenty visitors at once, each on a connection of its own.

    No visitor waits for another one: each takes a connection, asks once and gives it back to the
    pool, where it stays open.
    """

    def one(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        with engine.connect() as connection:
            return function(connection, *arguments)

    def all_at_once(function: Callable[..., Any], *arguments: Any) -> list[Any]:
        with ThreadPoolExecutor(VISITORS) as pool:
            visits = [pool.submit(one, function, arguments) for _ in range(VISITORS)]
        return [done.result() for done in visits]

    return all_at_once


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """One JSON line per outcome for `pgguard demo`, written by the controlling process alone."""
    path = os.environ.get("PGGUARD_DEMO_OUTCOMES")
    if (
        path
        and "PYTEST_XDIST_WORKER" not in os.environ
        and (report.when == "call" or report.failed)
    ):
        line = {
            "file": report.nodeid.partition("::")[0].rpartition("/")[2],
            "test": report.nodeid.partition("::")[2],
            "outcome": report.outcome,
            "message": _last_line(report),
        }
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _last_line(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message if crash else ""
