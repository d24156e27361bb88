"""Large texts that are prepared and never executed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.counters import ProcessCounters
from pgguard.sql import cache
from pgguard.sql.cache import EXACT, SHAPED, TOO_MANY, StatementCache
from pgguard.sql.facts.reading import read

if TYPE_CHECKING:
    import pytest


def large(number: int) -> bytes:
    return b"select %d, '" % number + b"x" * SHAPED + b"'"


def test_of_large_texts_that_nobody_reads_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "UNREAD", 3 * SHAPED)
    kept = StatementCache(ProcessCounters())
    statements = [kept.get(large(number)) for number in range(5)]
    assert [len(statement.text) > SHAPED for statement in statements] == [False] * 3 + [True] * 2
    facts = statements[0].facts
    assert facts is not None
    assert facts.unread == TOO_MANY
    assert len(statements[0].text) == EXACT
    assert kept.get(large(0)) is statements[0]


def test_what_has_been_read_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "UNREAD", 3 * SHAPED)
    kept = StatementCache(ProcessCounters())
    first = kept.get(large(0))
    first.facts = facts = read(first.text)
    for number in range(1, 5):
        kept.get(large(number))
    assert first.facts is facts
