"""What a server owes, entry by entry. The model of Postgres is in tests/properties."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pytest

from pgguard.core.pipeline import (
    BIND,
    CALL,
    COPY_END,
    EXECUTE,
    MANY,
    PARSE,
    PARSE_NAMED,
    QUERY,
    QUERY_OURS,
    SYNC,
    Pipeline,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def pipeline(*entries: int) -> Pipeline:
    pipe = Pipeline()
    pipe.entries.extend(entries)
    return pipe


@pytest.mark.parametrize(
    ("entries", "due", "unsynced"),
    [
        ((), 0, False),
        ((QUERY,), 1, False),
        ((CALL,), 1, False),
        ((SYNC,), 1, False),
        ((PARSE, BIND), 0, True),
        ((PARSE, BIND, EXECUTE, SYNC), 1, False),
        ((QUERY, PARSE), 1, True),
        ((QUERY, PARSE, SYNC, QUERY), 3, False),
    ],
)
def test_due_counts_promises_and_unsynced_sees_an_open_batch(
    entries: tuple[int, ...], due: int, unsynced: bool
) -> None:
    pipe = pipeline(*entries)
    assert (pipe.due, pipe.unsynced) == (due, unsynced)


@pytest.mark.parametrize(
    ("entries", "left"),
    [
        ((), ()),
        ((QUERY,), ()),
        ((PARSE, BIND, EXECUTE, SYNC), ()),
        ((QUERY, PARSE, SYNC), (PARSE, SYNC)),
        ((PARSE, SYNC, BIND), (BIND,)),
        ((PARSE,), ()),
        ((QUERY, COPY_END, QUERY), (QUERY,)),
        ((QUERY, COPY_END), ()),
    ],
)
def test_ready_keeps_one_promise_and_says_whether_more_is_owed(
    entries: tuple[int, ...], left: tuple[int, ...]
) -> None:
    pipe = pipeline(*entries)
    assert pipe.ready() == bool(left)
    assert tuple(pipe.entries) == left


def test_what_is_never_answered_goes_with_what_stands_before_it() -> None:
    pipe = pipeline(QUERY_OURS, COPY_END, COPY_END, QUERY)
    assert pipe.pop() == QUERY_OURS
    assert pipe.entries == [QUERY]


@pytest.mark.parametrize(
    ("entries", "due", "unsynced", "left"),
    [
        ((PARSE, BIND, SYNC), 1, False, ()),
        ((PARSE, QUERY, SYNC, QUERY), 2, False, (QUERY,)),
        ((PARSE, QUERY), 0, True, ()),
        ((PARSE, CALL, BIND), 0, True, ()),
        ((QUERY, PARSE, SYNC), 2, False, (PARSE, SYNC)),
        ((SYNC, QUERY), 2, False, (QUERY,)),
        ((), 0, False, ()),
    ],
)
def test_an_error_in_a_batch_drops_what_stands_before_its_sync(
    entries: tuple[int, ...], due: int, unsynced: bool, left: tuple[int, ...]
) -> None:
    pipe = pipeline(*entries)
    pipe.failed()
    assert (pipe.due, pipe.unsynced) == (due, unsynced)
    pipe.ready()
    assert tuple(pipe.entries) == left
    assert not pipe.skipping


@pytest.mark.parametrize(
    ("entries", "ended", "left"),
    [
        ((QUERY,), False, (QUERY,)),
        ((PARSE, EXECUTE, SYNC), False, (PARSE, EXECUTE)),
        ((PARSE, EXECUTE, SYNC, SYNC), False, (PARSE, EXECUTE)),
        ((EXECUTE, SYNC, COPY_END, SYNC), True, (EXECUTE, SYNC)),
        ((EXECUTE, COPY_END, SYNC, QUERY), True, (EXECUTE, SYNC, QUERY)),
        ((QUERY, COPY_END, COPY_END, SYNC), True, (QUERY, COPY_END, SYNC)),
        ((COPY_END, QUERY, SYNC), False, (COPY_END, QUERY)),
    ],
)
def test_a_copy_takes_back_the_syncs_that_postgres_will_ignore(
    entries: tuple[int, ...], ended: bool, left: tuple[int, ...]
) -> None:
    pipe = pipeline(*entries)
    assert pipe.copy_in_begins() == ended
    assert tuple(pipe.entries) == left


def test_a_long_pipeline_of_single_answers_is_taken_from_its_head() -> None:
    pipeline = Pipeline()
    pipeline.entries += [BIND, EXECUTE] * MANY
    pipeline.stretch()
    assert isinstance(pipeline.entries, deque)
    assert [pipeline.pop(), pipeline.pop()] == [BIND, EXECUTE]
    before = pipeline.entries
    pipeline.stretch()
    assert pipeline.entries is before
    pipeline.entries.append(SYNC)
    assert not pipeline.ready()
    assert pipeline.entries == []


class Counted(list[int]):
    """Entries that count how often one of them was looked at from the end."""

    looked = 0

    def __reversed__(self) -> Iterator[int]:
        for entry in super().__reversed__():
            self.looked += 1
            yield entry


def test_what_is_passed_over_is_known_without_a_look_at_all_that_is_owed() -> None:
    one = Pipeline()
    one.entries = entries = Counted([PARSE_NAMED])
    assert not one.passes_over
    one.failed()
    for _ in range(1000):
        assert one.passes_over
        entries.append(EXECUTE)
    assert entries.looked == 1000
    entries.append(SYNC)
    assert not one.passes_over
    entries.append(PARSE_NAMED)
    assert not one.passes_over
    one.ready()
    assert not one.passes_over
