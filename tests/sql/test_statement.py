"""What a Statement says of itself before anybody judged it."""

from __future__ import annotations

import pickle

from pgguard.sql.facts.reading import read
from pgguard.sql.shape import shape
from pgguard.sql.statement import PENDING, Name, Statement


def test_a_new_statement_is_pending() -> None:
    statement = Statement(b"SELECT 1", shape(b"SELECT 1"))
    assert (statement.verdict, statement.version) == (PENDING, -1)
    assert (statement.code, statement.relations, statement.position) == ("", (), 0)


def test_the_fingerprint_is_of_the_shape_and_else_of_the_masked_text() -> None:
    one, other = (Statement(text, shape(text)) for text in (b"SELECT 1", b"SELECT 2"))
    assert one.fingerprint == other.fingerprint
    broken, twin = (Statement(text, shape(text)) for text in (b"SELECT 'a", b"SELECT 'b"))
    assert broken.shape is None
    assert broken.fingerprint == twin.fingerprint != one.fingerprint


def test_what_a_statement_shows_holds_no_literal() -> None:
    statement = Statement(b"SELECT 'secret', 4711", None)
    assert statement.masked == "SELECT '?', ?"
    assert "secret" not in repr(statement)
    unreadable = Statement(b"SELECT 'a\\'secret'", None, readable=False)
    assert "secret" not in unreadable.masked


def test_names_read_as_they_were_written() -> None:
    assert str(Name("", "t")) == "t"
    assert str(Name("s", "t")) == "s.t"


def test_facts_survive_the_way_from_the_worker() -> None:
    facts = read(b"INSERT INTO t (a) VALUES ($1) ON CONFLICT (a) DO UPDATE SET a = excluded.a")
    assert pickle.loads(pickle.dumps(facts)) == facts
