"""Unix sockets as Postgres has them: `.s.PGSQL.PORT` in a directory, with a lock file beside it.

Laws: what somebody listens on is never taken away, what nobody listens on is replaced; at the end
only what is still ours is removed. The lock file has the form of Postgres's, so that a postmaster
and a guard respect each other (manual, "unix_socket_directories"). A name that begins with `@` is
in the abstract namespace and leaves no file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pgguard.core.types import Peer
from pgguard.errors import SettingsError
from pgguard.settings.values import socket_path

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 107
"""Bytes of a socket's path; the kernel has room for one more, a NUL (unix(7))."""
MODE = 0o777
"""As `unix_socket_permissions` of Postgres: who may come in is decided at login."""
_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)."""
_FIRST_LINE = 32


def target(path: str) -> str:
    """The address of a path for `bind` and `connect`. Raises OSError for one that is too long."""
    if len(os.fsencode(path)) > LONGEST:
        raise OSError(
            errno.ENAMETOOLONG, f"the path of the socket is too long (maximum {LONGEST} bytes)"
        )
    return "\0" + path[1:] if path.startswith("@") else path


def peer_of(sock: socket.socket) -> Peer | None:
    """Who is at the other end; None where the system cannot say. Raises OSError."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    known = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(known)
    return Peer(pid, uid)


class UnixSocket:
    """One listening socket; `close` takes it away from the file system."""

    def __init__(self, directory: str, port: int, *, backlog: int, what: str) -> None:
        """Raises SettingsError when it cannot be had, naming the path and the way out."""
        self.path = socket_path(directory, port)
        self._file = None if self.path.startswith("@") else Path(self.path)
        self._inodes: dict[Path, int] = {}
        try:
            with _undone(self):
                if self._file is not None:
                    self._take(Path(self.path + ".lock"), directory, port)
                self.sock = self._listen(backlog)
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {self.path}: {_reason(error)}", where=what, hint=_hint(error)
            ) from error

    def _take(self, lock: Path, directory: str, port: int) -> None:
        """Postgres's own lock file: pid, directory of the data, start, port, directory."""
        lines = (os.getpid(), directory, int(time.time()), port, directory)
        text = "".join(f"{line}\n" for line in lines)
        for _ in range(2):
            try:
                file = open(lock, "x", opener=_private)  # noqa: SIM115
            except FileExistsError:
                if holder := _holder(lock) or listener_at(self.path):
                    raise OSError(errno.EADDRINUSE, holder) from None
                lock.unlink(missing_ok=True)
                continue
            with file:
                self._inodes[lock] = os.fstat(file.fileno()).st_ino
                file.write(text)
            return
        raise OSError(errno.EADDRINUSE, "another process takes it at this moment")

    def _listen(self, backlog: int) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            address = target(self.path)
            if self._file is not None:
                if holder := listener_at(self.path):
                    raise OSError(errno.EADDRINUSE, holder)
                self._file.unlink(missing_ok=True)
            sock.bind(address)
            if self._file is not None:
                self._inodes[self._file] = self._file.stat().st_ino
                self._file.chmod(MODE)
            sock.listen(backlog)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return sock

    def remove(self) -> None:
        """Take socket and lock away, unless somebody else has put theirs there."""
        # The lock goes last: until then nobody takes the path.
        for path, inode in reversed(list(self._inodes.items())):
            with contextlib.suppress(OSError):
                if path.stat().st_ino == inode:
                    path.unlink()
        self._inodes.clear()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def _undone(made: UnixSocket) -> Iterator[None]:
    """What was made is removed again when the rest fails."""
    try:
        yield
    except BaseException:
        made.remove()
        raise


def _holder(lock: Path) -> str:
    """Who holds a lock file, in words; empty for one that a process left behind.

    As Postgres reads it: a process that is gone, is of another user, or is ourselves or our parent
    cannot hold it; in a container their number comes back.
    """
    try:
        with lock.open("rb") as file:
            pid = abs(int(file.read(_FIRST_LINE).split(b"\n")[0] or b"0"))
    except FileNotFoundError:
        return ""
    except ValueError:
        raise OSError(errno.EADDRINUSE, f"{lock} is no lock file: remove it") from None
    if pid in (0, os.getpid(), os.getppid()):
        return ""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return ""
    return f"process {pid} has it (lock file {lock})"


def listener_at(path: str) -> str:
    """Who listens there, in words; empty for a socket that was left behind. Raises OSError.

    Unlike a pid this is also true across containers that share the directory.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.setblocking(False)
        try:
            asked.connect(target(path))
        except BlockingIOError:
            pass
        except (FileNotFoundError, ConnectionRefusedError):
            return ""
        pid = (peer_of(asked) or Peer(0, 0)).pid
    return f"process {pid} listens there" if pid else "another program listens there"


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _hint(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "choose another directory or port, or end that process"
    if error.errno == errno.ENOENT:
        return "make the directory first"
    if error.errno == errno.ENAMETOOLONG:
        return "choose a shorter directory, such as /tmp"
    return ""
