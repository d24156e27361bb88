"""What a state of a session is, how it is made and how it is looked at.

Laws: what a look answers does not depend on who else runs: directly, on a connection of its own,
the owner gets one answer and everybody else another; where both are the same the state was undone,
and so it must be here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.features import LOCK_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Bound:
    """A statement with `$1` and so on, in the extended protocol."""

    text: str
    values: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A statement that is prepared by the protocol at its first use in the session."""

    text: str
    values: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Listen:
    """LISTEN, as the driver does it."""

    channel: str


@dataclass(frozen=True, slots=True)
class Heard:
    """NOTIFY, and whether the session itself heard of it."""

    channel: str


Statement = str | Bound | Kept | Listen | Heard


@dataclass(frozen=True, slots=True)
class State:
    """One feature; `make` and `after` are the owner's, `look` is everybody's."""

    name: str
    make: tuple[Statement, ...]
    look: Statement
    after: tuple[Statement, ...] = ()


def state(name: str, *make: Statement, look: Statement, after: Sequence[str] = ()) -> State:
    return State(name, make, look, tuple(after))


def locks(name: str, *make: Statement, after: Sequence[str] = ()) -> State:
    """One that shows in lock_timeout."""
    return State(name, make, LOCK_TIMEOUT, tuple(after))


ROLE = "SELECT current_user = session_user"
LOGIN = "SELECT session_user = 'plain'"
SEEDED = "SELECT random()::text IN (SELECT value FROM seeded)"
LISTENING = "SELECT count(*) FROM pg_listening_channels()"
LAST = "SELECT lastval() > 0"
HIDDEN = "SELECT count(*) FROM hidden"
SET = "SET lock_timeout = '5s'"
