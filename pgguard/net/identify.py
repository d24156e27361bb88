"""Ask procfs who came: whoever came lately at once, all others in one pass, in a thread.

Laws: a session is answered whatever goes wrong; the loop never waits for the file system.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgguard.core.states import SessionState
from pgguard.net.lately import Lately
from pgguard.net.peer import Peers, ask_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgguard.core.hub import Hub
    from pgguard.core.session import Session
    from pgguard.net.loop import Tasks
    from pgguard.pool.identity import ProcessInfo

IDLE = 1.5
"""Seconds without a new session after which those who came lately are forgotten."""


class Identification:
    """The process of each session, by its loopback port or by what its unix socket says."""

    def __init__(
        self, hub: Hub, tasks: Tasks, report: Callable[[str, BaseException], None]
    ) -> None:
        self._hub = hub
        self._tasks = tasks
        self._report = report
        self.peers = Peers(ask=ask_kernel)
        self.lately = Lately()
        self.port = 0
        """Where sessions connect over TCP."""
        self._wanted: list[Session] = []
        self._used = False
        """Somebody was found, or remembered, since the last look at that."""
        self._rest: asyncio.TimerHandle | None = None

    def want(self, session: Session) -> bool:
        """Whether its process is known at once; else it ends in hub.identified."""
        if session.peer_pid is None:
            session.process = self.lately.find(session.port, self.port)
            if session.process is not None:
                self._used = True
                return True
        self._wanted.append(session)
        if len(self._wanted) == 1:
            self._tasks.spawn(self._find(), "identify")
        return False

    def stop(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
        self.lately.close()

    def _remember(self, info: ProcessInfo) -> None:
        self.lately.remember(info)
        self._used = True
        if self._rest is None:
            self._rest = asyncio.get_running_loop().call_later(IDLE, self._forget)

    def _forget(self) -> None:
        """Nobody has come for a while: nothing is kept open for who might."""
        self._rest = None
        if self._used:
            self._used = False
            self._rest = asyncio.get_running_loop().call_later(IDLE, self._forget)
        else:
            self.lately.close()

    async def _find(self) -> None:
        loop = asyncio.get_running_loop()
        while self._wanted:
            sessions = self._wanted[:]
            # Of those who have left meanwhile nobody wants to know.
            here = [session for session in sessions if session.state is not SessionState.CLOSED]
            ports = {session.port for session in here if session.peer_pid is None}
            pids = {session.peer_pid for session in here if session.peer_pid}
            try:
                by_port, by_pid = await loop.run_in_executor(None, self._look, ports, pids)
            except Exception as error:  # noqa: BLE001  who it is stays unknown, and it enters
                self._report("identify", error)
                by_port, by_pid = {}, {}
            del self._wanted[: len(sessions)]
            for info in by_port.values():
                self._remember(info)
            for session in sessions:
                pid = session.peer_pid
                session.process = by_port.get(session.port) if pid is None else by_pid.get(pid)
                try:
                    self._hub.identified(session)
                except Exception as error:  # noqa: BLE001  the others must not wait for ever
                    self._report(repr(session), error)
                    session.out.abort()

    def _look(
        self, ports: set[int], pids: set[int]
    ) -> tuple[dict[int, ProcessInfo], dict[int, ProcessInfo]]:
        found = self.peers.find(ports, self.port) if ports else {}
        described = ((pid, self.peers.describe(pid)) for pid in pids)
        return found, {pid: info for pid, info in described if info is not None}
