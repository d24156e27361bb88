"""What DDL has made and changed since the catalogue was read, as far as sessions of ours ran it.

A catalogue is some seconds old, and what it says of a table that has had DDL since is not believed.
Laws: what may have changed is doubted from the moment its DDL is sent, by whomever, until a reading
has begun after its end; a table that was made counts only when its transaction is over, and only
as long as nothing about it is doubted; names mean those of every schema; everything is bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pgguard.sql.definitions import Born, Calls, Definitions
    from pgguard.sql.statement import Name

MOST: Final = 5_000
"""Statements of DDL that are remembered between two readings; beyond them everything is doubted."""


class Definition:
    """One statement of DDL from its sending on; `ended` is the moment of its transaction's end."""

    __slots__ = ("ended", "what")

    def __init__(self, what: Definitions) -> None:
        self.what = what
        self.ended: int | None = None


class News:
    """Of one database. A moment counts what has begun and ended so far."""

    __slots__ = (
        "_asked",
        "_definitions",
        "_last",
        "_open",
        "anything",
        "born",
        "calls",
        "enums",
        "functions",
        "known",
        "links",
        "moment",
        "relations",
        "types",
    )

    def __init__(self) -> None:
        self._definitions: list[Definition] = []
        self._open = 0
        self._last = self._asked = 0
        self.moment = 0
        self.known = -1
        """The moment at which the reading of the catalogue began."""
        self._clear()

    def _clear(self) -> None:
        self.anything = False
        self.relations: set[str] = set()
        """What may set off anything."""
        self.functions: set[str] = set()
        self.types: set[str] = set()
        self.enums: set[str] = set()
        """Types that are there for everybody and call nothing."""
        self.born: dict[str, list[Born]] = {}
        """Tables that are there for everybody."""
        self.calls: dict[str, list[Calls]] = {}
        """What writes to tables may call beside what the catalogue says."""
        self.links: dict[str, dict[str, str]] = {}
        """By what is referenced, the tables whose rows change with it, and by which actions."""

    def __bool__(self) -> bool:
        return bool(self._definitions)

    def sent(self, what: Definitions) -> Definition:
        """DDL is about to be sent."""
        self.moment += 1
        self._open += 1
        one = Definition(what)
        self._definitions.append(one)
        if len(self._definitions) > MOST:
            self.anything = True
        self._add(one)
        return one

    def ended(self, one: Definition, *, kept: bool) -> None:
        """Its transaction is over; `kept` = committed, as far as can be told."""
        self.moment += 1
        self._open -= 1
        self._last = one.ended = self.moment
        if not kept:
            one.what = one.what._replace(born=(), enums=frozenset())
        self._publish(one)

    def asks(self) -> int:
        """Something depends on what only a newer catalogue tells. Returns the moment: one whose
        reading begins then will do."""
        self.moment += 1
        self._asked = self.moment
        return self.moment

    @property
    def is_asked(self) -> bool:
        """Whether a reading that begins now would do for somebody."""
        return self._asked > self.known and not self._open

    def tables(self, name: Name) -> list[Born]:
        """The new tables that a name may mean."""
        found = self.born.get(name.name, [])
        return [one for one in found if not (name.schema and one.name.schema) or one.name == name]

    def quiet_since(self, moment: int) -> bool:
        """Whether no DDL at all was under way at that moment or has been since."""
        return not self._open and self._last <= moment

    def read(self, moment: int) -> bool:
        """A catalogue has come whose reading began at that moment. Returns whether anything is
        known by it that was news before."""
        self.known = moment
        left = [one for one in self._definitions if one.ended is None or one.ended > moment]
        if len(left) == len(self._definitions):
            return False
        self._definitions = left
        self._clear()
        self.anything = len(left) > MOST
        for one in left:
            self._add(one)
            if one.ended is not None:
                self._publish(one)
        return True

    def _publish(self, one: Definition) -> None:
        self.enums |= one.what.enums
        for born in one.what.born:
            self.born.setdefault(born.name.name, []).append(born)

    def _add(self, one: Definition) -> None:
        what = one.what
        self.relations |= what.relations
        self.functions |= what.functions
        self.types |= what.types
        self.anything = self.anything or what.anything
        for changed in what.changed:
            self.calls.setdefault(changed.name, []).append(changed.calls)
        for link in what.links:
            actions = self.links.setdefault(link.parent, {})
            actions[link.child] = actions.get(link.child, "") + link.actions
