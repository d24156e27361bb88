"""What the core is given from outside, and what it hands out: small types shared by its modules.

Laws: `Out` is a transport seen from the core; it never calls back into the core from `write` except
to set a flag. `Net` starts slow work and reports the outcome to the hub later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pgguard.counters import ClientCounters
from pgguard.tenancy.policy import PolicySettings

if TYPE_CHECKING:
    from pgguard.core.server import Server
    from pgguard.core.session import Session
    from pgguard.pool.admission import AdmissionSettings, ClientLimits, Share
    from pgguard.sql.statement import Statement
    from pgguard.tenancy.judge import Judge
    from pgguard.tenancy.model import TenancySettings


class Out(Protocol):
    """Where bytes go. A connection that has closed swallows what is said to it."""

    def forward(self, data: bytes, /) -> object:
        """As `write`, straight to the socket: may raise RuntimeError once the connection has
        closed, which the hot loops pass over."""

    def write(self, data: bytes, /) -> object: ...
    def close(self) -> object: ...
    def abort(self) -> object: ...
    def write_eof(self) -> object: ...
    def pause_reading(self) -> object: ...
    def resume_reading(self) -> object: ...
    def rest(self) -> object:
        """Read nothing more before all others have had their turn."""

    def gone(self) -> bool:
        """Whether the other side has closed or reset, also while nothing is read from it."""

    def was_reset(self) -> bool:
        """The same of a reset only: one that has closed in order may still read."""


class Nowhere:
    """An `Out` for what is not connected."""

    __slots__ = ()

    def forward(self, data: bytes, /) -> None:
        self.write(data)

    def write(self, data: bytes, /) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def write_eof(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def rest(self) -> None: ...
    def gone(self) -> bool:
        return False

    def was_reset(self) -> bool:
        return False


class Net(Protocol):
    """The slow work that the core asks for; each call returns at once."""

    def dial(self, server: Server, parameters: dict[str, str]) -> None:
        """Ends in hub.server_connected or hub.dial_failed."""

    def probe(self, user: str, database: str) -> None:
        """Ends in hub.probed or hub.probe_failed."""

    def read_role(self, session: Session) -> bool:
        """What does pg_authid say of the session's user? Ends in hub.role_known, unless it is
        false: it cannot be read."""

    def identify(self, session: Session) -> bool:
        """Which process is behind the session's address? Ends in hub.identified, unless it is true:
        `session.process` is known already."""

    def cancel(self, server: Server) -> None:
        """Send a CancelRequest for the server. Ends in hub.cancelled."""

    def close_services(self) -> None:
        """Close the service connections. Ends in hub.services_closed."""

    def read_catalogue(self, database: str, *, soon: bool) -> None:
        """The catalogue of a database has changed, or is needed for the first time."""

    def read_limits(self) -> None:
        """Postgres said that it has no slot free: read max_connections and the rest anew."""

    def analyse(self, judge: Judge, statement: Statement) -> None:
        """Analyse a long text outside of the loop. Ends in hub.analysed."""


LOCAL = "[local]"
"""The address of a session over a unix socket, as Postgres writes it."""


class Peer(NamedTuple):
    """Who is at the other end of a unix socket, as the kernel says."""

    pid: int
    uid: int


class Recent(dict[int, None]):
    """The newest of many numbers, such as the pids of servers that were ours: older ones may have
    become somebody else's."""

    LIMIT = 4096

    def add(self, number: int) -> None:
        self.pop(number, None)
        self[number] = None
        if len(self) > self.LIMIT:
            del self[next(iter(self))]


@dataclass(slots=True)
class Flagged:
    """Executions of one statement by one client; times are monotonic seconds."""

    count: int
    first: float
    last: float
    action: str = "observe"
    """What was done about the newest one: `observe`, `warn` or `block`."""


@dataclass(slots=True, eq=False)
class Client:
    """Who is capped and reported: a test file, a worker, a service."""

    key: str
    rule: str
    share: Share
    counters: ClientCounters = field(default_factory=ClientCounters)
    sessions: set[Session] = field(default_factory=set)
    flagged: dict[Statement, Flagged] = field(default_factory=dict)
    reads_sequences: bool = False
    """It has used currval or lastval: its sessions keep their servers (T22)."""

    @property
    def limits(self) -> ClientLimits:
        return self.share.limits


@dataclass(slots=True, frozen=True)
class HubSettings:
    """What the core needs of the settings."""

    admission: AdmissionSettings
    tenancy: TenancySettings
    policy: PolicySettings = field(default_factory=PolicySettings)
    identify: tuple[str, ...] = ("startup_setting", "user_suffix", "application_name", "address")
    user_separator: str = "%"
    trust: bool = False
    login_timeout: float = 60.0
    sharing: bool = False
    """Sessions share servers (pool.mode = transparent)."""
    spare_for: float = 30.0
    """Seconds that a server is kept for which nobody has a use (pool.idle_timeout)."""
    restless: bool = False
    """Sessions let go after each transaction, and get what has rested longest (for tests)."""
    total: int | None = None
    """`limits.total`; None = read from the server."""
