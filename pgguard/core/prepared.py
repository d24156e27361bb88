"""Prepared statements of sessions that share servers: whose name stands on which server.

Directly, a name lives in the session. Here each session's names stand on a server under names of
their own (`pgg7.s1`), and a server that lacks one is given it before it is used (transparency T16,
T17). Laws: names follow replies, not requests: what a Parse or Close changes is written down when
Postgres has answered it, and until then only the messages behind it in the same batch see it; an
error drops what was not answered. A name that the session does not have goes to the server as it
is, so that the error is Postgres's own.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pgguard.core.spelling import USUAL, is_plain
from pgguard.wire.codes import PARSE
from pgguard.wire.scan import message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgguard.core.spelling import Spelling
    from pgguard.sql.statement import Statement

LONGEST = 63
"""Bytes of a name that Postgres tells apart (NAMEDATALEN - 1)."""

MOST = 1000
"""Statements that are kept on one server; beyond it those used longest ago are closed."""


_NAMING = re.compile(rb"execute|deallocate|prepare", re.IGNORECASE)


def may_name_prepared(text: bytes) -> bool:
    """Whether a text that could not be read may name prepared statements."""
    return _NAMING.search(text) is not None


@dataclass(slots=True, eq=False)
class Prepared:
    """One statement of a session: `body` is what follows the name in its Parse."""

    body: bytes
    statement: Statement
    types: tuple[int, ...] | None = None
    """The parameter types as Postgres has resolved them; None = not told yet."""
    rows: bytes | None = None
    """Its RowDescription without formats, empty if it returns none; None = not told yet."""
    epoch: int = 0
    """That of the database when `rows` was told: DDL since then may have changed it (T18)."""
    spelled: Spelling | None = None
    """How its text is read, if its session has changed that since."""

    @property
    def text(self) -> bytes:
        return self.body.partition(b"\0")[0]

    def parse(self, name: bytes) -> bytes:
        """The Parse that makes it again under `name`, with the types it had (T18)."""
        if self.types is None:
            return message(PARSE, name + b"\0" + self.body)
        types = b"".join(oid.to_bytes(4, "big") for oid in self.types)
        count = len(self.types).to_bytes(2, "big")
        return message(PARSE, name + b"\0" + self.text + b"\0" + count + types)


class Change(NamedTuple):
    """What an answer to a Parse or Close will change."""

    name: bytes
    """The session's name; empty = the unnamed statement."""
    prepared: Prepared | None
    """None = it is closed."""
    ours: bool
    """We asked for it: the session's names stay as they are, the server's change."""


class Names:
    """The statements of one session."""

    __slots__ = ("_mark", "_statements", "bare", "spelling", "unnamed")

    def __init__(self, session: int) -> None:
        self._statements: dict[bytes, Prepared] = {}
        self.unnamed: Prepared | None = None
        self._mark = b"pgg%x." % session
        self.bare = False
        """They stand under the session's own names, on a server that nobody else has (T19)."""
        self.spelling = USUAL
        """How texts of the session are read."""

    def __len__(self) -> int:
        return len(self._statements)

    def get(self, name: bytes) -> Prepared | None:
        return self._statements.get(name) if name else self.unnamed

    def put(self, name: bytes, prepared: Prepared | None) -> None:
        if not name:
            self.unnamed = prepared
        elif prepared is None:
            self._statements.pop(name, None)
        else:
            self._statements[name] = prepared

    def forget(self) -> None:
        """DEALLOCATE ALL or DISCARD ALL; the unnamed one goes with the Query that said so."""
        self._statements.clear()
        self.bare = False

    def respelled(self, now: Spelling) -> bool:
        """Texts of the session are read in another way from now on. Returns whether that matters
        to a statement that there is."""
        before, self.spelling = self.spelling, now
        found = False
        for prepared in (self.unnamed, *self._statements.values()):
            if prepared is not None and not prepared.spelled and not is_plain(prepared.text):
                prepared.spelled, found = before, now != before
        return found

    def reads(self, prepared: Prepared) -> bool:
        """Whether its text would be read as it was when Postgres made it."""
        return prepared.spelled in (None, self.spelling)

    def __iter__(self) -> Iterator[tuple[bytes, Prepared]]:
        yield from self._statements.items()

    def on_server(self, name: bytes) -> bytes:
        """The name under which a statement of ours stands on every server.

        Postgres tells names apart by their first 63 bytes, of ours as of theirs.
        """
        if not name or self.bare:
            return name
        name = name[:LONGEST]
        if len(self._mark) + len(name) > LONGEST or not name.isascii():
            # Of another encoding it would be another name.
            name = hashlib.blake2b(name, digest_size=16).hexdigest().encode()
        return self._mark + name

    def as_told(self, text: bytes) -> bytes:
        """An error's text with the session's names in it again."""
        if self._mark not in text:
            return text
        for name in self._statements:
            text = text.replace(b'"%b"' % self.on_server(name), b'"%b"' % name)
        return text.replace(self._mark, b"")


