"""The rules about connections, run on events as they come.

Laws: a rule looks at one event at a time, so that batches may be cut anywhere; every rule is in
`RULES` or, if it reads a counter and no events, called by name here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from pgguard.diagnose.rules import (
    pgg301_cap_reached,
    pgg302_total_reached,
    pgg303_self_starvation,
    pgg309_client_gave_up,
    pgg310_postgres_refused,
    pgg311_sequence_lost,
    pgg902_rows_dropped,
    pgg903_clients_merged,
)
from pgguard.events import Event
from pgguard.findings import Finding

Rule = Callable[[Iterable[Event]], Iterable[Finding]]

RULES: tuple[Rule, ...] = (
    pgg301_cap_reached.find,
    pgg302_total_reached.find,
    pgg303_self_starvation.find,
    pgg309_client_gave_up.find,
    pgg310_postgres_refused.find,
    pgg311_sequence_lost.find,
    pgg903_clients_merged.find,
)


class Live:
    """Diagnosis while the proxy runs: give it to `Recorder`."""

    __slots__ = ()

    def on_events(self, events: Sequence[Event]) -> Iterator[Finding]:
        """Findings of a batch, each of one event; times are monotonic seconds."""
        for rule in RULES:
            yield from rule(events)

    def on_dropped(self, dropped: int) -> Iterator[Finding]:
        """Findings about `dropped` rows since the start."""
        return pgg902_rows_dropped.find(dropped)
