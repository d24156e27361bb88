"""Settings that a session has made, so that another server can be given them (transparency T20).

Laws: a setting is known by the text that made it; it is learned when Postgres has said that the
statement was carried out, kept at COMMIT, undone by ROLLBACK and ROLLBACK TO. What is reset has the
session's startup value again: that is the server's own after RESET ALL, and needs no text.

    BEGIN; SET a; SAVEPOINT s; SET b; ROLLBACK TO s; COMMIT      keeps a
"""

from __future__ import annotations

RESET = b""
"""The text of a setting that was reset."""


class Tracked:
    """One session's settings."""

    __slots__ = ("_levels", "settings")

    def __init__(self) -> None:
        self.settings: dict[str, bytes] = {}
        """Setting → the text that made it, of what is committed; in the order of the last time."""
        self._levels: list[tuple[str, dict[str, bytes], bool]] = []
        """The open transaction and its savepoints: name, what was set since, and whether
        everything set before was reset first."""

    @property
    def in_transaction(self) -> bool:
        return bool(self._levels)

    def set(self, name: str, text: bytes) -> None:
        """`name` became what `text` says; RESET = its startup value."""
        if self._levels:
            self._levels[-1][1][name] = text
        elif text == RESET:
            self.settings.pop(name, None)
        else:
            self.settings.pop(name, None)
            self.settings[name] = text

    def reset_all(self) -> None:
        """RESET ALL or DISCARD ALL."""
        if self._levels:
            name, _, _ = self._levels[-1]
            self._levels[-1] = (name, {}, True)
        else:
            self.settings.clear()

    def begin(self) -> None:
        """A transaction; within one, BEGIN is only a warning."""
        if not self._levels:
            self._levels.append(("", {}, False))

    def savepoint(self, name: str) -> None:
        self._levels.append((name, {}, False))

    def release(self, name: str) -> None:
        """Up to the newest savepoint of that name, it and those in it become part of what is
        around them."""
        at = self._newest(name)
        while at and len(self._levels) > at:
            _, changes, cleared = self._levels.pop()
            self._apply(changes, cleared=cleared)

    def rollback_to(self, name: str) -> None:
        """The savepoint stays, and what came behind it is undone."""
        at = self._newest(name)
        if at:
            del self._levels[at:]
            self._levels.append((name, {}, False))

    def commit(self) -> None:
        while self._levels:
            _, changes, cleared = self._levels.pop()
            self._apply(changes, cleared=cleared)

    def rollback(self) -> None:
        self._levels.clear()

    def _newest(self, name: str) -> int:
        """Where the newest savepoint of that name stands; 0 = there is none."""
        for at in range(len(self._levels) - 1, 0, -1):
            if self._levels[at][0] == name:
                return at
        return 0

    def _apply(self, changes: dict[str, bytes], *, cleared: bool) -> None:
        if cleared:
            self.reset_all()
        for name, text in changes.items():
            self.set(name, text)

    def differences(self, server: dict[str, bytes]) -> tuple[list[str], dict[str, bytes]]:
        """What makes a server with these settings equal: names to reset, then texts to run, by
        their names."""
        ours = self.settings
        resets = [name for name in server if name not in ours]
        return resets, {name: text for name, text in ours.items() if server.get(name) != text}
