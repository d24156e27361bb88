"""What the tenant guard remembers of one session, from its first statement that needs it on.

Laws: a session whose statements are all clean has none; everything is bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.tenancy.transactions import Tenants

if TYPE_CHECKING:
    from pgguard.core.session import Session
    from pgguard.sql.statement import Statement
    from pgguard.tenancy.results import Column

Raw = tuple[str, bytes, bytes]
"""The type of the column that it is compared with, the formats of a Bind (empty for a literal), and
the bytes."""

MOST_TOKENS = 10_000
MOST_WARNED = 1_000
MOST_NAMES = 1_000


def watch_of(session: Session) -> Watch:
    watch = session.guard
    if watch is None:
        watch = session.guard = Watch()
    return watch


def forget(session: Session, watch: Watch) -> None:
    """What a value names may be another tenant from now on."""
    watch.raws.clear()
    watch.key = session.tenant = ""


class Watch:
    """One session's."""

    __slots__ = (
        "_number",
        "asked",
        "blocked",
        "described",
        "drop",
        "dropping",
        "expected",
        "final",
        "key",
        "names",
        "pending",
        "raws",
        "refused",
        "tenants",
        "texts",
        "warned",
    )

    def __init__(self) -> None:
        self.blocked: dict[bytes, bytes] = {}
        """Texts and names that were put in the place of what is blocked, each with the body of the
        ErrorResponse that the client gets for it."""
        self.drop = 0
        """Bytes to come of a message that was blocked."""
        self.dropping = False
        """What is being skipped is not passed on (servers that are shared)."""
        self.pending: tuple[bytes, list[tuple[int, Statement]]] | None = None
        """What waits for verdicts: a chunk, and where which statement stands in it."""
        self.final = False
        """Nothing better than what is known now will come: waiting is over."""
        self.refused: Statement | None = None
        """The statement whose Parse was blocked last: its Bind is no second execution."""
        self.warned: set[Statement] = set()
        self.tenants = Tenants()
        self.names: dict[tuple[bool, str], tuple[Statement | None, bytes]] = {}
        """What PREPARE and DECLARE (True) have given a name in SQL, with its very text if the
        statement is known by another one of its shape, else empty. None = it was prepared twice,
        and which of them succeeded is not known."""
        self.raws: dict[Raw, str] = {}
        """Values as they came, and the tenant that each alone named while the settings were what
        they are."""
        self.key = ""
        """The tenant of the newest such value, if it was a literal; empty = none."""
        self.asked: tuple[Raw, Statement] | None = None
        """One that is not known yet, and whose execution is about to be weighed."""
        self.texts: dict[bytes, bytes] = {}
        """By name the texts of statements that are known by another text of their shape."""
        self.expected: tuple[Statement | None, frozenset[str]] = None, frozenset()
        """The tenant that the newest execution of a flagged statement named, if it is one."""
        self.described: dict[bytes, list[Column | None]] = {}
        """By the text of flagged statements: what of their results is looked at."""
        self._number = 0

    def describe(self, text: bytes, found: list[Column | None]) -> None:
        if len(self.described) >= MOST_NAMES:
            del self.described[next(iter(self.described))]
        self.described[text] = found

    def keep_text(self, name: bytes, text: bytes) -> None:
        if len(self.texts) >= MOST_NAMES:
            del self.texts[next(iter(self.texts))]
        self.texts[name] = text

    def remember(self, name: tuple[bool, str], statement: Statement, text: bytes = b"") -> None:
        if len(self.names) >= MOST_NAMES:
            del self.names[next(iter(self.names))]
        other = bool(text) and text != statement.text
        entry = statement, text if other and not statement.cut else b""
        twice = not name[0] and self.names.get(name, entry) != entry
        self.names[name] = (None, b"") if twice else entry

    def forget_prepared(self) -> None:
        """DEALLOCATE ALL."""
        self.names = {name: kept for name, kept in self.names.items() if name[0]}

    def token(self, error: bytes) -> bytes:
        """A text that cannot be parsed, and a name that no statement has; `error` is the body of
        the ErrorResponse that takes the place of the one it provokes."""
        if len(self.blocked) >= MOST_TOKENS:
            del self.blocked[next(iter(self.blocked))]
        self._number += 1
        token = b"pgguard_blocked_%d" % self._number
        self.blocked[token] = error
        return token

    def answer(self, text: bytes) -> bytes | None:
        """The error for the token that `text` names, once."""
        for token, error in self.blocked.items():
            at = text.find(token)
            if at >= 0 and not text[at + len(token) : at + len(token) + 1].isdigit():
                del self.blocked[token]
                return error
        return None

    def warns(self, statement: Statement) -> bool:
        """Whether this session has not been warned of the statement yet."""
        if statement in self.warned:
            return False
        if len(self.warned) >= MOST_WARNED:
            self.warned.clear()
        self.warned.add(statement)
        return True
