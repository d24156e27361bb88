"""Many sessions at once, in any order, cut anywhere, with everything dying when it likes.

The laws that are checked after every step: what a server got is what its own session sent, from the
first byte on, and nothing else; what a session got is what its own server sent; every slot is held
by a server or a dial. At the end everything is closed and nothing may be left (`World.end`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core_fakes import World
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from notation import BACKEND, FRONTEND, encode

from pgguard.core.states import SessionState
from pgguard.errors import ServerUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgguard.core.server import Server
    from pgguard.core.session import Session

CLIENTS = ("a.py", "b.py", "c.py")
REQUESTS = (
    "Query \"select '{}'\"",
    'Parse "s" "insert \'{}\'"',
    'Bind "" "s" "{}"',
    'Execute "{}" 0',
    "Sync",
    "Flush",
    'CopyData "{}"',
    "CopyDone",
    'CopyFail "{}"',
    'FunctionCall "{}"',
    'Message 0x21 "{}"',
    "Query \"create database '{}'\"",
    'Close S "{}"',
)
REPLIES = (
    'DataRow "{}"',
    'CommandComplete "{}"',
    "ReadyForQuery I",
    "ReadyForQuery T",
    "ReadyForQuery E",
    'ErrorResponse ERROR 22012 "{}"',
    'ErrorResponse FATAL 57P01 "{}"',
    'NoticeResponse NOTICE 00000 "{}"',
    'NotificationResponse 1 "{}" ""',
    'ParameterStatus "application_name" "{}"',
    'ParameterStatus "client_encoding" "SJIS"',
    'CopyInResponse "{}"',
    'CopyData "{}"',
    'Message 0x7e "{}"',
)
TOKEN = re.compile(rb"<\d+>")
BROKEN = b"S\xff\xff\xff\xff"
TERMINATE = b"X\0\0\0\4"
GONE = ServerUnavailable("connection refused")
REFUSED = ServerUnavailable("no", fields={"S": "FATAL", "C": "28P01", "M": "no"}, temporary=False)
FULL = ServerUnavailable("full", fields={"S": "FATAL", "C": "53300", "M": "full"})


def boundaries(data: bytes) -> Iterator[int]:
    """Where messages end, up to the first that is not whole or not sound."""
    at = 0
    while True:
        yield at
        length = int.from_bytes(data[at + 1 : at + 5], "big")
        if len(data) - at < 5 or not 4 <= length < len(data) - at:
            return
        at += 1 + length


def is_last_word(data: bytes) -> bool:
    """Whether this is one ErrorResponse of pgguard's own."""
    return data[:2] == b"E\0" and [*boundaries(data)] == [0, len(data)] and b"SFATAL" in data


@dataclass(eq=False)
class Wire:
    """One session, its server, and what each of the two was sent by its own side."""

    session: Session
    token: str
    server: Server | None = None
    sent: bytes = b""
    """By the session, after its login."""
    replied: bytes = b""
    """By its server, after its login."""
    greeted: int = 0
    """Bytes that the session was sent up to the first ReadyForQuery."""
    pending: dict[str, bytes] = field(default_factory=lambda: {"sent": b"", "replied": b""})
    """Written by a peer but not arrived yet."""


