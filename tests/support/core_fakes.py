"""The core with everything around it made of plain objects: clock, transports, net.

Laws: a fake behaves as the real one does towards the core: nothing is delivered to a connection
that was closed, writing after `write_eof` is an error, the end of a closed connection is reported
later. `World.end` closes all there is and holds the core to its promise that nothing is left of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgguard.core.hub import Hub
from pgguard.core.login import Method
from pgguard.core.secrets import Role
from pgguard.core.server_login import ServerLogin
from pgguard.core.states import SessionState
from pgguard.core.types import HubSettings, Peer
from pgguard.errors import ServerUnavailable
from pgguard.pool.admission import AdmissionSettings, ClientLimits
from pgguard.tenancy.model import TenancySettings
from pgguard.wire import backend
from pgguard.wire.codes import PROTOCOL_3_0
from pgguard.wire.startup import build_startup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgguard.core.server import Server
    from pgguard.core.session import Session
    from pgguard.pool.identity import ProcessInfo

START = 1000.0
STEP = 0.1


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class FakeOut:
    """A transport that keeps what is written; `log` also holds "EOF", "CLOSE" and "ABORT"."""

    def __init__(self) -> None:
        self.log: list[bytes | str] = []
        self.closed = self.ended = False
        self.rests = 0
        self.reading = True
        self.left = False
        self.finished = False
        """The other side has sent its last byte."""
        self.reported = False

    @property
    def written(self) -> bytes:
        return b"".join(piece for piece in self.log if isinstance(piece, bytes))

    def take(self) -> bytes:
        """What was written since the last call."""
        data, self.log = self.written, [piece for piece in self.log if isinstance(piece, str)]
        return data

    def forward(self, data: bytes) -> None:
        if self.ended or self.closed:
            raise RuntimeError("cannot write to a closed connection")
        assert data, "nothing to write"
        self.log.append(data)

    def write(self, data: bytes) -> None:
        assert not self.ended or self.closed, "write after write_eof"
        assert data, "nothing to write"
        if not self.closed:
            self.log.append(data)

    def write_eof(self) -> None:
        if not self.ended and not self.closed:
            self.ended = True
            self.log.append("EOF")

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.log.append("CLOSE")

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            self.log.append("ABORT")

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def rest(self) -> None:
        self.rests += 1

    def gone(self) -> bool:
        """Whether the other side has closed although nothing is read from it."""
        return self.left

    def was_reset(self) -> bool:
        return False


class FakeNet:
    """Keeps what the core asks for, as (what, whom…)."""

    def __init__(self) -> None:
        self.requests: list[tuple[Any, ...]] = []
        self.dialled: list[Server] = []
        self.roles: Mapping[str, Role] | None = None
        self.at_once: ProcessInfo | None = None
        """The process of whoever comes, where it is known without asking."""
        """What pg_authid says of each user; None: it may not be read."""
        self.looked_up: list[Session] = []

    def dial(self, server: Server, parameters: dict[str, str]) -> None:
        self.dialled.append(server)
        self.requests.append(("dial", len(self.dialled), parameters))

    def probe(self, user: str, database: str) -> None:
        self.requests.append(("probe", user, database))

    def read_role(self, session: Session) -> bool:
        self.requests.append(("read_role", session.user))
        if self.roles is not None:
            self.looked_up.append(session)
        return self.roles is not None

    def identify(self, session: Session) -> bool:
        self.requests.append(("identify", session))
        session.process = self.at_once or session.process
        return self.at_once is not None

    def cancel(self, server: Server) -> None:
        self.requests.append(("cancel", self.dialled.index(server) + 1))

    def close_services(self) -> None:
        self.requests.append(("close_services",))

    def read_catalogue(self, database: str, *, soon: bool) -> None:
        self.requests.append(("read_catalogue", database))

    def read_limits(self) -> None:
        self.requests.append(("read_limits",))

    def analyse(self, judge: Any, statement: Any) -> None:
        self.requests.append(("analyse", judge, statement))

    def asked(self, what: str) -> list[tuple[Any, ...]]:
        return [request for request in self.requests if request[0] == what]


def hub_settings(**values: Any) -> HubSettings:
    """HubSettings from flat names, whichever of its parts they belong to."""

    def part(kind: Any, **fixed: Any) -> Any:
        names = [name for name in kind.__dataclass_fields__ if name in values]
        return kind(**fixed, **{name: values.pop(name) for name in names})

    limits = part(ClientLimits)
    admission = part(AdmissionSettings, defaults=limits)
    tenancy = part(TenancySettings)
    return HubSettings(admission, tenancy, **values)


class World:
    """A hub with clock, net and transports. `method` answers probes; None leaves them open."""

    def __init__(
        self,
        *,
        secrets: Mapping[str, str] | None = None,
        method: Method | None = Method.TRUST,
        roles: Mapping[str, Role] | None = None,
        **settings: Any,
    ) -> None:
        self.clock = Clock()
        self.net = FakeNet()
        self.net.roles = roles
        self.hub = Hub(hub_settings(**settings), self.net, clock=self.clock, secrets=secrets)
        self.method = method
        self.outs: dict[Session | Server, FakeOut] = {}
        self.relays: dict[Any, Any] = {}
        """Server → the relay by which its client logs in."""
        self._probes = 0

    # Connections

    def open(self, address: str = "127.0.0.1", peer: Peer | None = None) -> Session:
        loopback = address == "127.0.0.1"
        session = self.hub.open_session(address, 5000, loopback=loopback, peer=peer)
        self.outs[session] = FakeOut()
        session.adopt(self.outs[session])
        return session

    def enter(
        self, *, address: str = "127.0.0.1", peer: Peer | None = None, **parameters: str
    ) -> Session:
        """A session that has sent its startup packet; it is let in where that needs no answer."""
        session = self.open(address, peer)
        given = {"user": "app", "database": "shop", "application_name": "a.py", **parameters}
        self.receive(session, build_startup(PROTOCOL_3_0, given))
        return session

    def connect(self, server: Server, pid: int = 0, status: str = "I", **told: str) -> FakeOut:
        """The dial of a server ends well; `told` are ParameterStatus values."""
        login = ServerLogin(server.user, None)
        login.method, login.status = self.method or Method.TRUST, status
        login.pid, login.secret_key = pid or 100 + self.net.dialled.index(server) + 1, b"real"
        login.parameters = dict(told)
        login.greeting = [backend.parameter_status(*item) for item in told.items()]
        out = self.outs[server] = FakeOut()
        self.hub.server_connected(server, out, login)
        self.settle()
        return out

    def greet(self, server: Server) -> FakeOut:
        """The dial of a server whose login is relayed has sent its startup packet."""
        assert server.session is not None
        relay = self.relays[server] = server.session.relay
        assert relay is not None
        out = self.outs[server] = FakeOut()
        relay.connected(server, out)
        self.settle()
        return out

    def _relayed(self, server: Server, data: bytes) -> None:
        over = self.relays[server].from_server(server, data)
        if over is not None:
            del self.relays[server]
            login, rest = over
            out = self.outs[server]
            self.hub.server_connected(server, out, login)
            if rest:
                server.receive(rest)

    def link(self, **parameters: str) -> tuple[Session, Server]:
        """A session with a server; what both were sent so far is forgotten."""
        session = self.enter(**parameters)
        server = next(server for server in self.hub.servers if server.session is session)
        self.connect(server)
        assert session.state is SessionState.LINKED
        self.outs[session].take()
        self.outs[server].take()
        return session, server

    def receive(self, who: Session | Server, data: bytes) -> None:
        """Bytes arrive on a connection, unless either side has closed it."""
        if self.alive(who):
            if who in self.relays:
                self._relayed(who, data)
            else:
                who.receive(data)
        self.settle()

    def eof(self, who: Session | Server) -> None:
        """The other side sends no more; for a server that is the end of its socket."""
        if self.alive(who):
            self.outs[who].finished = True
            if who in self.relays or not who.eof():
                self.outs[who].closed = True
        self.settle()

    def alive(self, who: Session | Server) -> bool:
        """Whether bytes can still arrive on a connection."""
        return not self.outs[who].closed and not self.outs[who].finished

    def reset(self, who: Session | Server) -> None:
        """The connection breaks."""
        out = self.outs[who]
        if not out.reported:
            out.closed = out.reported = True
            self._lost(who, ConnectionResetError("connection reset by peer"))
        self.settle()

    def settle(self) -> None:
        """What the loop would do next: report closed connections, answer probes."""
        while True:
            ended = [who for who, out in self.outs.items() if out.closed and not out.reported]
            for who in ended:
                self.outs[who].reported = True
                self._lost(who, None)
            looked_up, self.net.looked_up = self.net.looked_up, []
            for session in looked_up:
                assert self.net.roles is not None
                role = self.net.roles.get(session.user, Role(None, "there is no such role"))
                self.hub.role_known(session, role)
            probes = self.net.asked("probe")[self._probes :] if self.method else []
            self._probes += len(probes)
            for _, user, database in probes:
                assert self.method is not None
                self.hub.upstream.probed(user, database, self.method)
            if not (ended or probes or looked_up):
                return

    def _lost(self, who: Any, error: BaseException | None) -> None:
        relay = self.relays.pop(who, None)
        if relay is not None:
            relay.lost(who, error)
        else:
            who.lost(error)

    def wait(self, seconds: float) -> None:
        """Time passes, with a tick every 100 ms."""
        for _ in range(round(seconds / STEP)):
            self.clock.now += STEP
            self.hub.tick()
            self.settle()

    # The end

    def end(self) -> None:
        """Close everything there is; nothing may be left."""
        hub = self.hub
        for session in list(hub.sessions):
            self.reset(session)
        for server in [s for s in hub.servers if s in self.outs]:
            self.outs[server].close()
        self.settle()
        while connecting := [s for s in hub.servers if s not in self.outs]:
            for server in connecting:
                hub.upstream.dial_failed(server, ServerUnavailable("end", temporary=False))
        self.wait(1)
        assert not hub.servers
        assert not hub.sessions
        assert hub.admission.held == 0
        assert all(not share.queue and not share.holders for share in hub.admission.shares.values())
        assert all(not share.sessions for share in hub.admission.shares.values())
        assert all(not client.sessions for client in hub.clients.values())
        assert len(hub.keys) == 0
        assert not hub.gone
        assert not hub.blocking
