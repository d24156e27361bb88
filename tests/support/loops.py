"""The event loops that pgguard runs on: tests of `net/` that are run on each, and waits on one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
WITHIN = 10.0


def run_on(loop: str, work: Coroutine[Any, Any, Any], within: float = WITHIN) -> Any:
    """Run to the end on the loop of this name."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(asyncio.wait_for(work, within))


def on_both_loops(test: Callable[[], Any]) -> Any:
    """Run the coroutine function on the stock loop and on uvloop."""

    @pytest.mark.parametrize("loop", LOOPS)
    def run(loop: str) -> None:
        run_on(loop, test())

    run.__doc__ = test.__doc__
    return run


async def run_until(work: Coroutine[Any, Any, object], is_so: Callable[[], Any]) -> None:
    """Let what never ends run until something has happened."""
    running = asyncio.ensure_future(work)
    async with asyncio.timeout(5):
        while not is_so():
            assert not running.done()
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.wait([running])
