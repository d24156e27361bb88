"""PGG309: client gave up while it waited.

What it does
    Reports a client of which a session went away while it was waiting for a server connection,
    before pgguard answered.

Why it is bad
    The driver's or the pool's own timeout is shorter than `limits.pool_timeout`: the test fails
    with a message of its driver that names neither the cap nor who held the connections, where
    pgguard would have named both.

Example
    A pool with a connect timeout of 5 s under `limits.pool_timeout = "20s"`.

Use instead
    Give the driver a longer connect timeout than `limits.pool_timeout`, or lower the latter so
    that the better message comes first. If the test process was killed, look there first.

References
    PostgreSQL manual, "Database Connection Control Functions" (connect_timeout).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.events import Event, TicketAbandoned
from pgguard.findings import CODES, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CODE = "PGG309"

REMEDY = "give the driver a longer connect timeout than limits.pool_timeout"

SHORTEST = 0.5
"""Seconds. A session that leaves sooner was not driven away by waiting."""


def find(events: Iterable[Event]) -> Iterator[Finding]:
    """One finding per session that left while it waited."""
    for event in events:
        if isinstance(event, TicketAbandoned) and event.waited >= SHORTEST:
            yield Finding(
                code=CODE,
                title=CODES[CODE].title,
                client=event.client,
                remedy=REMEDY,
                evidence=[f"session {event.session} left after it had waited {event.waited:.1f} s"],
                first_seen=event.at,
                last_seen=event.at,
                confidence="likely",
            )
