"""PGG301: client reached its cap.

What it does
    Reports a client of which a session was refused because the client already used all the server
    connections it may hold (`limits.connection_limit`) for longer than `limits.pool_timeout`, or
    because its queue (`limits.max_waiting`) or the number of its sessions (`limits.max_sessions`)
    was at its limit.

Why it is bad
    The test that asked got SQLSTATE 53300 and failed. Either the client holds connections that it
    does not use (a pool that is never closed, a transaction left open), or it really needs more at
    once than it may have. Waiting alone is no finding: that is the cap at work.

Example
    A test file opens a pool of 20 connections under a cap of 10, and each connection stays in an
    open transaction until the end of the test: the eleventh waits for 20 s and is refused.

Use instead
    Close what is not used, end transactions before the next connection is asked for, and give the
    pool of the client no more connections than its cap. Where a client needs more, give it more:

        [[limits.overrides]]
        client = "tests/test_reports.py"
        connection_limit = 20

References
    PostgreSQL manual, "Connections and Authentication" (max_connections);
    `pgguard explain PGG303` for a client that waits for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.diagnose.refused import refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pgguard.events import Event
    from pgguard.findings import Finding

CODE = "PGG301"

REMEDIES = {
    "max_waiting": "start fewer connections at once, or raise limits.max_waiting for this client",
    "max_sessions": "close unused sessions, or raise limits.max_sessions for this client",
}
DEFAULT_REMEDY = (
    "close idle connections and end transactions sooner, "
    "or raise limits.connection_limit for this client"
)


def find(events: Iterable[Event]) -> Iterator[Finding]:
    """One finding per refused session."""
    return refused(events, CODE, DEFAULT_REMEDY, REMEDIES)