class Sessions(RuleBasedStateMachine):
    """What clients, servers and time may do to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(
            connection_limit=2, total=5, pool_timeout=3, notice_after=0.5, max_waiting=3
        )
        self.wires: list[Wire] = []

    def _wire(self, index: int) -> Wire:
        return self.wires[index % len(self.wires)]

    def _linked(self, index: int) -> Wire | None:
        linked = [wire for wire in self.wires if wire.session.server is not None]
        return linked[index % len(linked)] if linked else None

    @initialize()
    def every_client_has_a_session(self) -> None:
        for client in CLIENTS:
            self.a_session_comes(client, dials=1)

    @rule(client=st.sampled_from(CLIENTS), dials=st.integers(0, 3))
    def a_session_comes(self, client: str, dials: int) -> None:
        session = self.world.enter(application_name=client)
        self.wires.append(Wire(session, f"<{len(self.wires)}>"))
        if dials:
            self.a_dial_ends(-1, None)

    @rule(
        steps=st.lists(
            st.tuples(
                st.integers(0, 7),
                st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3),
                st.lists(st.sampled_from(REPLIES), max_size=4),
                st.integers(0, 400),
            ),
            min_size=1,
            max_size=5,
        )
    )
    def clients_and_servers_talk(self, steps: list[tuple[int, list[str], list[str], int]]) -> None:
        for index, requests, replies, cut in steps:
            wire = self._linked(index) or self._wire(index)
            data = b"".join(encode(line.format(wire.token), FRONTEND) for line in requests)
            self._arrive(wire, "sent", data, cut)
            if wire.session.server is not None and replies:
                data = b"".join(encode(line.format(wire.token), BACKEND) for line in replies)
                self._arrive(wire, "replied", data, cut // 2)

    @rule(index=st.integers(0, 7), what=st.sampled_from(REQUESTS), cut=st.integers(0, 50))
    def a_client_that_waits_sends(self, index: int, what: str, cut: int) -> None:
        wire = self._wire(index)
        self._arrive(wire, "sent", encode(what.format(wire.token), FRONTEND), cut)

    def _arrive(self, wire: Wire, way: str, data: bytes, cut: int) -> None:
        """Part of what was written arrives; the rest comes in front of what is written next."""
        who = wire.session if way == "sent" else wire.server
        assert who is not None
        if not self.world.alive(who):
            return
        data = wire.pending[way] + data
        at = cut % (len(data) + 1)
        wire.pending[way] = data[at:]
        setattr(wire, way, getattr(wire, way) + data[:at])
        if at:
            self.world.receive(who, data[:at])

    @rule(index=st.integers(0, 7), server=st.booleans())
    def somebody_breaks_the_protocol(self, index: int, server: bool) -> None:
        wire = self._linked(index) if server else self._wire(index)
        if wire is not None:
            way = "replied" if server else "sent"
            data = wire.pending[way] + BROKEN
            self._arrive(wire, way, BROKEN, len(data))

    @rule(index=st.integers(0, 7), how=st.sampled_from(["terminate", "eof", "reset", "both"]))
    def a_client_leaves(self, index: int, how: str) -> None:
        wire = self._wire(index)
        if how in ("terminate", "both"):
            self._arrive(wire, "sent", TERMINATE, len(wire.pending["sent"]) + len(TERMINATE))
        if how in ("eof", "both"):
            self.world.eof(wire.session)
        if how == "reset":
            self.world.reset(wire.session)

    @rule(index=st.integers(0, 7), reset=st.booleans(), half=st.integers(0, 12))
    def a_server_dies(self, index: int, reset: bool, half: int) -> None:
        wire = self._linked(index)
        if wire is not None:
            row = encode(f'DataRow "{wire.token}"', BACKEND)
            self._arrive(wire, "replied", row, len(wire.pending["replied"]) + half)
        alive = [server for server in self.world.hub.servers if server in self.world.outs]
        if alive:
            server = sorted(alive, key=lambda server: server.id)[index % len(alive)]
            (self.world.reset if reset else self.world.eof)(server)

    @rule(index=st.integers(0, 7), error=st.sampled_from([None, GONE, REFUSED, FULL]))
    def a_dial_ends(self, index: int, error: ServerUnavailable | None) -> None:
        world = self.world
        dials = [server for server in world.hub.servers if server not in world.outs]
        if not dials:
            return
        server = sorted(dials, key=lambda server: server.id)[index % len(dials)]
        if error is not None:
            world.hub.upstream.dial_failed(server, error)
            world.settle()
            return
        wire = next((wire for wire in self.wires if wire.session is server.session), None)
        if wire is not None:
            wire.server = server
            wire.greeted = len(world.outs[wire.session].written) + 13 + 6
        world.connect(server)

    @rule(seconds=st.sampled_from([0.1, 0.4, 1.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(open_=st.booleans())
    def services_come_and_go(self, open_: bool) -> None:
        if open_:
            self.world.hub.services = True
        else:
            self.world.hub.services_closed()
            self.world.settle()

    @precondition(lambda self: len(self.wires) > 7)
    @rule(stop=st.booleans())
    def the_guard_stops(self, stop: bool) -> None:
        self.world.hub.drain()
        if stop:
            self.world.hub.stop()
        self.world.settle()

    @invariant()
    def what_a_server_got_is_what_its_session_sent(self) -> None:
        for wire in self.wires:
            if wire.server is not None:
                got = self.world.outs[wire.server].written
                assert wire.sent.startswith(got) or wire.sent.startswith(
                    got.removesuffix(TERMINATE)
                )

    @invariant()
    def what_a_session_got_is_what_its_server_sent(self) -> None:
        for wire in self.wires:
            out = self.world.outs[wire.session]
            assert set(TOKEN.findall(out.written)) <= {wire.token.encode()}
            got = out.written[wire.greeted :]
            if wire.server is not None and not wire.replied.startswith(got):
                # Only one message of ours may follow, between two others, and then the end.
                assert out.closed
                ends = (end for end in boundaries(wire.replied) if got[:end] == wire.replied[:end])
                assert any(is_last_word(got[end:]) for end in ends), (got, wire.replied)

    @invariant()
    def every_slot_is_held_by_somebody(self) -> None:
        hub = self.world.hub
        retried = sum(1 for waiting in hub.upstream.redials if waiting.ticket is not None)
        assert hub.admission.held == len(hub.servers) + retried

    @invariant()
    def only_the_living_wait(self) -> None:
        for share in self.world.hub.admission.shares.values():
            assert all(ticket.holder.state is SessionState.WAITING for ticket in share.queue)

    @invariant()
    def places_and_states_agree(self) -> None:
        for session in self.world.hub.sessions:
            assert (session.server is not None) == (session.state is SessionState.LINKED)
            if session.server is not None:
                assert session.server.session is session

    def teardown(self) -> None:
        self.world.end()


Sessions.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestSessions = Sessions.TestCase
