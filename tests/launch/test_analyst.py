"""The worker for large texts: real processes, killed on purpose."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from pgguard.launch.analyst import Analyst
from pgguard.sql.facts.reading import read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LARGE = b"SELECT * FROM t WHERE id IN (" + b",".join(b"%d" % n for n in range(40_000)) + b")"


@asynccontextmanager
async def analyst(**options: float) -> AsyncIterator[Analyst]:
    one = Analyst(**options)
    try:
        yield one
    finally:
        await one.close()


@pytest.mark.slow
async def test_a_large_text_has_the_same_facts_as_it_would_have_here() -> None:
    async with analyst() as worker:
        assert await worker.facts(LARGE) == read(LARGE)


@pytest.mark.slow
async def test_one_worker_serves_many_texts_and_no_answer_is_mixed_up() -> None:
    async with analyst() as worker:
        texts = [b"SELECT * FROM t%d" % n for n in range(20)]
        answers = await asyncio.gather(*(worker.facts(text) for text in texts))
        first = worker.pid
        assert [answer and answer.parts[0].relations[0].name for answer in answers] == [
            f"t{n}" for n in range(20)
        ]
        assert await worker.facts(b"SELECT") is not None
        assert worker.pid == first


@pytest.mark.slow
async def test_a_text_that_takes_too_long_has_no_facts_and_the_next_one_has() -> None:
    async with analyst() as worker:
        await worker.facts(b"SELECT 1")
        first = worker.pid
        worker.seconds = 0.001
        assert await worker.facts(LARGE) is None
        assert worker.pid is None
        worker.seconds = 10.0
        assert await worker.facts(b"SELECT 1") == read(b"SELECT 1")
        assert worker.pid != first


@pytest.mark.slow
async def test_a_killed_worker_costs_one_text_at_most() -> None:
    async with analyst() as worker:
        await worker.facts(b"SELECT 1")
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        await worker.facts(b"SELECT 2")
        assert await worker.facts(b"SELECT 3") == read(b"SELECT 3")


@pytest.mark.slow
async def test_a_text_given_up_by_its_caller_does_not_answer_the_next() -> None:
    async with analyst() as worker:
        await worker.facts(b"SELECT 1")
        asking = asyncio.create_task(worker.facts(LARGE), name="given up")
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await worker.facts(b"SELECT 3") == read(b"SELECT 3")


@pytest.mark.slow
async def test_a_text_over_the_limit_is_not_read() -> None:
    async with analyst(limit=100) as worker:
        facts = await worker.facts(LARGE)
        assert facts is not None
        assert "tenancy.max_statement" in facts.unread


@pytest.mark.slow
async def test_after_close_no_process_is_left() -> None:
    async with analyst() as worker:
        await worker.facts(b"SELECT 1")
        pid = worker.pid
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
