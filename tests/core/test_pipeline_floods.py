"""Pipelines of clients that send very much, and hardly ever or never a Sync."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from pgguard.core.pipeline import (
    BIND,
    CALL,
    CLOSE,
    COPY_END,
    DESCRIBE,
    EXECUTE,
    MANY,
    PARSE,
    QUERY,
    SYNC,
    Pipeline,
)


def sent(pipe: Pipeline, *entries: int) -> None:
    """One chunk of a session, as `Session.receive` books it."""
    pipe.entries.extend(entries)
    if len(pipe.entries) > MANY:
        pipe.shorten()


def test_a_session_that_never_sends_a_sync_owes_no_more_than_a_few_entries() -> None:
    pipe = Pipeline()
    for _ in range(1000):
        sent(pipe, *[PARSE, BIND, DESCRIBE, EXECUTE, CLOSE, COPY_END] * 20)
    assert len(pipe.entries) <= 2 * MANY
    assert pipe.unsynced
    assert pipe.due == 0
    sent(pipe, SYNC)
    assert pipe.due == 1
    assert not pipe.ready()


def test_queries_that_are_passed_over_after_an_error_are_not_kept() -> None:
    pipe = Pipeline()
    sent(pipe, PARSE)
    pipe.failed()
    for _ in range(1000):
        sent(pipe, *[QUERY, CALL] * 20)
    assert len(pipe.entries) <= 2 * MANY
    assert pipe.due == 0
    assert pipe.unsynced
    sent(pipe, SYNC, QUERY)
    assert pipe.due == 2
    assert pipe.ready()
    assert not pipe.ready()


def test_every_promise_of_a_deep_pipeline_is_kept() -> None:
    pipe = Pipeline()
    sent(pipe, *[PARSE, BIND, EXECUTE, SYNC, QUERY] * 5000)
    assert pipe.due == 10_000
    for left in range(9_999, 0, -1):
        assert pipe.ready(), left
    assert not pipe.ready()
    assert pipe.entries == []


def test_a_deep_pipeline_is_one_that_its_front_can_be_taken_from_cheaply() -> None:
    pipe = Pipeline()
    sent(pipe, *[SYNC] * (2 * MANY))
    assert isinstance(pipe.entries, deque)


def test_many_copies_sent_blindly_begin_and_end_one_by_one() -> None:
    pipe = Pipeline()
    sent(pipe, *[QUERY, SYNC, COPY_END] * 2000)
    for left in range(1999, -1, -1):
        assert pipe.copy_in_begins()
        assert pipe.ready() == bool(left)


@given(
    st.lists(st.sampled_from([PARSE, BIND, DESCRIBE, EXECUTE, CLOSE, SYNC, QUERY, CALL])),
    st.integers(0, 10),
    st.booleans(),
)
def test_what_was_left_out_is_not_missed(entries: list[int], answered: int, failed: bool) -> None:
    plain, short = Pipeline(), Pipeline()
    for pipe in (plain, short):
        pipe.entries.extend(entries)
        if failed:
            pipe.failed()
    short._limit = 0
    short.shorten()
    for _ in range(answered):
        assert (short.due, short.unsynced, bool(short.entries)) == (
            plain.due,
            plain.unsynced,
            bool(plain.entries),
        )
        assert short.ready() == plain.ready()
