"""A server on a free port of this machine, with a thread for each connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

LOCALHOST = "127.0.0.1"
WITHIN = 10.0


class LocalServer:
    """Listens for as long as it is entered; whoever inherits it serves."""

    def __init__(self, port: int = 0) -> None:
        self.over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server((LOCALHOST, port))
        self.port = int(self._listening.getsockname()[1])

    def serve(self, sock: socket.socket, number: int) -> None:
        """Serve the connection of this number, the first one is 0, and close it."""
        raise NotImplementedError

    def meet(self) -> None:
        """A connection has come; called in their order."""

    def hang_up(self) -> None:
        """End what may still wait for the other side."""

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        # Wakes the thread that accepts.
        socket.create_connection((LOCALHOST, self.port)).close()
        self.hang_up()
        for thread in self._threads:
            thread.join(WITHIN)
        self._listening.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        number = 0
        while True:
            sock, _ = self._listening.accept()
            if self.over.is_set():
                sock.close()
                return
            with contextlib.suppress(OSError):
                # It may have gone again.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.meet()
            self._start(self.serve, sock, number)
            number += 1
