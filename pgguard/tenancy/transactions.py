"""The tenants of one session's transaction, and its tenant settings.

Laws: pure; a setting made in a transaction is undone by ROLLBACK, and by ROLLBACK TO if it was made
behind the savepoint; SET LOCAL ends with the transaction; the tenants of statements that were sent
stay, whatever is rolled back, those that only a setting named go with it.

    BEGIN; SET LOCAL t = 'a'; SAVEPOINT s; SET LOCAL t = 'b'; ROLLBACK TO s      the tenant is a
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pgguard.tenancy.tenants import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 100
"""Tenants that are told apart in one transaction."""


class Level(NamedTuple):
    """The transaction or a savepoint, and what was so when it began."""

    name: str
    session: dict[str, str]
    local: dict[str, str]
    announced: dict[str, None]


class Tenants:
    """Of one session."""

    __slots__ = ("_announced", "_levels", "_local", "_session", "_told", "keys", "undo")

    def __init__(self) -> None:
        self._levels: list[Level] = []
        self._session: dict[str, str] = {}
        self._local: dict[str, str] = {}
        self.keys: dict[str, None] = {}
        """Tenants of the open transaction's statements, in their order."""
        self._announced: dict[str, None] = {}
        """Those that a setting named, as they were written."""
        self._told = False
        self.undo: Level | None = None
        """What was so before the transaction whose COMMIT is not answered yet."""

    @property
    def in_transaction(self) -> bool:
        return bool(self._levels)

    @property
    def watches(self) -> bool:
        """Whether the session's statements must be looked at one by one."""
        return bool(self._levels or self._local or any(self._session.values()))

    @property
    def has_settings(self) -> bool:
        """Whether a tenant setting was made that still holds."""
        return bool(self._local or self._session)

    def also(self, key: str) -> bool:
        """Whether a statement that names this tenant alone is one more of the same: it is the first
        of its transaction, then, or the tenant has been named in it."""
        if not self._levels or key in self.keys:
            return True
        if self.keys or self._announced:
            return False
        self.keys[key] = None
        return True

    @property
    def settings(self) -> dict[str, str]:
        """Tenant settings as they are now; empty = names nobody."""
        return {**self._session, **self._local}

    def setting(self, name: str) -> str | None:
        value = self._local.get(name)
        return self._session.get(name) if value is None else value

    def set(self, name: str, value: str | None, *, local: bool) -> None:
        """`value` None = not known: it names nobody that we could compare."""
        value = value or ""
        if local and not self._levels:
            # Outside of a transaction it has no effect that lasts.
            return
        if local:
            self._local[name] = value
        else:
            self._session[name] = value
            self._local.pop(name, None)
        if value and self._levels:
            self._announced[value] = None

    def reset_all(self) -> None:
        self._session.clear()
        self._local.clear()

    def begin(self) -> None:
        """A transaction; within one, BEGIN is only a warning."""
        if not self._levels:
            self._levels.append(self._level(""))

    def _level(self, name: str) -> Level:
        return Level(name, dict(self._session), dict(self._local), dict(self._announced))

    def savepoint(self, name: str) -> None:
        if self._levels:
            self._levels.append(self._level(name))

    def release(self, name: str) -> None:
        at = self._newest(name)
        if at:
            del self._levels[at:]

    def rollback_to(self, name: str) -> None:
        """The savepoint stays, what was set behind it is undone."""
        at = self._newest(name)
        if at:
            del self._levels[at + 1 :]
            self._restore(self._levels[at])

    def end(self, *, failed: bool) -> None:
        """COMMIT, or ROLLBACK if it `failed`; outside of a transaction the end of a statement."""
        if self._levels:
            first = self._levels[0]
            self.undo = first if not failed and (self._session or first.session) else None
            if failed:
                self._restore(first)
            self._levels.clear()
        self._local.clear()
        self.keys.clear()
        self._announced.clear()
        self._told = False

    def answered(self, *, failed: bool) -> None:
        """A transaction has ended: `failed` although COMMIT was sent, it was rolled back."""
        undo, self.undo = self.undo, None
        if failed and undo is not None and not self._levels:
            self._session = dict(undo.session)

    def _restore(self, level: Level) -> None:
        self._session, self._local = dict(level.session), dict(level.local)
        self._announced = dict(level.announced)

    def _newest(self, name: str) -> int:
        for at in range(len(self._levels) - 1, 0, -1):
            if self._levels[at].name == name:
                return at
        return 0

    def crosses(self, keys: Iterable[str]) -> bool:
        """Statements of the open transaction name these tenants, too. Returns whether it is about
        more than one, once."""
        if not self._levels:
            return False
        for key in keys:
            if len(self.keys) < MOST:
                self.keys[key] = None
        if self._told or self._count() < 2:
            return False
        self._told = True
        return True

    def _count(self) -> int:
        """Different tenants: a setting's text counts only if it is none of the statements'."""
        known = set(self.keys)
        for text in self._announced:
            forms = {text, canonical(text, "uuid"), canonical(text, "int8")}
            if not forms & known:
                known.add(canonical(text, "uuid"))
        return len(known)
