"""Which process is behind a loopback port: procfs, read in a thread.

Linux only; elsewhere nobody is found. Laws: reads only what this user may read and never waits for
anything but the file system; command lines lose every word that may hold a secret.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pgguard.pool.identity import ProcessInfo

PROC = Path("/proc")
_WORKER_VARIABLES = (
    "PYTEST_XDIST_WORKER",
    "JEST_WORKER_ID",
    "VITEST_WORKER_ID",
    "TEST_WORKER_INDEX",
)
_SECRET = re.compile(r"://|passw|secret|token|key=|pwd", re.IGNORECASE)
_COMMAND_LIMIT = 80


def find_process(
    port: int, peer_port: int, candidates: list[int], proc: Path = PROC
) -> ProcessInfo | None:
    """The process whose TCP socket has local port `port` and is connected to `peer_port`.

    `candidates` are pids to look at first: those that connected before.
    """
    inode = _inode(port, peer_port, proc)
    if inode is None:
        return None
    wanted = f"socket:[{inode}]"
    for pid in candidates:
        if _holds(pid, wanted, proc):
            return describe(pid, proc)
    seen = set(candidates)
    for entry in os.listdir(proc):  # noqa: PTH208  called for every connection
        if entry.isdigit() and int(entry) not in seen and _holds(int(entry), wanted, proc):
            return describe(int(entry), proc)
    return None


def _inode(port: int, peer_port: int, proc: Path) -> int | None:
    ends = (f":{port:04X}", f":{peer_port:04X}")
    for name in ("net/tcp", "net/tcp6"):
        try:
            lines = (proc / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[1].endswith(ends[0]) and fields[2].endswith(ends[1]):
                return int(fields[9])
    return None


def _holds(pid: int, wanted: str, proc: Path) -> bool:
    directory = proc / str(pid) / "fd"
    try:
        for name in os.listdir(directory):  # noqa: PTH208  thousands of names
            if os.readlink(f"{directory}/{name}") == wanted:  # noqa: PTH115
                return True
    except OSError:
        return False
    return False


def describe(pid: int, proc: Path = PROC) -> ProcessInfo | None:
    """Command and test worker of a process."""
    base = proc / str(pid)
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
    return ProcessInfo(pid=pid, command=_command(words), worker=worker)


def _command(words: list[str]) -> str:
    """Program and what it runs, without paths and options that may hold a secret."""
    shown = [Path(words[0]).name if words and words[0] else "?"]
    secret = False
    for word in words[1:]:
        named, secret = secret, bool(_SECRET.search(word))
        if word and not named and not secret:
            shown.append(word)
        secret = secret and word.startswith("-") and "=" not in word
    return " ".join(shown)[:_COMMAND_LIMIT]
