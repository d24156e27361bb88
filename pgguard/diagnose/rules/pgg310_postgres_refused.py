"""PGG310: Postgres refused a server connection.

What it does
    Reports that Postgres itself refused a connection that pgguard opened for a client because it
    had none left (SQLSTATE class 53) or was not ready (class 57), and says whether the client got
    to see it.

Why it is bad
    pgguard counts what it opens and stays below the database's figure, so somebody else took the
    rest: sessions that go past pgguard, another guard, or a limit of the role or the database.

Example
    `limits.total = 100` written by hand against a database with max_connections = 30; or a
    second test run straight on the same server.

Use instead
    Leave `limits.total = "auto"`, send everything through pgguard, and look at
    `SELECT * FROM pg_stat_activity` for whoever else is connected, and at
    `ALTER ROLE … CONNECTION LIMIT` and `ALTER DATABASE … CONNECTION LIMIT`.

References
    PostgreSQL manual, "PostgreSQL Error Codes" (class 53, class 57) and "CREATE ROLE".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.events import Event, ServerRefused
from pgguard.findings import CODES, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CODE = "PGG310"

REMEDY = (
    "leave limits.total = auto and look for connections past pgguard in pg_stat_activity, "
    "and for a CONNECTION LIMIT of the role or the database"
)

CLASSES = ("53", "57")
"""Classes of SQLSTATE: insufficient resources, operator intervention."""


def find(events: Iterable[Event]) -> Iterator[Finding]:
    """One finding per refused server connection."""
    for event in events:
        if isinstance(event, ServerRefused) and event.sqlstate.startswith(CLASSES):
            end = "passed on to the client" if event.passed_on else "tried again"
            yield Finding(
                code=CODE,
                title=CODES[CODE].title,
                client=event.client,
                remedy=REMEDY,
                evidence=[f"{event.sqlstate}: {event.message} ({end})"],
                first_seen=event.at,
                last_seen=event.at,
                severity="" if event.passed_on else "warning",
            )
