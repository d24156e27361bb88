"""Sessions and servers that are shared, played without sockets: who says what in lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from core_fakes import World
from notation import BACKEND, FRONTEND, decode, encode

from pgguard.core.login import Method
from pgguard.core.shared_server import SharedServer

if TYPE_CHECKING:
    from pgguard.core.shared_session import SharedSession


class Shared:
    """A world in which servers are shared; every session has proved who it is."""

    def __init__(self, **settings: Any) -> None:
        self.world = World(sharing=True, method=Method.TRUST, **settings)
        self.hub = self.world.hub

    def session(self, name: str = "a.py", **parameters: str) -> SharedSession:
        """One that has logged in and been greeted; its pool's first one leaves a spare server."""
        session = cast("SharedSession", self.world.enter(application_name=name, **parameters))
        if not session.greeted:
            self.connect()
        assert session.greeted
        self.world.outs[session].take()
        return session

    def connect(self, **told: str) -> SharedServer:
        """The oldest dial that is still open ends well."""
        server = next(s for s in self.world.net.dialled if s not in self.world.outs)
        self.world.connect(server, **told)
        return cast("SharedServer", server)

    def says(self, who: SharedSession | SharedServer, *lines: str) -> None:
        """Lines of the protocol, in one chunk."""
        kinds = BACKEND if isinstance(who, SharedServer) else FRONTEND
        self.world.receive(who, b"".join(encode(line, kinds) for line in lines))

    def heard(self, who: SharedSession | SharedServer) -> list[str]:
        """What has been said to it since the last call, in lines."""
        kinds = FRONTEND if isinstance(who, SharedServer) else BACKEND
        data, lines = self.world.outs[who].take(), []
        while data:
            end = 1 + int.from_bytes(data[1:5], "big")
            lines.append(decode(data[:end], kinds))
            data = data[end:]
        return lines

    def done(self, server: SharedServer, tag: str = "SELECT 1", status: str = "I") -> None:
        """The server answers a simple Query."""
        self.says(server, f'CommandComplete "{tag}"', f"ReadyForQuery {status}")
