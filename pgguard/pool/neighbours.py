"""Other guards on the same Postgres: what they announce, and how all of them share its slots.

Each guard names itself in the application_name of its service connection, which everybody who is
connected may read: who it is, what it holds, what it may hold (its limit) and how many of its
sessions wait. Laws: the limits of all guards together never exceed what Postgres has for them,
because a limit is raised under a lock and only into room that nobody has announced, and lowered
when somebody else lacks some; each guard makes the same shares of the same announcements (max-min
fair, what nobody asks for is divided evenly); nobody is left without `FLOOR`; an announcement that
makes no sense is none, and what one claims is never believed beyond what Postgres shows.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgguard.pool.admission import Admission

FLOOR = 2
"""Server connections that a guard without any sessions is left: one client needs as many (T10)."""
KEPT_FOR = 6.0
"""Seconds for which a guard counts that is not seen any more: it may be between two connections."""
LIMIT = 16
"""Guards that are told apart; who forges more names only shares with them."""
READINGS = 3
"""The count of strangers changes when so many readings agree on a direction: connections that
came or went since their guard last announced itself look like somebody else's."""
_LARGEST = 99_999
_HOST = 22
_TEXT = re.compile(
    r"pgguard/(\d{1,7})@([A-Za-z0-9.-]{1,22}):(\d{1,5}) (\d{1,5})/(\d{1,5})\+(\d{1,5})", re.ASCII
)
SERVICE = "pgguard/"
"""How the names of all connections begin that a guard makes for itself."""

Key = tuple[int, str, int]
"""Process, host and port of a guard."""


@dataclass(slots=True, frozen=True)
class Announcement:
    """What a guard says of itself: at most 62 bytes of ASCII as an application_name."""

    pid: int
    host: str
    port: int
    held: int = 0
    limit: int = 0
    waiting: int = 0

    @property
    def key(self) -> Key:
        return (self.pid, self.host, self.port)

    @property
    def demand(self) -> int:
        return max(self.held + self.waiting, FLOOR)

    def text(self) -> str:
        """`pgguard/4711@build-7:6433 12/24+5`."""
        held, limit, waiting = (
            min(number, _LARGEST) for number in (self.held, self.limit, self.waiting)
        )
        return f"{SERVICE}{self.pid}@{self.host}:{self.port} {held}/{limit}+{waiting}"

    def describe(self) -> str:
        return (
            f"another pgguard at {self.host}:{self.port} (pid {self.pid}) holds {self.held} of "
            f"{self.limit}"
        )


def host_name(text: str) -> str:
    """The name of a machine as an announcement can hold it."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", text)[:_HOST] or "localhost"


def read(application_name: str | None) -> Announcement | None:
    """The announcement in a name, if it is one."""
    found = _TEXT.fullmatch(application_name or "")
    if found is None:
        return None
    pid, host, port, held, limit, waiting = found.groups()
    return Announcement(int(pid), host, int(port), int(held), int(limit), int(waiting))


def announced(names: Iterable[str | None], own: Key) -> dict[Key, Announcement]:
    """The other guards among the names of connections."""
    found: dict[Key, Announcement] = {}
    for name in names:
        guard = read(name)
        if guard is not None and guard.key != own and len(found) < LIMIT:
            found[guard.key] = guard
    return found


def fair(slots: int, demands: Mapping[Key, int]) -> dict[Key, int]:
    """Max-min fair shares of the slots; what nobody asks for is divided evenly. All are used."""
    shares: dict[Key, int] = {}
    left = max(slots, 0)
    for number, key in enumerate(sorted(demands, key=lambda key: (demands[key], key))):
        shares[key] = min(demands[key], left // (len(demands) - number))
        left -= shares[key]
    for number, key in enumerate(sorted(shares)):
        shares[key] += left // len(shares) + (number < left % len(shares))
    return shares


def waiting(admission: Admission) -> int:
    """Tickets that more slots would serve: not those whose own client has reached its cap."""
    return sum(
        min(share.waiting, share.cap - share.held)
        for share in admission.shares.values()
        if share.waiting and share.held < share.cap
    )


class Neighbours:
    """The other guards, as last seen, and what follows from them for our own limit."""

    def __init__(self) -> None:
        self._seen: dict[Key, tuple[Announcement, float]] = {}
        self._readings: deque[int] = deque(maxlen=READINGS)
        self._strangers = 0
        """Connections that are no guard's, while there are guards."""
        self.ever: dict[Key, Announcement] = {}
        """All that there were, as last seen, the first `LIMIT`."""

    def __bool__(self) -> bool:
        return bool(self._seen)

    @property
    def known(self) -> list[Announcement]:
        return [guard for guard, _ in self._seen.values()]

    def look(self, seen: Mapping[Key, Announcement], now: float) -> list[Announcement]:
        """Take a reading; returns who was not known before."""
        new = [guard for key, guard in seen.items() if key not in self._seen]
        for key, guard in seen.items():
            self._seen[key] = (guard, now)
            if key in self.ever or len(self.ever) < LIMIT:
                self.ever[key] = guard
        for key, (_, at) in list(self._seen.items()):
            if now - at > KEPT_FOR:
                del self._seen[key]
        if not self._seen:
            self._readings.clear()
        return new

    def slots(self, room: int, others: int, margin: int) -> int:
        """What is there for all guards together.

        `room` is what Postgres gives to ordinary roles, `others` are connections that neither are
        ours nor say that they are a guard's own, `margin` is what each guard needs for itself.
        """
        if not self._seen:
            return room - others - margin
        held = sum(guard.held for guard in self.known)
        if not self._readings:
            self._strangers = max(0, others - held)
        self._readings.append(max(0, others - held))
        if len(self._readings) == READINGS:
            least, most = min(self._readings), max(self._readings)
            self._strangers = min(max(self._strangers, least), most)
        return room - self._strangers - margin * (len(self._seen) + 1)

    def limit(self, own: Announcement, slots: int, *, locked: bool) -> int:
        """Our limit from now on; without the lock it is not raised.

        It may be less than what is held: the rest is given up as it comes back, and announced until
        then.
        """
        if not self._seen:
            return max(1, slots)
        others = self.known
        shares = fair(slots, {guard.key: guard.demand for guard in [own, *others]})
        target, free = shares[own.key], slots - sum(min(guard.limit, slots) for guard in others)
        lacking = any(
            guard.limit < shares[guard.key]
            # The odd slot stays where it is.
            and (guard.limit < FLOOR or (guard.waiting and guard.limit + 1 < shares[guard.key]))
            for guard in others
        )
        limit = own.limit
        if limit > target and (lacking or limit > free):
            limit = target
        if locked and limit < target:
            limit = max(limit, min(target, free))
        return max(1, limit)
