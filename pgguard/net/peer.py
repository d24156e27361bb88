"""Which process is behind a loopback port: procfs, read in a thread, many ports in one pass.

Linux only; elsewhere nobody is found. Laws: reads only what this user may read, waits for nothing
but the file system; a process that connected before is looked at before all others; command lines
lose every word that may hold a secret.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from pgguard.pool.identity import ProcessInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROC = Path("/proc")
REMEMBERED = 256
"""Processes that are looked at first."""
_WORKER_VARIABLES = (
    "PYTEST_XDIST_WORKER",
    "JEST_WORKER_ID",
    "VITEST_WORKER_ID",
    "TEST_WORKER_INDEX",
)
_SECRET = re.compile(r"://|passw|secret|token|key=|pwd", re.IGNORECASE)
_COMMAND_LIMIT = 80


class Peers:
    """Finds processes, and remembers who connected. Not for two threads at once."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._known: OrderedDict[int, None] = OrderedDict()

    def find(self, ports: Iterable[int], peer_port: int) -> dict[int, ProcessInfo]:
        """Local port → the process whose TCP socket it is, connected to `peer_port`."""
        wanted = {f"socket:[{inode}]": port for port, inode in self._inodes(ports, peer_port)}
        found: dict[int, ProcessInfo] = {}
        for pid in self._candidates():
            if not wanted:
                break
            ports_here = [wanted.pop(link) for link in self._sockets(pid, wanted)]
            info = self.describe(pid) if ports_here else None
            if info is not None:
                found |= dict.fromkeys(ports_here, info)
                self._remember(pid)
        return found

    def _remember(self, pid: int) -> None:
        self._known[pid] = None
        self._known.move_to_end(pid)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _candidates(self) -> Iterable[int]:
        yield from list(reversed(self._known))
        try:
            names = os.listdir(self._proc)  # noqa: PTH208  for every connection
        except OSError:
            return
        yield from (int(name) for name in names if name.isdigit() and int(name) not in self._known)

    def _inodes(self, ports: Iterable[int], peer_port: int) -> Iterable[tuple[int, int]]:
        wanted = set(ports)
        for name in ("net/tcp", "net/tcp6"):
            try:
                lines = (self._proc / name).read_text().splitlines()[1:]
            except OSError:
                continue
            for line in lines:
                fields = line.split()
                port = int(fields[1].rpartition(":")[2], 16)
                if port in wanted and int(fields[2].rpartition(":")[2], 16) == peer_port:
                    yield port, int(fields[9])

    def _sockets(self, pid: int, wanted: Mapping[str, int]) -> set[str]:
        directory = f"{self._proc}/{pid}/fd"
        links = set()
        try:
            for name in os.listdir(directory):  # noqa: PTH208  thousands of names
                link = os.readlink(f"{directory}/{name}")  # noqa: PTH115
                if link in wanted:
                    links.add(link)
        except OSError:
            # It is another user's, or it has ended, or closed that very descriptor.
            pass
        return links

    def describe(self, pid: int) -> ProcessInfo | None:
        """Command and test worker of a process."""
        base = self._proc / str(pid)
        try:
            words = (base / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            return None
        try:
            environ = (base / "environ").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            environ = []
        variables = dict(entry.split("=", 1) for entry in environ if "=" in entry)
        worker = next((variables[name] for name in _WORKER_VARIABLES if variables.get(name)), "")
        return ProcessInfo(pid=pid, command=command_of(words), worker=worker)


def command_of(words: list[str]) -> str:
    """Program and what it runs, without the words that may hold a secret."""
    shown = [Path(words[0]).name if words and words[0] else "?"]
    secret = False
    for word in words[1:]:
        announced, secret = secret, bool(_SECRET.search(word))
        if word and not announced and not secret:
            shown.append(word)
        secret = secret and word.startswith("-") and "=" not in word
    return " ".join(shown)[:_COMMAND_LIMIT]
