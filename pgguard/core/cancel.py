"""Cancel keys: what a session is told, and whose server a CancelRequest means.

The pid is that of the real server, so that pg_backend_pid() and pg_stat_activity agree with what
the driver shows; the secret is our own, so that nobody can cancel around us. Laws: secrets are
compared in constant time and never logged; a request that names no session is dropped without a
word, as Postgres does (manual, "Canceling Requests in Progress").
"""

from __future__ import annotations

import hmac
from typing import Generic, TypeVar

S = TypeVar("S")

FIRST_INVENTED = 4_194_305
"""Above what Linux lets a process have: what is told where servers are shared is no backend's pid
(transparency T28)."""

SECRET_3_0 = 4
SECRET_3_2 = 32
"""Bytes of the secret in each protocol version (manual, BackendKeyData)."""


class CancelKeys(Generic[S]):
    """pid → the sessions that were told it, each with its secret."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: dict[int, list[tuple[bytes, S]]] = {}

    def add(self, pid: int, secret: bytes, session: S) -> None:
        self._keys.setdefault(pid, []).append((secret, session))

    def remove(self, pid: int, session: S) -> None:
        left = [entry for entry in self._keys.get(pid, ()) if entry[1] is not session]
        if left:
            self._keys[pid] = left
        else:
            self._keys.pop(pid, None)

    def find(self, pid: int, secret: bytes) -> S | None:
        for known, session in self._keys.get(pid, ()):
            if hmac.compare_digest(known, secret):
                return session
        return None

    def holder(self, pid: int) -> S | None:
        """Who was told this pid."""
        return next((session for _, session in self._keys.get(pid, ())), None)

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._keys.values())
