"""Who waits until Postgres answers again, and who of them may try, so that it meets no herd.

While Postgres is away one of all who wait tries, after `FIRST` seconds and then after longer ones,
up to `LONGEST`; once it has answered, everybody who was answered lets two others try, `AT_ONCE` at
most at the same time. Laws: first come, first served; nobody waits longer than his own patience;
sessions that only want to know how Postgres receives their user try together, as one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgguard.core.session import Session
    from pgguard.errors import ServerUnavailable
    from pgguard.pool.admission import Ticket

FIRST, LONGEST = 0.25, 1.0
FOLLOWERS = 2
AT_ONCE = 16


@dataclass(slots=True, eq=False)
class Waiting:
    """A session, its granted ticket if it has one, and why it could not connect."""

    session: Session
    ticket: Ticket | None
    error: ServerUnavailable


class Redials:
    """The queue."""

    __slots__ = ("_next", "_pause", "_queue")

    def __init__(self) -> None:
        self._queue: deque[Waiting] = deque()
        self._pause = FIRST
        self._next = 0.0

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._queue)

    def has(self, session: Session) -> bool:
        return any(waiting.session is session for waiting in self._queue)

    def add(self, waiting: Waiting, now: float) -> None:
        if not self._queue:
            self._next = now + self._pause
        self._queue.append(waiting)

    def due(self, now: float) -> list[Waiting]:
        """Who tries now while nothing is heard of Postgres."""
        if not self._queue or now < self._next:
            return []
        self._pause = min(2 * self._pause, LONGEST)
        self._next = now + self._pause
        return self._take(1)

    def answered(self, connecting: int, now: float) -> list[Waiting]:
        """Postgres has answered somebody, and `connecting` dials are under way."""
        self._pause = FIRST
        self._next = now + FIRST
        return self._take(min(FOLLOWERS, AT_ONCE - connecting))

    def _take(self, count: int) -> list[Waiting]:
        taken: list[Waiting] = []
        while self._queue and count > 0:
            first = self._queue.popleft()
            taken.append(first)
            count -= 1
            if first.ticket is None:
                taken += self._take_same(first.session)
        return taken

    def _take_same(self, session: Session) -> list[Waiting]:
        key = (session.user, session.database)
        return self.take_if(
            lambda other: (
                other.ticket is None and key == (other.session.user, other.session.database)
            )
        )

    def take_if(self, condition: Callable[[Waiting], bool]) -> list[Waiting]:
        """All for whom it holds; they wait no more."""
        taken = [waiting for waiting in self._queue if condition(waiting)]
        if taken:
            gone = set(taken)
            self._queue = deque(other for other in self._queue if other not in gone)
        return taken
