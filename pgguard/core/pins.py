"""Why a session keeps its server: reasons, what brings them and what ends them (transparency T21).

Laws: a pin comes when the statement is sent and goes only when Postgres has said that what ends it
was done; what the text does not show pins as `unclear`. A reason that ends with the session ends
with nothing else.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pgguard.sql.session_effects import Effect, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pgguard.sql.statement import Statement


class Reason(Enum):
    """Reasons, in the words of reports; in lower case the names are those of metrics."""

    ROLE = "SET ROLE or SESSION AUTHORIZATION"
    TEMPORARY = "temporary table, view or sequence"
    LOCK = "advisory lock"
    LISTEN = "LISTEN"
    PREPARE = "PREPARE"
    NAMES = "prepared statement named in SQL"
    HOLD = "cursor WITH HOLD"
    SETTING = "setting whose value is not known"
    SEED = "setseed"
    LOAD = "LOAD"
    PID = "pg_backend_pid()"
    LARGE_OBJECT = "large object"
    OBJECT = "object that lives as long as the session"
    FUNCTION = "function that may have changed the session"
    UNCLEAR = "statement that could not be read"
    RELAYED = "relayed login"
    REPLICATION = "replication"
    EVENT = "login event trigger"


FOR_LIFE: Final = frozenset(
    {Reason.SEED, Reason.LOAD, Reason.OBJECT, Reason.RELAYED, Reason.REPLICATION, Reason.EVENT}
)
"""Ended by nothing: the server is closed with the session (T24)."""

BY_LOGIN: Final = frozenset({Reason.RELAYED, Reason.REPLICATION, Reason.EVENT})
"""Brought by no statement."""

UNSURE: Final = frozenset({Reason.SETTING, Reason.FUNCTION, Reason.UNCLEAR})
"""A check by Postgres may find that there is nothing."""

_BRINGS: Final[dict[Kind, Reason]] = {
    Kind.ROLE: Reason.ROLE,
    Kind.TEMPORARY: Reason.TEMPORARY,
    Kind.LOCK: Reason.LOCK,
    Kind.LISTEN: Reason.LISTEN,
    Kind.PREPARE: Reason.PREPARE,
    Kind.HOLD: Reason.HOLD,
    Kind.SET_UNKNOWN: Reason.SETTING,
    Kind.SEED: Reason.SEED,
    Kind.LOAD: Reason.LOAD,
    Kind.PID: Reason.PID,
    Kind.LARGE_OBJECT: Reason.LARGE_OBJECT,
    Kind.SNAPSHOT: Reason.OBJECT,
    Kind.CALL: Reason.FUNCTION,
    Kind.EXECUTE: Reason.FUNCTION,
    Kind.CODE: Reason.FUNCTION,
    Kind.UNKNOWN: Reason.FUNCTION,
    Kind.UNREAD: Reason.UNCLEAR,
}

SUSPECTING: Final = frozenset(k for k, reason in _BRINGS.items() if reason is Reason.FUNCTION)
"""Kinds that may be none."""

MOST_SUSPECTS: Final = 32
"""Statements of one session that are judged anew."""

_ENDS_ALL: Final[dict[Kind, frozenset[Reason]]] = {
    Kind.RESET_ALL: frozenset({Reason.SETTING}),
    Kind.DISCARD_TEMPORARY: frozenset({Reason.TEMPORARY}),
    Kind.UNLISTEN_ALL: frozenset({Reason.LISTEN}),
    Kind.DEALLOCATE_ALL: frozenset({Reason.PREPARE, Reason.NAMES}),
    Kind.CLOSE_ALL: frozenset({Reason.HOLD}),
    Kind.UNLOCK_ALL: frozenset({Reason.LOCK}),
    Kind.DISCARD_ALL: frozenset(Reason) - FOR_LIFE - {Reason.FUNCTION, Reason.UNCLEAR},
}

_ENDS_ONE: Final[dict[Kind, Reason]] = {
    Kind.UNLISTEN: Reason.LISTEN,
    Kind.DEALLOCATE: Reason.PREPARE,
    Kind.CLOSE: Reason.HOLD,
    Kind.RESET: Reason.SETTING,
    Kind.RESET_ROLE: Reason.ROLE,
}
"""Of the things that the reason counts by name, this one is gone."""


UNDONE: Final = frozenset(
    {
        Kind.RESET_ROLE,
        Kind.UNLISTEN,
        Kind.UNLISTEN_ALL,
        Kind.RESET,
        Kind.RESET_ALL,
        Kind.DISCARD_TEMPORARY,
    }
)
"""What ends a reason only once its transaction is committed: ROLLBACK brings it back."""

_LOGIN: Final = "session_authorization"


def brings(effect: Effect) -> bool:
    """Whether it is a reason."""
    return effect.kind in _BRINGS


class Pin:
    """One reason of one session: what it holds, since when, by which statement."""

    __slots__ = ("names", "since", "text")

    def __init__(self, since: float, text: str) -> None:
        self.since = since
        self.text = text
        self.names: set[str] = set()


class Suspects:
    """The statements that pin by `FUNCTION`, so that they can be judged anew by a newer catalogue;
    each with the moment of the news at which it was sent, and what it was known to leave behind
    then."""

    __slots__ = ("_statements", "only_checked", "unsure")

    def __init__(self) -> None:
        self._statements: dict[Statement, tuple[int, frozenset[Effect]]] = {}
        self.only_checked = False
        """One of them only Postgres can tell of."""
        self.unsure = -1
        """The last moment at which one was about what the catalogue did not know."""

    def add(
        self, statement: Statement | None, moment: int = 0, effects: Iterable[Effect] = ()
    ) -> None:
        """None = no catalogue will say more of it."""
        if statement is None or len(self._statements) >= MOST_SUSPECTS:
            self.only_checked = True
            return
        first, known = self._statements.get(statement, (moment, frozenset(effects)))
        self._statements[statement] = first, known.intersection(effects)

    def __iter__(self) -> Iterator[tuple[Statement, int, frozenset[Effect]]]:
        return ((one, *sent) for one, sent in self._statements.items())


UNPINNED: Final[Mapping[Reason, Pin]] = MappingProxyType({})
"""The reasons of a session that has none."""


class Pins:
    """All reasons of one session."""

    __slots__ = ("_pins", "_suspects")

    def __init__(self) -> None:
        self._pins: dict[Reason, Pin] = {}
        self._suspects: Suspects | None = None

    def __bool__(self) -> bool:
        return bool(self._pins)

    @property
    def reasons(self) -> dict[Reason, Pin]:
        return self._pins

    @property
    def suspects(self) -> Suspects:
        if self._suspects is None:
            self._suspects = Suspects()
        return self._suspects

    def add(self, reason: Reason, name: str, now: float, text: str) -> bool:
        """Returns whether the reason is new."""
        pin = self._pins.get(reason)
        new = pin is None
        if pin is None:
            pin = self._pins[reason] = Pin(now, text)
        pin.names.add(name)
        return new

    def may_have_prepared(self, name: bytes) -> bool:
        """Whether PREPARE may have given something that name, which no Parse can give then."""
        pin = self._pins.get(Reason.PREPARE)
        return pin is not None and ("" in pin.names or name.decode("latin1") in pin.names)

    def brought(self, effects: Iterable[Effect], now: float, text: str) -> list[Reason]:
        """A statement with these effects is being sent. Returns the reasons that are new."""
        return [
            _BRINGS[kind]
            for kind, name in effects
            if kind in _BRINGS and self.add(_BRINGS[kind], name, now, text)
        ]

    def ended(self, effects: Iterable[Effect]) -> list[Reason]:
        """A statement with these effects was carried out. Returns the reasons that are gone.

        Effects count in their order: what a later one of the same text brings stays.
        """
        gone: list[Reason] = []
        effects = list(effects)
        for at, (kind, name) in enumerate(effects):
            later = {_BRINGS[e.kind] for e in effects[at + 1 :] if e.kind in _BRINGS}
            over = [r for r in _ENDS_ALL.get(kind, ()) if r in self._pins and r not in later]
            for reason in over:
                del self._pins[reason]
            gone += over
            one = _ENDS_ONE.get(kind)
            if kind is Kind.RESET_ROLE and name == _LOGIN and one in self._pins:
                # The role goes with it, not the other way round (SetSessionAuthorization).
                self._pins[Reason.ROLE].names &= {_LOGIN}
            pin = self._pins.get(one) if one is not None else None
            if one is not None and pin is not None and one not in later:
                pin.names.discard(name)
                if not pin.names:
                    del self._pins[one]
                    gone.append(one)
        return gone

    def verified(self, reason: Reason) -> None:
        """Postgres itself says that nothing of it is left (T23)."""
        self._pins.pop(reason, None)
        if reason is Reason.FUNCTION:
            self._suspects = None
