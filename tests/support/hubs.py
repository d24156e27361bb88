"""A hub made of plain objects, as metrics, findings, summary and views see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from pgguard.counters import ClientCounters, PinTally, ProcessCounters
from pgguard.findings import Relation, Verdict


class State(Enum):
    LOGIN = "login"
    WAITING = "waiting"
    LINKED = "linked"
    IDLE = "idle"


class Reason(Enum):
    LISTEN = "LISTEN"
    LOCK = "advisory lock"


@dataclass(eq=False)
class FakeStatement:
    fingerprint: str = "00aa"
    masked: str = "select * from bookings where id = ?"
    verdict: int = Verdict.unscoped
    relations: tuple[Relation, ...] = (
        Relation("bookings", "", "unscoped", "no tenant_id = …", "add tenant_id = …"),
    )
    position: int = 15
    code: str = "PGG101"
    remedy: str = "add tenant_id = … for bookings"
    why: str = "bookings is not tied to a tenant"


@dataclass
class FakeTally:
    count: int = 1
    first: float = 10.0
    last: float = 20.0


@dataclass
class FakeLimits:
    connection_limit: int = 10
    pool_timeout: float = 20.0


@dataclass
class FakeShare:
    held: int = 0
    peak: int = 0
    waiting: int = 0


@dataclass(eq=False)
class FakeClient:
    key: str
    rule: str = "application_name"
    limits: FakeLimits = field(default_factory=FakeLimits)
    counters: ClientCounters = field(default_factory=ClientCounters)
    sessions: set[FakeSession] = field(default_factory=set)
    share: FakeShare = field(default_factory=FakeShare)
    flagged: dict[FakeStatement, FakeTally] = field(default_factory=dict)

    def pin(self, reason: str, statement: str, times: int) -> None:
        tally = self.counters.pins.setdefault(reason, PinTally(statement))
        tally.number += times


@dataclass
class FakePin:
    since: float = 90.0
    text: str = "LISTEN a"


@dataclass
class FakeProcess:
    pid: int = 4711
    command: str = "pytest"


@dataclass(eq=False)
class FakeSession:
    id: int
    client: FakeClient
    state: State = State.LINKED
    since: float = 5.0
    opened: float = 4.0
    user: str = "app"
    database: str = "shop"
    application_name: str = "tests/test_a.py"
    address: str = "127.0.0.1"
    process: FakeProcess | None = None
    server: FakeServer | None = None
    pinned: dict[Reason, FakePin] = field(default_factory=dict)


@dataclass(eq=False)
class FakeServer:
    id: int
    client: FakeClient
    session: FakeSession | None = None
    state: State = State.LINKED
    pid: int = 900
    user: str = "app"
    database: str = "shop"
    since: float = 5.0
    status: str = "I"
    transaction_since: float | None = None
    due: int = 0


@dataclass
class FakeAdmission:
    total: int | None = 24


@dataclass
class FakeHub:
    clients: dict[str, FakeClient] = field(default_factory=dict)
    sessions: set[FakeSession] = field(default_factory=set)
    servers: set[FakeServer] = field(default_factory=set)
    counters: ProcessCounters = field(default_factory=ProcessCounters)
    admission: FakeAdmission = field(default_factory=FakeAdmission)
    wall: float = 1_000_000.0

    def client(self, key: str, *, sessions: int = 0, statements: int = 0) -> FakeClient:
        """A client of that name; `statements` of its statements were scoped."""
        client = self.clients.setdefault(key, FakeClient(key))
        client.counters.sessions += sessions
        client.counters.statements[Verdict.scoped] += statements
        return client

    def session(self, client: FakeClient, state: State = State.LINKED) -> FakeSession:
        session = FakeSession(len(self.sessions) + 1, client, state)
        self.sessions.add(session)
        client.sessions.add(session)
        return session
