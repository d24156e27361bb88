"""PGG311: value of a sequence was asked for too late.

What it does
    Reports a session that called lastval() or currval() for a sequence which it had advanced by an
    earlier statement, and got 55000 because another session had needed its server in between
    (`pool.mode = transparent`). It never gets another session's value.

Why it is bad
    Directly the call would have succeeded. Postgres keeps the value in the backend alone, so that
    pgguard cannot make it on another server; and it cannot keep the server after every INSERT into
    a table with a serial column, because most programs never ask. From the first such call on it
    keeps the servers of this client, so this happens at most a few times for each client and run.

Example
    `INSERT INTO orders (total) VALUES (9)` outside of a transaction, and `SELECT lastval()` after
    a pause, while all servers of the client were needed.

Use instead
    `INSERT ... RETURNING id`, or both statements in one transaction. Where the program cannot be
    changed, raise `limits.connection_limit` for this client, or run it with `pool.mode = session`.

References
    PostgreSQL manual, "Sequence Manipulation Functions" and "Returning Data from Modified Rows".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.events import Event, SequenceLost
from pgguard.findings import CODES, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CODE = "PGG311"

REMEDY = (
    "use INSERT ... RETURNING, or ask for the value in the transaction of the INSERT; else raise "
    "limits.connection_limit of this client"
)


def find(events: Iterable[Event]) -> Iterator[Finding]:
    """One finding per call that came too late."""
    for event in events:
        if isinstance(event, SequenceLost):
            yield Finding(
                code=CODE,
                title=CODES[CODE].title,
                client=event.client,
                remedy=REMEDY,
                fingerprint=event.fingerprint,
                text=event.asked,
                evidence=[f"session {event.session}, behind {event.advanced}: {event.why}"],
                first_seen=event.at,
                last_seen=event.at,
                confidence="likely",
            )
