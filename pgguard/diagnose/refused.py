"""What the rules about refused sessions have in common: from a refusal to its finding.

Laws: one finding per refused session; its evidence begins with the words that the session got, and
goes on with who held the connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.events import Event, SessionRefused
from pgguard.findings import CODES, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


def refused(
    events: Iterable[Event], code: str, remedy: str, remedies: Mapping[str, str] | None = None
) -> Iterator[Finding]:
    """The refusals under `code`; `remedies` has another remedy for some of their reasons."""
    for event in events:
        if isinstance(event, SessionRefused) and event.code == code:
            yield Finding(
                code=code,
                title=CODES[code].title,
                client=event.client,
                remedy=(remedies or {}).get(event.reason, remedy),
                evidence=[event.message, *event.holders],
                first_seen=event.at,
                last_seen=event.at,
            )
