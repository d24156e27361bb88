"""PGG303: client waits for itself.

What it does
    Reports a client that asked for one more server connection while all it may hold were in the
    hands of its own sessions, and none of these had sent a byte for
    `limits.self_starvation_after` although a transaction was open on its connection. The same is
    reported of several clients that hold all server connections (`limits.total`) and wait for each
    other in this way.

Why it is bad
    Nobody but those who wait can free a connection: they would hang until `limits.pool_timeout`.
    pgguard refuses the newest of the waiting sessions so that the cause is seen at once and not as
    a timeout somewhere else.

Example
    Four threads each open a transaction under a cap of 4, and each then needs a second connection
    for an audit row before it commits.

Use instead
    Do the inner work on the connection that is already there, or commit before asking for another.
    Where the client does need several at one time, let it have them (`limits.connection_limit`).
    `limits.on_self_starvation = "wait"` waits for the timeout instead of refusing.

References
    PostgreSQL manual, "Transactions" and "Client Connection Defaults"
    (idle_in_transaction_session_timeout); `pgguard explain PGG301` for the refusal after a timeout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.diagnose.refused import refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pgguard.events import Event
    from pgguard.findings import Finding

CODE = "PGG303"

REMEDY = (
    "use the connection that the test already holds, or commit before asking for another; else "
    "raise limits.connection_limit to what this client needs at one time"
)


def find(events: Iterable[Event]) -> Iterator[Finding]:
    """One finding per refused session."""
    return refused(events, CODE, REMEDY)
