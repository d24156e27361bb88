"""Replies that a server still owes, in order, one queue for each server.

An entry stands for one frontend message that is answered. Laws: an entry is appended before the
message is written; ReadyForQuery removes everything up to and including the first entry that
promised one, because after an error the server answers nothing else up to Sync (manual, "Extended
Query"). Entries are small ints so that the hot loops append and pop constants.
"""

from __future__ import annotations

from collections import deque

PARSE = 1
BIND = 2
DESCRIBE = 3
EXECUTE = 4
CLOSE = 5
COPY_END = 6
"""CopyDone or CopyFail: no reply of its own, but a Sync before it is ignored by the server."""

READY = 16
"""From here on an entry promises a ReadyForQuery."""
SYNC = 16
QUERY = 17
CALL = 18


class Pipeline:
    """What one server owes."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: deque[int] = deque()

    @property
    def due(self) -> int:
        """ReadyForQuery outstanding."""
        return sum(1 for entry in self.entries if entry >= READY)

    @property
    def unsynced(self) -> bool:
        """Extended messages were sent, but the Sync that ends them was not."""
        return bool(self.entries) and self.entries[-1] < READY

    def ready(self) -> bool:
        """A ReadyForQuery came; whether more is owed behind it."""
        entries = self.entries
        while entries:
            if entries.popleft() >= READY:
                break
        while entries and entries[0] == COPY_END:
            entries.popleft()
        return bool(entries)

    def copy_in_begins(self) -> bool:
        """CopyInResponse came: drop the Syncs that the server will ignore (transparency T14).

        Returns whether the end of the copy was sent already, so that later Syncs count again.
        """
        kept: list[int] = []
        ended = False
        begun = False
        for entry in self.entries:
            if entry == COPY_END and begun:
                ended = True
            if entry == SYNC and begun and not ended:
                continue
            if entry in (EXECUTE, QUERY):
                begun = True
            kept.append(entry)
        self.entries = deque(kept)
        return ended
