"""Bug class: a text that kills or stalls the process that parses it (reliability R38 to R40)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rawsession import RawSession

from pgguard.wire import backend, codes, frontend

if TYPE_CHECKING:
    from guard import RunningGuard

pytestmark = pytest.mark.slow

LETHAL = {
    "operators": "SELECT 1" + " - 1" * 30_000,
    "unions": "SELECT 1" + " UNION ALL SELECT 1" * 20_000,
    "casts": "SELECT 1" + "::int" * 40_000,
    "parentheses": "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
    "joins": "SELECT FROM pg_class" + " CROSS JOIN pg_class" * 25_000,
}


def test_one_statement_killed_the_proxy(guard: RunningGuard) -> None:
    """Section 1 (pglast dies with SIGSEGV), pgdog#921, #788, #654.

    Postgres says what it thinks of the text, its session goes on, and so does a neighbour.
    """
    with RawSession.open(guard) as session, RawSession.open(guard) as neighbour:
        session.query("SET statement_timeout = '5s'")
        for what, text in LETHAL.items():
            session.send(frontend.query(text.encode()))
            assert rows(neighbour.query("SELECT 'neighbour'")) == [b"neighbour"], what
            session.until_ready()
            assert rows(session.query("SELECT 'after'")) == [b"after"], what
    guard.idle()


def test_what_the_checker_saw_was_not_what_the_server_got(guard: RunningGuard) -> None:
    """Section 1.3: a text behind a NUL is refused by Postgres, and nothing of it runs."""
    with RawSession.open(guard) as session:
        session.query("CREATE TABLE t (a int)")
        hidden = b"SELECT 1\0; INSERT INTO t VALUES (1)"
        session.send(backend.message(codes.QUERY, hidden + b"\0"))
        error = session.error()
        assert error["C"] == "08P01"
        session.until_ready()
        assert rows(session.query("SELECT count(*) FROM t")) == [b"0"]
    guard.idle()


def rows(messages: list[tuple[int, bytes]]) -> list[bytes | None]:
    return [backend.decode_row(body)[0] for kind, body in messages if kind == codes.DATA_ROW]
