"""PGG903: clients were merged.

What it does
    Reports that more clients came than can be told apart: the later ones are counted together
    under the name `other`.

Why it is bad
    Their caps still hold, but metrics and tables no longer say which of them did what.

Example
    Every test sets its own application_name, and a run has thousands of tests.

Use instead
    Name clients by test file or service: one application_name for each, or `pgguard.client` as a
    startup parameter.

References
    PostgreSQL manual, "Error Reporting and Logging" (application_name).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.events import ClientsMerged, Event
from pgguard.findings import CODES, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CODE = "PGG903"

MERGED = "other"
"""Name under which they are counted."""

REMEDY = "give all sessions of one test file or service the same application_name"


def find(events: Iterable[Event]) -> Iterator[Finding]:
    """One finding per client that lost its name."""
    for event in events:
        if isinstance(event, ClientsMerged):
            yield Finding(
                code=CODE,
                title=CODES[CODE].title,
                client=MERGED,
                remedy=REMEDY,
                evidence=[f"{event.client} is counted as {MERGED}"],
                first_seen=event.at,
                last_seen=event.at,
            )
