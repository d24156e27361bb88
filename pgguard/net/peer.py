"""Which process is behind a loopback port: procfs, read in a thread, many ports in one pass.

Linux only; elsewhere nobody is found. Laws: reads only what this user may read, waits for nothing
but the file system; processes that connected before are looked at first, then the youngest; command
lines lose every word that may hold a secret.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pgguard.pool.identity import ProcessInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Ask = Callable[[int, int], int | None]
"""(local port, peer port) → inode, 0 if there is no such socket, None if it cannot be asked."""

PROC = Path("/proc")
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
_LOOPBACK = {
    socket.AF_INET: socket.inet_aton("127.0.0.1").ljust(16, b"\0"),
    socket.AF_INET6: socket.inet_pton(socket.AF_INET6, "::1"),
}
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
_EXECNET = "import sys;exec(eval(sys.stdin.readline()))"
"""What execnet, and so pytest-xdist, starts its workers with."""
_INTERPRETER = re.compile(r"(python|pypy|node|nodejs|ruby|bun|deno|php|perl)[0-9.]*\Z")


class Peers:
    """Finds processes, and remembers who connected. Not for two threads at once."""

    def __init__(self, proc: Path = PROC, ask: Ask | None = None) -> None:
        self._proc = proc
        self._ask = ask
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
        pids = sorted((int(name) for name in names if name.isdigit()), reverse=True)
        yield from (pid for pid in pids if pid not in self._known)

    def _inodes(self, ports: Iterable[int], peer_port: int) -> Iterable[tuple[int, int]]:
        """(port, inode): asked of the kernel one by one, the rest looked for in its tables, which
        it takes milliseconds to write."""
        left = []
        for port in ports:
            inode = self._ask(port, peer_port) if self._ask else None
            if inode:
                yield port, inode
            elif inode is None:
                left.append(port)
        if left:
            yield from self._inodes_in_tables(left, peer_port)

    def _inodes_in_tables(self, ports: list[int], peer_port: int) -> Iterable[tuple[int, int]]:
        choice = "|".join(f"{port:04X}" for port in ports)
        line = re.compile(
            rf"^ *\d+: [0-9A-F]+:({choice}) [0-9A-F]+:{peer_port:04X} (?:\S+ +){{6}}(\d+)",
            re.MULTILINE,
        )
        for name in ("net/tcp", "net/tcp6"):
            try:
                table = (self._proc / name).read_text()
            except OSError:
                continue
            for port, inode in line.findall(table):
                yield int(port, 16), int(inode)

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


def ask_kernel(port: int, peer_port: int) -> int | None:
    """Inode of the loopback TCP socket of that local port and peer port (sock_diag(7)); 0 = there
    is none, None = there is no such way to ask."""
    answered = True
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as asked:
                asked.settimeout(1.0)
                asked.send(question(family, port, peer_port, 0))
                answer = asked.recv(4096)
        except (OSError, AttributeError):
            return None
        inode = answered_inode(answer)
        if inode is not None:
            return inode
        answered = answered and _says_none(answer)
    return 0 if answered else None


def question(family: socket.AddressFamily, port: int, peer_port: int, number: int) -> bytes:
    """The message that asks for one socket; the answer bears the same number."""
    address = _LOOPBACK[family]
    request = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    request += struct.pack(">HH", port, peer_port) + 2 * address + bytes(4) + b"\xff" * 8
    length = 16 + len(request)
    return struct.pack("=IHHII", length, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, number, 0) + request


def answered_inode(answer: bytes) -> int | None:
    """None = the answer names no socket."""
    if len(answer) >= 88 and struct.unpack_from("=H", answer, 4)[0] == SOCK_DIAG_BY_FAMILY:
        inode: int = struct.unpack_from("=I", answer, 84)[0]
        return inode
    return None


def _says_none(answer: bytes) -> bool:
    """Whether the kernel has said that there is no such socket, and not that it cannot say."""
    kind, failed = struct.unpack_from("=H", answer, 4)[0], struct.unpack_from("=i", answer, 16)[0]
    return bool(kind == NLMSG_ERROR and failed == -errno.ENOENT)


def command_of(words: list[str]) -> str:
    """What a process runs, as a person would say it: the program without its directory, an
    interpreter left out before its script, and without the words that may hold a secret."""
    if _EXECNET in words:
        return "pytest-xdist worker"
    shown: list[str] = []
    secret = False
    for word in words:
        announced, secret = secret, bool(_SECRET.search(word))
        if word and not announced and not secret:
            shown.append(word)
        secret = secret and word.startswith("-") and "=" not in word
    if not shown:
        return "?"
    shown[0] = Path(shown[0]).name
    if _INTERPRETER.match(shown[0]):
        shown = _script(shown)
    return " ".join(shown)[:_COMMAND_LIMIT]


def _script(shown: list[str]) -> list[str]:
    """`python -u -m pytest x.py` is `pytest x.py`, `node /a/b/vitest.mjs run` is `vitest.mjs run`;
    code given on the command line stays as it is."""
    for position, word in enumerate(shown[1:], 1):
        if word == "-m" and position + 1 < len(shown):
            return shown[position + 1 :]
        if word in ("-c", "-e", "--eval", "-"):
            break
        if not word.startswith("-"):
            return [Path(word).name, *shown[position + 1 :]]
    return shown
