"""From the bytes of a text to its `Statement`: by exact bytes, by its digits, then by shape.

Laws: `exact` and `numbered` are one dictionary object each for the whole life of the cache, so that
the hot loop of the core may look there itself and fall back on `get`; everything is bounded in
entries and bytes, in two generations each, so that what is in use survives; a Statement is found by
shape, and by digits, only once `share` was called for it, after its verdict, since some verdicts
depend on literals; texts over `EXACT` bytes are kept by digest, and those over `SHAPED` have no
shape.
"""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Protocol

from pgguard.sql import effects
from pgguard.sql.shape import only_literals_vary, shape
from pgguard.sql.statement import Facts, Statement

if TYPE_CHECKING:
    from collections.abc import Iterator

EXACT: Final = 8 * 1024
"""Bytes of the longest text whose bytes are kept as a key."""

SHAPED: Final = 32 * 1024
"""Bytes of the longest text that is read in this process."""

DIGITS: Final = bytes(0x30 if 0x30 <= byte <= 0x39 else byte for byte in range(256))
"""Translates every digit to 0."""

UNREAD: Final = 32 * 1024 * 1024
"""Bytes of texts over `SHAPED` that are kept until somebody reads them; the oldest go first."""
TOO_MANY: Final = "too many large texts came at once"

_OVERHEAD: Final = 400
"""Bytes counted for an entry beside its key."""


class Counters(Protocol):
    """What the cache counts into."""

    cache_hits: int
    cache_misses: int


class _Generations:
    """A dictionary that forgets what was not used for a while.

    `young` stays the same object; when it is full its content becomes `old`, and what `old` held
    is gone unless it was asked for and moved back.
    """

    __slots__ = ("entries", "held", "old", "size", "young")

    def __init__(self, entries: int, size: int) -> None:
        self.young: dict[bytes, Statement] = {}
        self.old: dict[bytes, Statement] = {}
        self.entries, self.size = entries // 2, size // 2
        self.held = 0

    def find(self, key: bytes) -> Statement | None:
        statement = self.young.get(key)
        if statement is None:
            statement = self.old.get(key)
            if statement is not None:
                self.put(key, statement)
        return statement

    def put(self, key: bytes, statement: Statement) -> None:
        cost = len(key) + _OVERHEAD
        if len(self.young) >= self.entries or self.held + cost > self.size:
            self.old = dict(self.young)
            self.young.clear()
            self.held = 0
        self.young[key] = statement
        self.held += cost

    def forget(self, statement: Statement) -> None:
        for side in (self.young, self.old):
            for key in [key for key, kept in side.items() if kept is statement]:
                del side[key]


class StatementCache:
    """Statements by text and by shape; `limit` bounds the bytes of all keys and texts."""

    __slots__ = (
        "_digests",
        "_exact",
        "_numbered",
        "_shapes",
        "_unread",
        "_unread_bytes",
        "counters",
        "exact",
        "numbered",
    )

    def __init__(
        self, counters: Counters, *, limit: int = 32 * 1024 * 1024, entries: int = 40_000
    ) -> None:
        self.counters = counters
        self._exact = _Generations(entries // 2, limit // 2)
        self._shapes = _Generations(entries // 4, limit // 4)
        # Statements of large texts keep their text until they are judged, 16 KiB of it after.
        self._digests = _Generations(min(entries // 4, limit // (8 * EXACT)), limit // 4)
        self.exact: dict[bytes, Statement] = self._exact.young
        """Texts of at most `EXACT` bytes; a hit found here is counted by whoever looked."""
        self._unread: deque[tuple[Statement, int]] = deque()
        self._unread_bytes = 0
        self._numbered = _Generations(entries // 4, limit // 4)
        self.numbered: dict[bytes, Statement] = self._numbered.young
        """Texts whose digits all stand in literals, each digit read as 0: two texts with one such
        key have one shape. A hit found here is counted by whoever looked."""

    def get(self, text: bytes) -> Statement:
        """The Statement of a text; a new one has no verdict yet."""
        statement = self.exact.get(text)
        if statement is not None:
            self.counters.cache_hits += 1
            return statement
        level = self._exact if len(text) <= EXACT else self._digests
        if level is self._exact:
            statement = self._numbered.find(text.translate(DIGITS))
            if statement is not None:
                self.counters.cache_hits += 1
                return statement
        key = text if level is self._exact else blake2b(text, digest_size=16).digest()
        statement = level.find(key)
        if statement is None:
            structure = shape(text) if len(text) <= SHAPED else None
            statement = self._shapes.find(structure) if structure is not None else None
            if statement is None:
                self.counters.cache_misses += 1
                statement = Statement(text, structure)
                level.put(key, statement)
                if len(text) > SHAPED:
                    self._bound_unread(statement)
                return statement
            if level is self._exact and structure is not None and only_literals_vary(structure):
                self._numbered.put(text.translate(DIGITS), statement)
            else:
                level.put(key, statement)
        self.counters.cache_hits += 1
        return statement

    def _bound_unread(self, newest: Statement) -> None:
        """A text that was only prepared may never be executed, and so never be read."""
        self._unread.append((newest, len(newest.text)))
        self._unread_bytes += len(newest.text)
        while self._unread_bytes > UNREAD and len(self._unread) > 1:
            statement, size = self._unread.popleft()
            self._unread_bytes -= size
            if statement.facts is None:
                statement.text = statement.text[:EXACT]
                statement.facts = Facts(effects=effects.ANY, unread=TOO_MANY)

    def keep(self, text: bytes, statement: Statement) -> None:
        """Keep a Statement for exactly this text."""
        self._exact.put(text, statement)

    def share(self, statement: Statement) -> None:
        """From now on texts of this statement's shape get this very object."""
        key = statement.shape
        if key is not None and self._shapes.find(key) is None:
            self._shapes.put(key, statement)

    def forget(self, statement: Statement) -> None:
        """Texts must stand for themselves again: the verdict turned out to depend on literals."""
        if statement.shape is None or self._shapes.find(statement.shape) is not statement:
            return
        for level in (self._shapes, self._exact, self._numbered, self._digests):
            level.forget(statement)

    def statements(self) -> Iterator[Statement]:
        """Every statement in the cache, once."""
        seen: set[int] = set()
        for level in (self._exact, self._numbered, self._shapes, self._digests):
            for side in (level.young, level.old):
                for statement in side.values():
                    if id(statement) not in seen:
                        seen.add(id(statement))
                        yield statement
