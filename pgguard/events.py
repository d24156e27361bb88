"""The vocabulary of what can happen. No logic.

Laws: rare things only (nothing per statement); `at` is monotonic seconds of the clock that the core
was given; text from clients is kept as it came and escaped by whoever prints it.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Event:
    at: float


@dataclass(slots=True)
class SessionOpened(Event):
    session: int
    client: str
    user: str
    database: str


@dataclass(slots=True)
class SessionClosed(Event):
    session: int
    client: str
    reason: str


@dataclass(slots=True)
class LoginFailed(Event):
    peer: str
    user: str
    database: str
    sqlstate: str
    message: str
    log: str = ""
    """What only our own log may say."""


@dataclass(slots=True)
class TicketQueued(Event):
    session: int
    client: str
    position: int
    blocked_by: str
    """`cap` or `total`."""


@dataclass(slots=True)
class TicketGranted(Event):
    session: int
    client: str
    waited: float


@dataclass(slots=True)
class TicketAbandoned(Event):
    session: int
    client: str
    waited: float


@dataclass(slots=True)
class SessionRefused(Event):
    """A session got 53300 from us."""

    session: int
    client: str
    code: str
    """PGG301, PGG302 or PGG303."""
    reason: str
    """cap, total, max_waiting, max_sessions or self_starvation."""
    message: str
    holders: list[str] = field(default_factory=list)
    """One line per holder, as in the DETAIL."""
    waited: float = 0.0


@dataclass(slots=True)
class ServerOpened(Event):
    server: int
    session: int
    client: str
    pid: int


@dataclass(slots=True)
class ServerClosed(Event):
    server: int
    client: str
    reason: str


@dataclass(slots=True)
class ServerLingers(Event):
    """A server whose session has ended has not closed yet: it still counts (T12)."""

    server: int
    client: str
    seconds: float


@dataclass(slots=True)
class ServerRefused(Event):
    """Postgres itself refused a server connection (53300 and the like)."""

    client: str
    sqlstate: str
    message: str
    passed_on: bool


@dataclass(slots=True)
class ServerLost(Event):
    """A server ended although its session had not: `sqlstate` is empty for a bare EOF."""

    session: int
    client: str
    sqlstate: str
    message: str


@dataclass(slots=True)
class ClientGone(Event):
    """A client went away while its statement was still running (transparency.md T30)."""

    session: int
    client: str
    statement: str
    running_for: float


@dataclass(slots=True)
class Pinned(Event):
    """A session keeps its server from now on, for `reason`."""

    session: int
    client: str
    reason: str


@dataclass(slots=True)
class Unpinned(Event):
    """A reason is gone."""

    session: int
    client: str
    reason: str


@dataclass(slots=True)
class SequenceLost(Event):
    """A session has asked for the value of a sequence that was lost with its server."""

    session: int
    client: str
    fingerprint: str
    asked: str
    """The statement that asked, masked."""
    advanced: str
    """The one that had advanced the sequence."""
    why: str


@dataclass(slots=True)
class CancelForwarded(Event):
    session: int
    client: str


@dataclass(slots=True)
class ProtocolBroken(Event):
    peer: str
    client: str
    message: str


@dataclass(slots=True)
class ClientsMerged(Event):
    """More clients than can be named: later ones are counted as `other`."""

    client: str


@dataclass(slots=True)
class UpstreamDown(Event):
    message: str


@dataclass(slots=True)
class UpstreamUp(Event):
    version: str


@dataclass(slots=True)
class NeighbourSeen(Event):
    """Another guard came to the same Postgres."""

    message: str


@dataclass(slots=True)
class SettingsReloaded(Event):
    changed: list[str]


@dataclass(slots=True)
class InternalFault(Event):
    where: str
    message: str
