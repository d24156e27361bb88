"""What one run came to, as plain data: every printer starts from a `RunSummary`.

Laws: "held" is said only if everything was seen: no statement of unknown scope, nothing dropped,
no session past us; what could not be looked at is not assumed. An error among the findings means
"did not hold", whatever else is true.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from pgguard.findings import Finding, Verdict
from pgguard.record.findings import severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgguard.record.subject import Client, Hub

ADVICE = 3
"""Pieces of advice."""

Wanted = tuple[str, tuple[str, str]]
"""Code, and table and words of what would cure it; the table may be empty."""

NAME_CLIENTS = (
    "name your clients: one application_name for each test file "
    "(now all sessions counted as one client)"
)


class Outcome(Enum):
    HELD = "held"
    AS_FAR_AS_SEEN = "held_as_far_as_seen"
    NOT_HELD = "not_held"
    NOTHING = "nothing_came"


@dataclass(slots=True)
class ClientRow:
    """One client in the table. Times are seconds."""

    client: str
    sessions: int
    """Ever opened."""
    peak: int
    """Most server connections at once."""
    cap: int
    waits: int
    waited_max: float
    refused: int
    findings: int


@dataclass(slots=True)
class PinRow:
    """Why sessions of a client kept their server, how often, and the first statement of it."""

    client: str
    reason: str
    number: int
    statement: str


@dataclass(slots=True)
class RunSummary:
    """One run. `started` and `ended` are seconds since 1970, UTC."""

    outcome: Outcome
    started: float
    ended: float
    sessions: int
    statements: int
    unknown: int
    """Executions of statements of which the scope is not known."""
    unknown_statements: int
    """How many different statements these were."""
    dropped: int
    bypassed: int | None
    """Sessions that went past us; None if that could not be looked at."""
    one_client: bool
    """All sessions were counted as one client, because nothing named them."""
    reason: str = ""
    """Why nothing came through."""
    neighbours: list[str] = field(default_factory=list)
    """Other guards that were on the same Postgres, a line for each."""
    clients: list[ClientRow] = field(default_factory=list)
    """Busiest first."""
    pins: list[PinRow] = field(default_factory=list)
    """Most frequent first."""
    findings: list[Finding] = field(default_factory=list)
    """Worst first."""
    advice: list[str] = field(default_factory=list)
    """What to do first."""

    @property
    def errors(self) -> int:
        """Findings because of which isolation did not hold."""
        return sum(1 for finding in self.findings if severity(finding) == "error")

    def gaps(self) -> list[str]:
        """What was not seen, in words; empty if everything was."""
        gaps = []
        if self.unknown:
            # One may have been judged better since, or its client forgotten: there was one.
            kinds = plural(max(1, self.unknown_statements), "statement")
            gaps.append(f"{plural(self.unknown, 'execution')} of unknown scope ({kinds})")
        unread = {finding.fingerprint for finding in self.findings if finding.code == "PGG901"}
        if unread:
            gaps.append(f"{plural(len(unread), 'statement')} not analysed")
        if self.dropped:
            gaps.append(f"{plural(self.dropped, 'row')} dropped")
        if self.bypassed:
            gaps.append(f"{plural(self.bypassed, 'session')} went past pgguard")
        if self.bypassed is None:
            gaps.append("sessions past pgguard could not be looked for")
        elif self.neighbours:
            gaps.append("sessions past pgguard look like those of another one")
        return gaps


def summarise(
    hub: Hub,
    findings: Sequence[Finding],
    *,
    bypassed: int | None,
    neighbours: Sequence[str] = (),
    started: float,
    ended: float,
    reason_nothing: str,
) -> RunSummary:
    """Sum up what came through `hub` between `started` and `ended` (seconds since 1970).

    `findings` are all of the run, worst first; `bypassed` counts sessions that pg_stat_activity
    shows past us, None if it could not be read; `neighbours` are lines about other guards on the
    same Postgres; `reason_nothing` says why nothing came, if so.
    """
    clients = list(hub.clients.values())
    per_client = Counter(name for finding in findings for name in finding.clients)
    rows = [_row(client, per_client[client.key]) for client in clients]
    rows.sort(key=_busy)
    statements = [client.counters.statements for client in clients]
    summary = RunSummary(
        outcome=Outcome.HELD,
        started=started,
        ended=ended,
        sessions=sum(row.sessions for row in rows),
        statements=sum(map(sum, statements)),
        unknown=sum(numbers[Verdict.unknown] for numbers in statements),
        unknown_statements=_unknown_statements(clients),
        dropped=_dropped(hub, findings),
        bypassed=bypassed,
        neighbours=list(neighbours),
        one_client=_is_one_client(clients),
        clients=rows,
        pins=_pins(clients),
        findings=list(findings),
    )
    summary.outcome = _outcome(summary)
    if summary.outcome is Outcome.NOTHING:
        summary.reason = reason_nothing
    summary.advice = _advice(summary)
    return summary


def plural(number: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _outcome(summary: RunSummary) -> Outcome:
    if summary.errors:
        return Outcome.NOT_HELD
    if not summary.sessions:
        return Outcome.NOTHING
    return Outcome.AS_FAR_AS_SEEN if summary.gaps() else Outcome.HELD


def _row(client: Client, findings: int) -> ClientRow:
    counters = client.counters
    return ClientRow(
        client=client.key,
        sessions=counters.sessions,
        peak=client.share.peak,
        cap=client.limits.connection_limit,
        waits=counters.waits,
        waited_max=counters.waited_max,
        refused=sum(counters.refusals.values()),
        findings=findings,
    )


def _pins(clients: Sequence[Client]) -> list[PinRow]:
    rows = [
        PinRow(client.key, reason, tally.number, tally.statement)
        for client in clients
        for reason, tally in client.counters.pins.items()
    ]
    return sorted(rows, key=lambda row: (-row.number, row.client, row.reason))


def _busy(row: ClientRow) -> tuple[int, int, int, str]:
    return (-row.refused, -row.sessions, -row.findings, row.client)


def _unknown_statements(clients: Sequence[Client]) -> int:
    return len(
        {
            statement.fingerprint
            for client in clients
            for statement in list(client.flagged)
            if statement.verdict == Verdict.unknown
        }
    )


def _dropped(hub: Hub, findings: Sequence[Finding]) -> int:
    found = sum(finding.count for finding in findings if finding.code == "PGG902")
    return max(found, hub.counters.events_dropped)


def _is_one_client(clients: Sequence[Client]) -> bool:
    only_addresses = all(client.rule == "address" for client in clients)
    return only_addresses and sum(client.counters.sessions for client in clients) > 1


def _advice(summary: RunSummary) -> list[str]:
    """The remedies that would remove most findings, errors first, each once, and who needs them."""
    wanted: dict[Wanted, list[Finding]] = {}
    for finding in summary.findings:
        remedy = _remedy(finding)
        if any(remedy) and severity(finding) != "note":
            wanted.setdefault((finding.code, remedy), []).append(finding)
    lines = [_line(*key, found) for key, found in sorted(wanted.items(), key=_urgency)]
    if summary.one_client:
        lines.insert(min(len(lines), ADVICE - 1), NAME_CLIENTS)
    return lines[:ADVICE]


def _line(code: str, remedy: tuple[str, str], found: Sequence[Finding]) -> str:
    """What to do, to what, and where: `bookings in test_a.py: add AND tenant_id = $2 (PGG101,
    DELETE)`."""
    table, words = remedy
    names = sorted({name for finding in found for name in finding.clients or [""]})
    who = names[0] if len(names) == 1 else plural(len(names), "client")
    if not table:
        return f"{words} ({code}, {who})" if who else f"{words} ({code})"
    texts = {finding.fingerprint: finding.text for finding in found}
    verb = next(iter(texts.values())).partition(" ")[0].upper()
    which = verb if len(texts) == 1 and verb.isalpha() else plural(len(texts), "statement")
    return f"{table} in {who}: {words} ({code}, {which})"


def _remedy(finding: Finding) -> tuple[str, str]:
    """The smallest fix and its table, where there is one, else what helps in general."""
    for relation in finding.relations:
        if relation.fix:
            return relation.name, relation.fix
    return "", finding.remedy


def _urgency(item: tuple[Wanted, list[Finding]]) -> tuple[int, int, Wanted]:
    key, found = item
    errors = sum(1 for finding in found if severity(finding) == "error")
    return (-errors, -len(found), key)
