"""Who connected lately is looked at again at once, on the loop: most sessions are theirs.

A thread costs a login more than the look itself. Laws: bounded, a few processes with few of their
descriptors, in the kernel's memory alone; what is kept open below /proc belongs to one process for
ever, so that no other one with its pid is taken for it; what is not found here is asked of
`net/peer` in a thread.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import OrderedDict
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from pgguard.net.peer import NETLINK_SOCK_DIAG, PROC, answered_inode, question

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pgguard.pool.identity import ProcessInfo

    Ask = Callable[[int, int], int]

KEPT = 8
"""Processes."""
NAMES = 8
"""Descriptors of one process that are looked at first."""
DESCRIPTORS = 64
"""Of one process that are looked at."""


class Kernel:
    """Inodes of loopback sockets (sock_diag(7)), over one netlink socket that stays open."""

    __slots__ = ("_asked", "_number")

    def __init__(self) -> None:
        self._asked: socket.socket | None = None
        self._number = 0

    def inode(self, port: int, peer_port: int) -> int:
        """Of the IPv4 socket with that local port and peer port; 0 = not known."""
        self._number = (self._number + 1) & 0xFFFFFFFF
        try:
            if self._asked is None:
                self._asked = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
                self._asked.setblocking(False)
            self._asked.send(question(socket.AF_INET, port, peer_port, self._number))
            # The kernel answers while it is being asked.
            answer = self._asked.recv(4096)
        except (OSError, AttributeError):
            self.close()
            return 0
        if int.from_bytes(answer[8:12], sys.byteorder) != self._number:
            self.close()
            return 0
        return answered_inode(answer) or 0

    def close(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.close()


class Lately:
    """The processes that connected last, with their open directories of descriptors."""

    __slots__ = ("_ask", "_proc", "_processes", "kernel")

    def __init__(self, proc: Path = PROC, ask: Ask | None = None) -> None:
        self.kernel = Kernel()
        self._proc = proc
        self._ask = ask or self.kernel.inode
        self._processes: OrderedDict[int, _Process] = OrderedDict()
        """By pid."""

    def find(self, port: int, peer_port: int) -> ProcessInfo | None:
        """The process of a loopback TCP socket, if it is one of these."""
        if not self._processes:
            return None
        inode = self._ask(port, peer_port)
        if not inode:
            return None
        link = f"socket:[{inode}]"
        for pid in list(reversed(self._processes)):
            process = self._processes[pid]
            try:
                has = process.has(link)
                same = has and process.runs() == process.words
            except OSError:
                # It has ended.
                self._forget(pid)
                continue
            if has:
                if not same:
                    # It runs something else now.
                    self._forget(pid)
                    return None
                self._processes.move_to_end(pid)
                return process.info
        return None

    def remember(self, info: ProcessInfo) -> None:
        """A process that has connected."""
        if info.pid in self._processes:
            return
        with suppress(OSError):
            self._processes[info.pid] = _Process(self._proc / str(info.pid), info)
            if len(self._processes) > KEPT:
                self._forget(next(iter(self._processes)))

    def close(self) -> None:
        self.kernel.close()
        for pid in list(self._processes):
            self._forget(pid)

    def _forget(self, pid: int) -> None:
        self._processes.pop(pid).close()


class _Process:
    """One of them: its directory of descriptors and its command line, both open, the latter as it
    was, and what was made of that. Raises OSError where the process has ended."""

    __slots__ = ("_command", "_directory", "_names", "info", "words")

    def __init__(self, place: Path, info: ProcessInfo) -> None:
        self.info = info
        self._names: list[str] = []
        """Descriptors that were connections of ours, the newest last: they are used again."""
        self._directory = os.open(place / "fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._command = -1
        try:
            self._command = os.open(place / "cmdline", os.O_RDONLY | os.O_CLOEXEC)
            self.words = self.runs()
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._directory)
        if self._command >= 0:
            os.close(self._command)

    def runs(self) -> bytes:
        """Its command line now. Raises OSError where it has ended."""
        return os.pread(self._command, 4096, 0)

    def has(self, link: str) -> bool:
        """Whether one of its first descriptors is that. Raises OSError where it has none left."""
        names = self._names
        # One connection after the other has the newest; of several that take turns, the oldest.
        for name in (*names[-1:], *names[:-1]):
            if self._is(name, link):
                if name is not names[-1]:
                    names.remove(name)
                    names.append(name)
                return True
        with os.scandir(self._directory) as entries:
            found = [entry.name for entry in islice(entries, DESCRIPTORS)]
        if not found:
            raise ProcessLookupError
        for name in found:
            if name not in names and self._is(name, link):
                self._names = [*names[1 - NAMES :], name]
                return True
        return False

    def _is(self, name: str, link: str) -> bool:
        try:
            return os.readlink(name, dir_fd=self._directory) == link
        except OSError:
            # It may have been closed meanwhile.
            return False
