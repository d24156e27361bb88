"""Replies that a server still owes, in order, one queue for each server.

An entry stands for one frontend message that is answered. Laws: an entry is appended before the
message is written; ReadyForQuery removes everything up to and including the first entry that
promised one, because after an error the server answers nothing else up to Sync (manual, "Extended
Query"). Entries are small ints so that the hot loops append and pop constants.
"""

from __future__ import annotations

from collections import deque
from itertools import islice, takewhile

PARSE = 1
BIND = 2
DESCRIBE = 3
EXECUTE = 4
CLOSE = 5
COPY_END = 6
"""CopyDone or CopyFail sent before CopyInResponse came: the server ignores Syncs before it."""

PARSE_NAMED = 7
CLOSE_NAMED = 8
"""As PARSE and CLOSE, but what stands on the server changes with the answer (core/prepared)."""
PARSE_OURS = 9
DESCRIBE_OURS = 10
CLOSE_OURS = 11
"""We asked for it within a batch of the session: the answer is not passed on."""

READY = 16
"""From here on an entry promises a ReadyForQuery."""
SYNC = 16
QUERY = 17
CALL = 18
BATCH = 19
"""Bind, Describe, Execute and Sync, perhaps Parse before: one entry for the usual whole."""
QUERY_OURS = 20
"""A Query of our own: nothing of its answer is passed on."""
SYNC_OURS = 21
"""The end of a batch of our own."""
BATCH_NAMED = 22
"""As BATCH, of a prepared statement that has a name, and nothing else is owed."""
SYNCED = (SYNC, BATCH, SYNC_OURS, BATCH_NAMED)
"""What ends the passing over that follows an error."""

MANY = 1024
"""Entries from which on a pipeline is a deque, and is shortened before it grows further."""


class Pipeline:
    """What one server owes."""

    __slots__ = ("_limit", "_looked", "_synced", "entries", "mixed", "skipping")

    def __init__(self) -> None:
        self.entries: list[int] | deque[int] = []
        """A list is smaller and faster as long as it is short, which is nearly always."""
        self._limit = MANY
        self.mixed = False
        """A Query, FunctionCall or whole batch was sent while something else was owed."""
        self.skipping = False
        """After an error in the extended protocol: nothing is answered up to the next Sync."""
        self._looked = 0
        """How many entries were looked at since, whether one is that Sync."""
        self._synced = False

    @property
    def promised(self) -> int:
        """ReadyForQuery that would come if nothing failed."""
        return sum(1 for entry in self.entries if entry >= READY)

    @property
    def due(self) -> int:
        """ReadyForQuery outstanding."""
        return self.promised - self._skipped() if self.skipping else self.promised

    def _skipped(self) -> int:
        """Promises that the server does not keep: those before the next Sync."""
        before = takewhile(lambda entry: entry not in SYNCED, self.entries)
        return sum(1 for entry in before if entry > SYNC)

    @property
    def unsynced(self) -> bool:
        """Extended messages were sent, but the Sync that ends them was not."""
        entries = self.entries
        if self.skipping:
            return not any(entry in entries for entry in (SYNC, BATCH, BATCH_NAMED))
        return bool(entries) and entries[-1] < READY

    @property
    def passes_over(self) -> bool:
        """Whether the server passes over whatever is sent now, up to a Sync. Of a pipeline without
        an end that is asked at each message: no entry is looked at twice."""
        if not self.skipping:
            return False
        count = len(self.entries)
        new = count - self._looked if count >= self._looked else count
        newest = islice(reversed(self.entries), new)
        self._synced = self._synced or any(entry in SYNCED for entry in newest)
        self._looked = count
        return not self._synced

    def failed(self) -> None:
        """An ErrorResponse came. The first of several batches is the one that is answered; one that
        ends in a Query without a Sync before it is taken to have failed before that Query."""
        self.skipping = bool(self.entries) and self.entries[0] < READY
        self._looked, self._synced = 0, False

    def ready(self) -> bool:
        """A ReadyForQuery came; whether more is owed behind it."""
        entries = self.entries
        if len(entries) == 1 and isinstance(entries, list):
            entries.clear()
            self.mixed = self.skipping = False
            return False
        done = 0
        for entry in entries:
            done += 1
            if entry >= SYNC and (entry in SYNCED or not self.skipping):
                break
        self.skipping = False
        self._replace(done, [])
        while entries and entries[0] == COPY_END:
            del entries[0]
        if not entries:
            self.mixed = False
            if isinstance(entries, deque):
                self.entries, self._limit = [], MANY
        return bool(entries)

    def pop(self) -> int:
        """The oldest entry, which has been answered or will not be, and what is never answered
        behind it: the end of a copy that is over."""
        entry = self._first()
        while self.entries and self.entries[0] == COPY_END:
            self._first()
        return entry

    def _first(self) -> int:
        entries = self.entries
        return entries.popleft() if isinstance(entries, deque) else entries.pop(0)

    def stretch(self) -> None:
        """More than MANY entries, each of which is answered for itself: take the oldest one in
        time that does not grow with those behind."""
        if not isinstance(self.entries, deque):
            self.entries = deque(self.entries)

    def _replace(self, count: int, by: list[int]) -> None:
        """Other entries for the first `count`, in time that does not grow with those behind."""
        entries = self.entries
        if isinstance(entries, deque):
            for _ in range(count):
                entries.popleft()
            entries.extendleft(reversed(by))
        else:
            entries[:count] = by

    def shorten(self) -> None:
        """More than MANY entries: drop those that can say nothing any more.

        Without this a session that never sends a Sync, or goes on after an error without one, would
        add entries for ever: Postgres answers or drops its messages, but promises nothing. What is
        left is bounded by what lies unread in the sockets.
        """
        entries = self.entries
        if len(entries) < self._limit:
            return
        kept: deque[int] = deque()
        dropping = self.skipping
        named = ended = False
        for entry in entries:
            if dropping and kept and entry not in SYNCED:
                # Postgres passes over everything up to the Sync.
                continue
            if entry >= READY:
                kept.append(entry)
                dropping = dropping and entry not in SYNCED
                named = ended = False
            elif entry == COPY_END:
                if not ended:
                    kept.append(entry)
                ended = True
            elif not named:
                kept.append(entry)
                named = True
            elif entry == EXECUTE and kept[-1] < COPY_END:
                kept[-1] = EXECUTE
        self.entries = kept
        self._limit = max(MANY, 2 * len(kept))

    def copy_in_begins(self) -> bool:
        """CopyInResponse came: drop the Syncs that the server will ignore (transparency T14).

        Returns whether the end of the copy was sent already, so that later Syncs count again.
        """
        kept: list[int] = []
        taken = 0
        begun = ended = False
        for entry in self.entries:
            taken += 1
            if entry in (BATCH, BATCH_NAMED):
                begun = True
                kept.append(EXECUTE)
                continue
            if begun and entry in (SYNC, COPY_END):
                ended = entry == COPY_END
                if ended:
                    break
                continue
            begun = begun or entry in (EXECUTE, QUERY)
            kept.append(entry)
        self._replace(taken, kept)
        return ended
