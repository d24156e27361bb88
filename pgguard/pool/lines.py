"""Those who wait for room, best first: a heap whose entries are dropped when they are met outdated.

Laws: a share stands in at most one line, with the entry it points to; an entry that its share no
longer points to is dead. So moving a share costs one push, and leaving costs nothing.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgguard.pool.tickets import Share

_SPARE = 64
"""Entries up to which a line is not cleared of dead ones."""


def place(share: Share) -> tuple[float, int]:
    """What lines are sorted by: held relative to the cap, then the age of the oldest ticket."""
    return share.held / share.cap, share.head.seq


class Line:
    """Shares by `place`."""

    __slots__ = ("_heap", "_limit")

    _pushes = count()

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, Share]] = []
        self._limit = _SPARE

    def put(self, share: Share) -> None:
        """Give the share its place by what it holds and who waits now; it leaves any other."""
        entry = (*place(share), next(self._pushes), share)
        share.entry = entry
        heappush(self._heap, entry)
        if len(self._heap) > self._limit:
            self._heap = [entry for entry in self._heap if entry[3].entry is entry]
            heapify(self._heap)
            self._limit = max(_SPARE, 2 * len(self._heap))

    def first(self) -> Share | None:
        """Whose turn it is."""
        heap = self._heap
        while heap:
            entry = heap[0]
            if entry[3].entry is entry:
                return entry[3]
            heappop(heap)
        return None
