"""PGG902: rows were dropped.

What it does
    Reports that pgguard did not keep everything it saw: more happened in a short time, or more
    different things in all, than it has room for.

Why it is bad
    Counts and caps are still right, but a finding may be missing, so "isolation held" can no
    longer be said.

Example
    A loop that opens and loses thousands of connections under thousands of different names.

Use instead
    Name clients by test file and not by test or process (`clients.identify`), and split the run.

References
    `pgguard explain PGG903` for clients that are counted together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.findings import CODES, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

CODE = "PGG902"

REMEDY = "name clients by test file instead of by test or process, or split the run"


def find(dropped: int) -> Iterator[Finding]:
    """One finding for all that was dropped since the start; it has no time."""
    if dropped:
        yield Finding(
            code=CODE,
            title=CODES[CODE].title,
            client="",
            remedy=REMEDY,
            evidence=[f"{dropped} dropped"],
            count=dropped,
        )
