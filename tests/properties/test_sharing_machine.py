"""Sessions that share too few servers, each held against a server of its own.

Whatever a session says is also said, whole and at once, to a model of Postgres that only it talks
to; what it hears must be what that one answers, byte for byte and in order, however the bytes on
both sides are cut, delayed and mixed with those of others. ParameterStatus alone is compared by the
last word. At the end everybody is served, nothing is left, and nothing of one session's state is on
a server that another one got, or the replies of that one would have differed.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from core_fakes import World
from hypothesis import example, given, settings
from hypothesis import strategies as st
from model_server import ModelServer
from sayings import SYNC, Sayings

from pgguard.core.login import Method
from pgguard.core.states import SessionState
from pgguard.pool.servers import ServerState
from pgguard.tenancy.catalogue import Catalogue
from pgguard.wire import frontend

if TYPE_CHECKING:
    from pgguard.core.shared_server import SharedServer
    from pgguard.core.shared_session import SharedSession

TELLING = b"S"
"""ParameterStatus: may come more often than directly, and at other times."""
LONG = 10_000.0


class Direct:
    """One session, and its private server."""

    def __init__(self, session: SharedSession, name: str) -> None:
        self.session = session
        self.model = ModelServer(name)
        self.unsent = b""
        self.wanted: list[bytes] = []
        self.came: list[bytes] = []
        self.told = name
        self.rest = b""
        self.logged_in = False
        self.hurt = False
        """Its server was killed: nobody owes it anything any more."""

    def said(self, data: bytes) -> None:
        self.unsent += data
        self.wanted += [one for one in split(self.model.feed(data)) if one[:1] != TELLING]

    def hears(self, data: bytes) -> None:
        self.rest += data
        for one in split(self.rest):
            self.rest = self.rest[len(one) :]
            if one[:1] == TELLING:
                name, value = one[5:-1].split(b"\0")
                if name == b"application_name":
                    self.told = value.decode()
            elif self.logged_in:
                self.came.append(one)
            else:
                self.logged_in = one[:1] == b"Z"
        if not self.hurt:
            assert self.came == self.wanted[: len(self.came)], self.difference()

    def difference(self) -> str:
        at = next(
            (
                i
                for i, pair in enumerate(zip(self.came, self.wanted, strict=False))
                if len(set(pair)) > 1
            ),
            min(len(self.came), len(self.wanted)),
        )
        return f"{self.session}: wanted {self.wanted[at : at + 4]}, came {self.came[at : at + 4]}"

    @property
    def served(self) -> bool:
        return self.logged_in and not self.unsent and (self.hurt or self.came == self.wanted)


def split(data: bytes) -> list[bytes]:
    """The whole messages at the beginning."""
    found = []
    while len(data) >= 5 and len(data) >= 1 + int.from_bytes(data[1:5], "big"):
        end = 1 + int.from_bytes(data[1:5], "big")
        found.append(data[:end])
        data = data[end:]
    return found


class Scene:
    """Sessions, the hub, and a model of Postgres behind each of its servers."""

    def __init__(
        self,
        rng: Random,
        *,
        total: int,
        cap: int,
        sessions: int,
        restless: bool = False,
        late: bool = False,
        coded: bool = False,
    ) -> None:
        self.rng = rng
        self.sayings = Sayings(rng, late=late, coded=coded)
        self.world = World(
            sharing=True, restless=restless, method=Method.TRUST, total=total, connection_limit=cap,
            pool_timeout=LONG, total_timeout=LONG, self_starvation_after=LONG,
        )  # fmt: skip
        self.models: dict[SharedServer, ModelServer] = {}
        self.pending: dict[SharedServer, bytes] = {}
        self.sessions: list[Direct] = []
        for _ in range(sessions):
            self.connect()

    def _alive(self) -> list[Direct]:
        return [one for one in self.sessions if one.session.state not in OVER]

    # What happens

    def connect(self) -> None:
        name = self.rng.choice(("a.py", "a.py", "b.py"))
        session = self.world.enter(application_name=name)
        self.sessions.append(Direct(session, name))
        self._settle()
        self.world.hub.gate.catalogue_read("shop", Catalogue())

    def say(self) -> None:
        speakers = [one for one in self._alive() if not one.unsent and one.session.greeted]
        if speakers:
            one = self.rng.choice(speakers)
            one.said(self.sayings.next())
            self._send(one, self.rng.choice((0, 0, self.rng.randint(1, 60))))

    def say_on(self) -> None:
        late = [one for one in self._alive() if one.unsent]
        if late:
            self._send(self.rng.choice(late), self.rng.choice((0, self.rng.randint(1, 60))))

    def answer(self) -> None:
        self._dials()
        self._work()
        waiting = [server for server, data in self.pending.items() if data]
        if waiting:
            self._deliver(self.rng.choice(waiting), self.rng.choice((1, 3, 7, 20, 1000)))
        self._listen()

    def answer_all(self) -> None:
        self._settle()

    def tick(self) -> None:
        self.world.wait(0.1)
        self._listen()

    def leave(self) -> None:
        """One goes, and another one comes."""
        alive = self._alive()
        if not alive:
            self.connect()
            return
        one = self.rng.choice(alive)
        cut_off = bool(one.unsent)
        one.hurt, one.unsent = True, b""
        how = self.rng.choice(("terminate", "reset", "eof"))
        if how == "terminate" and not cut_off:
            self.world.receive(one.session, frontend.terminate())
        elif how == "eof":
            self.world.eof(one.session)
        else:
            self.world.reset(one.session)
        if len(self._alive()) < 6:
            self.connect()

    def kill(self) -> None:
        servers = [server for server in self.models if self.world.alive(server)]
        if servers:
            self._lose(self.rng.choice(servers))

    def change(self) -> None:
        """Somebody has changed the catalogue, if nothing that these statements return."""
        self.world.hub.sharing.catalogue_changed("shop")
        self._listen()

    def step(self) -> None:
        weighted = {
            self.say: 8.0,
            self.say_on: 4.0,
            self.answer: 8.0,
            self.answer_all: 2.0,
            self.tick: 1.0,
            self.change: 1.0,
            self.leave: 0.3,
            self.kill: 0.2,
        }
        self.rng.choices(list(weighted), list(weighted.values()))[0]()

    # How it happens

    def _speakers(self) -> list[Direct]:
        return [one for one in self._alive() if not one.unsent and one.session.greeted]

    def _send(self, one: Direct, cut: int) -> None:
        now, one.unsent = (one.unsent[:cut], one.unsent[cut:]) if cut else (one.unsent, b"")
        if now:
            self.world.receive(one.session, now)
        self._listen()

    def _dials(self) -> int:
        """Connect what is being dialled."""
        new = (s for s in self.world.hub.servers if s not in self.world.outs)
        waiting = sorted(new, key=lambda server: server.id)
        for server in waiting:
            name = server.begun_as
            self.models[server] = ModelServer(name)
            self.pending[server] = b""
            self.world.connect(server, application_name=name, server_version="18.1")
        return len(waiting)

    def _work(self) -> int:
        """Every server reads what it was sent and answers, as far as its socket has room."""
        done = 0
        for server, model in list(self.models.items()):
            out = self.world.outs[server]
            said = out.take()
            done += len(said)
            self.pending[server] += model.feed(said)
            server.cancelling = False
            if (model.ended or out.ended or out.closed) and not self.pending[server]:
                self._lose(server)
                done += 1
        return done

    def _lose(self, server: SharedServer) -> None:
        owner = server.session
        for one in self.sessions:
            one.hurt = one.hurt or one.session is owner
        del self.models[server], self.pending[server]
        self.world.eof(server)
        self._listen()

    def _deliver(self, server: SharedServer, size: int) -> None:
        data = self.pending[server]
        self.pending[server] = data[size:]
        self.world.receive(server, data[:size])

    def _listen(self) -> None:
        for one in self.sessions:
            one.hears(self.world.outs[one.session].take())

    def _settle(self) -> None:
        for _ in range(1000):
            moved = self._dials() + self._work()
            for server in [server for server, data in self.pending.items() if data]:
                self._deliver(server, len(self.pending[server]))
                moved += 1
            self._listen()
            if not moved:
                return
        raise AssertionError("it does not come to rest")

    # The end

    def end(self) -> None:
        for one in self._alive():
            self._send(one, 0)
        while alive := self._alive():
            self._settle()
            self.world.wait(0.2)
            self._settle()
            served = [one for one in alive if one.served]
            assert served, f"nobody is served: {[one.difference() for one in alive]}"
            for one in served:
                if not one.hurt and one.session.state is SessionState.LINKED:
                    # Others may have to wait for those who are still here.
                    self._is_told(one)
                assert one.served, one.difference()
                one.hurt = True
                self.world.receive(one.session, frontend.terminate())
                self.world.reset(one.session)
        self._settle()
        for server in self.world.hub.servers:
            assert server.state is ServerState.IDLE or server.state is ServerState.CLOSING
        self.world.end()

    def _is_told(self, one: Direct) -> None:
        """The parameters are what they would be, once every batch has ended."""
        for last in (SYNC + frontend.query(b"ROLLBACK"), frontend.query(b"SHOW application_name")):
            if one.session.state is SessionState.LINKED:
                one.said(last)
                self._send(one, 0)
                self._settle()
        assert one.told == one.model.state.settings["application_name"], (
            f"{one.session}: told {one.told}, is {one.model.state.settings}"
        )


OVER = (SessionState.CLOSING, SessionState.CLOSED)


@settings(max_examples=200)
@given(
    rng=st.integers(0, 2**32).map(Random),
    total=st.integers(2, 4),
    cap=st.integers(1, 3),
    sessions=st.integers(2, 6),
    steps=st.integers(30, 120),
    restless=st.booleans(),
    late=st.booleans(),
    coded=st.booleans(),
)
@example(
    rng=Random(24), total=2, cap=2, sessions=6, steps=84, restless=False, late=False, coded=False
)
@example(
    rng=Random(12893), total=2, cap=2, sessions=2, steps=30, restless=False, late=False, coded=False
)
@example(
    rng=Random(12738259),
    total=2,
    cap=2,
    sessions=2,
    steps=30,
    restless=False,
    late=False,
    coded=False,
)
@example(
    rng=Random(1938233),
    total=2,
    cap=2,
    sessions=4,
    steps=30,
    restless=False,
    late=False,
    coded=False,
)
@example(
    rng=Random(3865), total=2, cap=3, sessions=6, steps=53, restless=False, late=True, coded=False
)
@example(
    rng=Random(106), total=2, cap=2, sessions=6, steps=59, restless=True, late=True, coded=False
)
@example(
    rng=Random(1938), total=4, cap=3, sessions=4, steps=103, restless=True, late=False, coded=False
)
def test_each_session_hears_what_a_server_of_its_own_would_say(
    rng: Random,
    total: int,
    cap: int,
    sessions: int,
    steps: int,
    *,
    restless: bool,
    late: bool,
    coded: bool,
) -> None:
    scene = Scene(
        rng, total=total, cap=cap, sessions=sessions, restless=restless, late=late, coded=coded
    )
    for _ in range(steps):
        scene.step()
    scene.end()
