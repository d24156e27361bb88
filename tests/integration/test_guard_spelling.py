"""Sessions that read texts in different ways, on one server: nobody's settings become others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from guard import RunningGuard, settings_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgguard.launch.embedded import EmbeddedPostgres

pytestmark = pytest.mark.slow

TIMES = 3
"""How often the sessions have their turns, each of which makes the server another's."""


@pytest.fixture(params=["UTF8", "LATIN1", "SQL_ASCII"])
def database(postgres: EmbeddedPostgres, request: pytest.FixtureRequest) -> Iterator[str]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        text = "CREATE DATABASE spelled TEMPLATE template0 LOCALE 'C' ENCODING '{}'"
        connection.execute(text.format(request.param))
    yield postgres.url_of("spelled")
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE spelled WITH (FORCE)")


@pytest.fixture
def guard(database: str) -> Iterator[RunningGuard]:
    running = RunningGuard(settings_for(database, limits__connection_limit=1)).start()
    yield running
    running.close()


@pytest.fixture
def sessions(guard: RunningGuard) -> Iterator[list[psycopg.Connection[Any]]]:
    """Three of one client, which has one server."""
    some = [guard.connect("spelled") for _ in range(3)]
    yield some
    for session in some:
        session.close()


def told(session: psycopg.Connection[Any], setting: str) -> bytes:
    """The setting's value in bytes of the session's encoding, however Postgres quotes it."""
    cursor = psycopg.RawCursor(session)
    row = cursor.execute(f"SHOW {setting}".encode()).fetchone()
    assert row is not None
    assert cursor.pgresult is not None
    value = cursor.pgresult.get_value(0, 0)
    assert value is not None
    return value.strip(b'"')


def test_letters_beyond_ascii(sessions: list[psycopg.Connection[Any]]) -> None:
    latin, other, plain = sessions
    for session in (other, plain):
        session.execute("SET client_encoding = 'UTF8'")
    other.execute("SET search_path = 'schéma'".encode())
    latin.execute("SET client_encoding = 'LATIN1'")
    for _ in range(TIMES):
        assert told(other, "search_path") == "schéma".encode()
        assert told(plain, "search_path") == b'$user", public'
        assert told(latin, "client_encoding") == b"LATIN1"


def test_letters_that_were_written_in_another_encoding(
    guard: RunningGuard, sessions: list[psycopg.Connection[Any]]
) -> None:
    latin, _, plain = sessions
    latin.execute("SET client_encoding = 'LATIN1'")
    latin.execute("SET search_path = 'schéma'".encode("latin1"))
    for _ in range(TIMES):
        assert told(plain, "search_path") == b'$user", public'
        assert told(latin, "search_path") == "schéma".encode("latin1")
        assert told(latin, "client_encoding") == b"LATIN1"


@pytest.mark.parametrize("own", ["\\", "é\\é"])
def test_backslashes(sessions: list[psycopg.Connection[Any]], own: str) -> None:
    escaping, other, plain = sessions
    escaping.execute("SET standard_conforming_strings = off")
    escaping.execute("SET escape_string_warning = off")
    for session in (other, plain):
        session.execute("SET client_encoding = 'UTF8'")
    other.execute(f"SET search_path = 'a{own}\\b'".encode())
    for _ in range(TIMES):
        assert told(other, "search_path") == f"a{own}\\b".encode()
        assert told(plain, "standard_conforming_strings") == b"on"
        row = escaping.execute(rb"SELECT length('a\\b')").fetchone()
        assert row == (3,)


def test_short_timeouts(sessions: list[psycopg.Connection[Any]]) -> None:
    hurried, many, _ = sessions
    hurried.execute("SET statement_timeout = '20ms'")
    for name in ("work_mem", "maintenance_work_mem", "temp_buffers"):
        many.execute(f"SET {name} = '8MB'")
        hurried.execute(f"SET {name} = '9MB'")
    for _ in range(TIMES):
        assert told(many, "statement_timeout") == b"0"
        assert told(many, "work_mem") == b"8MB"
        assert told(hurried, "statement_timeout") == b"20ms"
        assert told(hurried, "temp_buffers") == b"9MB"