class Stand:
    """What stands on one server, and what its answers will change.

    `changes` are in the order of the messages that were sent.
    """

    __slots__ = (
        "_boundary",
        "_done",
        "_names",
        "asked",
        "awaited",
        "changes",
        "targets",
        "unnamed",
    )

    def __init__(self) -> None:
        self._names: dict[bytes, Prepared] = {}
        """Server names, those used longest ago first, and what they mean here: the session may have
        closed it elsewhere, or made another one of that name."""
        self.changes: deque[Change] = deque()
        self.targets: deque[Prepared | None] = deque()
        """For each Describe that is not answered what it is about; None = a portal, or unknown."""
        self._done = self._boundary = 0
        """Changes that are over, and those that were sent before the newest batch began."""
        self.awaited: int | None = None
        """How many must be over before the session says more."""
        self.asked = 0
        """How many stood here when Postgres was asked for their number."""
        self.unnamed: Prepared | None = None
        """The unnamed statement, whosever it is."""

    def __len__(self) -> int:
        return len(self._names)

    def sees(self, names: Names, name: bytes) -> Prepared | None:
        """What `name` means to the next message of the session in this batch."""
        for change in reversed(self.changes):
            if change.name == name and not change.ours:
                return change.prepared
        return names.get(name)

    def finds(self, names: Names, name: bytes) -> Prepared | None:
        """What the next message would find on this server without help."""
        for change in reversed(self.changes):
            if change.name == name:
                return change.prepared
        if not name:
            return self.unnamed
        stands = names.on_server(name)
        found = self._names.pop(stands, None)
        if found is not None:
            # The newest use stands last.
            self._names[stands] = found
        return found

    def has(self, stands: bytes, prepared: Prepared) -> bool:
        """Whether it stands here under that name, nothing being on its way."""
        if self._names.get(stands) is not prepared or self.changes:
            return False
        if len(self._names) > MOST // 2:
            self._names[stands] = self._names.pop(stands)
        return True

    def will(self, change: Change) -> None:
        """A Parse or Close is about to be sent."""
        self.changes.append(change)

    def batch_ends(self) -> None:
        """A Sync or a Query has ended what the session has sent."""
        self._boundary = self._done + len(self.changes)

    def must_wait(self, names: Names, name: bytes) -> bool:
        """Whether it depends on the fate of a batch before this one what the name means."""
        before = self._boundary - self._done
        if before <= 0:
            return False
        places = [at for at, one in enumerate(self.changes) if one.name == name]
        if not places or places[-1] >= before:
            return False
        newest = self.changes[places[-1]]
        missing = bool(name) or (newest.prepared is None and self.unnamed is None)
        brought = any(self.changes[at].prepared is not None for at in places[:-1])
        if missing and not newest.ours and not brought and names.get(name) is None:
            # Where the change is not made Postgres does not find the name, as it should.
            return False
        self.awaited = self._boundary
        return True

    def awaits_no_more(self) -> bool:
        """Whether what was awaited is over now."""
        if self.awaited is None or self._done < self.awaited:
            return False
        self.awaited = None
        return True

    def answered(self, names: Names) -> None:
        """The oldest change has been answered by ParseComplete or CloseComplete."""
        self._done += 1
        name, prepared, ours = self.changes.popleft()
        if not ours:
            names.put(name, prepared)
        if not name:
            self.unnamed = prepared
            return
        stands = names.on_server(name)
        self._names.pop(stands, None)
        if prepared is not None:
            self._names[stands] = prepared

    def parse_failed(self, names: Names) -> None:
        """The oldest change is the Parse that an error has answered."""
        if not self.changes[0].name:
            # The unnamed statement goes before the new one is looked at (exec_parse_message).
            self.unnamed = None
            if not self.changes[0].ours:
                names.put(b"", None)

    def dropped(self) -> None:
        """An error: the oldest change will not be answered."""
        self._done += 1
        self.changes.popleft()

    def cleared(self) -> list[bytes]:
        """Nothing stands here any more, of nobody. Returns what did."""
        names = list(self._names)
        self._names.clear()
        return names

    def deallocated(self, stands: bytes) -> None:
        """A statement of this server name was taken away by SQL."""
        self._names.pop(stands, None)

    def surplus(self) -> Iterator[bytes]:
        """Server names to close, those used longest ago first."""
        for stands in list(self._names)[: max(0, len(self._names) - MOST)]:
            del self._names[stands]
            yield stands


def without_formats(description: bytes) -> bytes:
    """A RowDescription's body but for the format codes: names, tables, types. Empty for NoData."""
    pieces = [description[:2]]
    pos = 2
    while pos < len(description):
        end = description.find(b"\0", pos)
        if end < 0:
            return description
        pieces.append(description[pos : end + 17])
        pos = end + 19
    return b"".join(pieces)
