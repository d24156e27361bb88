"""Where sessions come in: the TCP port, the unix socket, or both.

Laws: both have the same number, as with Postgres; either all are open or none is; what is opened
here is closed here, and leaves no file.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pgguard.errors import SettingsError
from pgguard.net.listener import BACKLOG, bind
from pgguard.net.unix import UnixSocket
from pgguard.settings.values import Address

if TYPE_CHECKING:
    import socket

DEFAULT_PORT = 6433
"""The number of a unix socket that has no TCP port beside it."""


class Doors:
    """The listening sockets of one guard."""

    def __init__(self, address: Address | None, directory: str | None) -> None:
        """Raises SettingsError that names the port or the path which cannot be had."""
        if address is None and directory is None:
            raise SettingsError(
                "nothing to listen on", where="listen.address", hint="set listen.unix, or a port"
            )
        self.sockets: list[socket.socket] = []
        self.tcp: Address | None = None
        self.unix: Address | None = None
        self._unix: UnixSocket | None = None
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            port = DEFAULT_PORT
            if address is not None:
                self.sockets += bind(address.host, address.port, what="--listen")
                self.tcp = Address(*self.sockets[0].getsockname()[:2])
                port = self.tcp.port
            if directory is not None:
                self._unix = UnixSocket(directory, port, backlog=BACKLOG, what="listen.unix")
                self.unix = Address(directory, port)
                self.sockets.append(self._unix.sock)
            undo.pop_all()

    @property
    def main(self) -> Address:
        """The one that is told first."""
        address = self.tcp or self.unix
        assert address is not None
        return address

    def close(self) -> None:
        """Closes what the listener has not closed yet, and removes the files of the socket."""
        for sock in self.sockets:
            sock.close()
        if self._unix is not None:
            self._unix.remove()
