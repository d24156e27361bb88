"""Adds the clients' numbers up under their labels, so that series are few and never go back.

The core may forget a client and meet it again with fresh counters, may judge a statement anew, and
may have more clients than a metrics page can bear. A `Ledger` keeps what they had.

Laws: at most `CLIENTS` clients have a label of their own, later ones are added up as `other`; a
label once given is kept; at most `FINDINGS` series of findings; no series of a counter goes back;
the work between two yields does not grow with the number of clients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.counters import VERDICTS, ClientCounters
from pgguard.findings import CODES
from pgguard.record.exposition import clean
from pgguard.record.findings import statement_code, worst_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pgguard.findings import Finding
    from pgguard.record.subject import Client, Decide, Flags, Judged, Tally

CLIENTS = 200
FINDINGS = 2_000
OTHER = "other"

SPARE = len(CODES) * 3 * 2
"""Series of findings that the overflow may need: one per code, action, and class: its own or
`setup`."""

REASONS = (
    "cap",
    "total",
    "max_waiting",
    "max_sessions",
    "self_starvation",
    "draining",
    "upstream",
)

Series = tuple[str, str, str, str, str]
"""code, class, client, table, action"""


class Sums:
    """What the clients of one label have together."""

    __slots__ = (
        "findings",
        "held",
        "limit",
        "peak",
        "pinned",
        "pins",
        "refusals",
        "statements",
        "states",
        "waiting",
    )

    def __init__(self) -> None:
        self.states: dict[str, int] = {}
        self.held = self.peak = self.limit = self.waiting = 0
        self.statements = [0] * VERDICTS
        self.refusals: dict[str, int] = {}
        self.pinned: dict[str, int] = {}
        """Sessions by the reasons that pin them now."""
        self.pins: dict[str, int] = {}
        """Times that sessions were pinned, by reason."""
        self.findings: dict[tuple[str, str, str, str], int] = {}
        """Executions by code, class, table and action."""

    def count(self, counters: ClientCounters) -> None:
        for verdict, number in enumerate(counters.statements):
            self.statements[verdict] += number
        for reason, number in counters.refusals.items():
            known = reason if reason in REASONS else OTHER
            self.refusals[known] = self.refusals.get(known, 0) + number
        for reason, tally in counters.pins.items():
            self.pins[reason] = self.pins.get(reason, 0) + tally.number

    def flag(self, client: str, statement: Judged, tally: Tally, decide: Decide | None) -> None:
        """Add the executions of a flagged statement, unless they are allowed."""
        code = statement_code(statement)
        if not code:
            return
        decision = decide(statement, client) if decide is not None else None
        cls, action = CODES[code].cls, "observe"
        if decision is not None:
            if decision.allowed:
                return
            cls, action = decision.cls or cls, decision.action.name
        self.find((code, cls, worst_table(statement.relations), action), tally.count)

    def find(self, key: tuple[str, str, str, str], number: int) -> None:
        if key not in self.findings and len(self.findings) >= FINDINGS:
            key = (key[0], key[1], OTHER, key[3])
        self.findings[key] = self.findings.get(key, 0) + number

    def join(self, other: Sums) -> None:
        """Add the counters (not the gauges) of `other`."""
        for verdict, number in enumerate(other.statements):
            self.statements[verdict] += number
        for reason, number in other.refusals.items():
            self.refusals[reason] = self.refusals.get(reason, 0) + number
        for reason, number in other.pins.items():
            self.pins[reason] = self.pins.get(reason, 0) + number
        for key, number in other.findings.items():
            self.find(key, number)

    def measure(self, client: Client) -> None:
        for session in client.sessions:
            state = session.state.name.lower()
            self.states[state] = self.states.get(state, 0) + 1
            for pin in session.pinned:
                reason = pin.name.lower()
                self.pinned[reason] = self.pinned.get(reason, 0) + 1
        self.held += client.share.held
        self.peak += client.share.peak
        self.waiting += client.share.waiting
        self.limit += client.limits.connection_limit


class Source:
    """Where a client's counters are, also when the core has forgotten the client."""

    __slots__ = ("counters", "flagged", "key", "label")

    def __init__(self, label: str, client: Client) -> None:
        self.label = label
        self.key = client.key
        self.counters = client.counters
        self.flagged: Flags = client.flagged

    def add_to(self, sums: Sums, decide: Decide | None) -> None:
        sums.count(self.counters)
        for statement, tally in list(self.flagged.items()):
            sums.flag(self.key, statement, tally, decide)


class Ledger:
    """What all clients had so far. One per process."""

    __slots__ = ("_decide", "_labels", "_retired", "_sources", "findings")

    def __init__(self, decide: Decide | None = None) -> None:
        self._decide = decide
        self._labels: dict[str, str] = {}
        self._sources: dict[str, Source] = {}
        self._retired: dict[str, Sums] = {}
        self.findings: dict[Series, int] = {}
        """Times that something was found, as of the last sweep."""

    def sweep(
        self, clients: Iterable[Client], kept: Iterable[Finding], sums: dict[str, Sums]
    ) -> Iterator[None]:
        """Fill `sums` by label and bring `findings` up to date; yields after each piece of work.

        `kept` are the findings that were made from events.
        """
        clients = list(clients)
        present = {client.key for client in clients}
        for key in [key for key in self._sources if key not in present]:
            self._retire(self._sources.pop(key))
            yield
        for client in clients:
            source = self._source(client)
            into = sums.setdefault(source.label, Sums())
            into.count(source.counters)
            into.measure(client)
            yield
            for statement, tally in list(source.flagged.items()):
                into.flag(client.key, statement, tally, self._decide)
                yield
        for label, retired in self._retired.items():
            sums.setdefault(label, Sums()).join(retired)
            yield
        yield from self._count_findings(sums, kept)

    def _source(self, client: Client) -> Source:
        source = self._sources.get(client.key)
        if source is not None and source.counters is client.counters:
            return source
        if source is not None:
            self._retire(source)
        source = self._sources[client.key] = Source(self._label(client.key), client)
        return source

    def _retire(self, source: Source) -> None:
        source.add_to(self._retired.setdefault(source.label, Sums()), self._decide)

    def _label(self, key: str) -> str:
        label = self._labels.get(key) if key else ""
        if label is None:
            if len(self._labels) >= CLIENTS:
                return OTHER
            label = self._labels[key] = clean(key)
        return label

    def _count_findings(self, sums: Mapping[str, Sums], kept: Iterable[Finding]) -> Iterator[None]:
        now: dict[Series, int] = {}
        for label, of in sums.items():
            for (code, cls, table, action), number in of.findings.items():
                self._count(now, (code, cls, label, clean(table), action), number)
                yield
        for finding in kept:
            label = self._label(finding.client)
            series = (finding.code, finding.cls, label, "", finding.action)
            self._count(now, series, finding.count)
            yield
        for series, number in now.items():
            self.findings[series] = max(number, self.findings[series])

    def _count(self, now: dict[Series, int], series: Series, number: int) -> None:
        if series not in self.findings and len(self.findings) + SPARE >= FINDINGS:
            code, cls, _, _, action = series
            series = (code, cls, OTHER, OTHER, action)
        self.findings.setdefault(series, 0)
        now[series] = now.get(series, 0) + number
