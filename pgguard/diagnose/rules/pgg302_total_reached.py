"""PGG302: all server connections are in use.

What it does
    Reports a client of which a session was refused although the client was below its own cap:
    all server connections that pgguard may open (`limits.total`) were in use for longer than
    `limits.total_timeout`.

Why it is bad
    The test that asked got SQLSTATE 53300 and failed, and the cause lies with others: more clients
    run at once than the database has connections for, or some of them hold connections for long.

Example
    Ten workers with a cap of 10 each share a database with max_connections = 30: when seven of
    them hold four connections through a long test, the others wait for a minute in vain.

Use instead
    Run fewer workers at once, lower `limits.connection_limit` so that no client takes so many, or
    raise max_connections of the database. `limits.total = "auto"` follows the database's own
    figure. Look at who held the connections: they are named in the evidence.

References
    PostgreSQL manual, "Connections and Authentication" (max_connections,
    superuser_reserved_connections).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.diagnose.refused import refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pgguard.events import Event
    from pgguard.findings import Finding

CODE = "PGG302"

REMEDY = (
    "run fewer clients at once, lower limits.connection_limit, or raise max_connections "
    "of the database"
)


def find(events: Iterable[Event]) -> Iterator[Finding]:
    """One finding per refused session."""
    return refused(events, CODE, REMEDY)
