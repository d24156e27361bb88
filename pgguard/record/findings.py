"""Keeps what the diagnosis finds, and lists all findings of a run so far.

Findings about statements are read from the clients' flagged statements when they are asked for;
findings about connections are made from events as they come and merged: one finding per code,
fingerprint, client and test, with a count, the first and the last time, and the first evidence.
About a statement there is one for all clients, with what is said of it to the first of them.

Laws: memory is bounded (`LIMIT` findings, `EVIDENCE` lines each); what does not fit is counted and
becomes a finding itself. Statements whose scope is not known are no findings of their own: they are
numbers of the summary. Nothing here reads a clock.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from pgguard.findings import CODES, Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgguard.events import Event
    from pgguard.findings import Relation
    from pgguard.record.subject import Client, Decide, Hub, Judged, Tally

LIMIT = 5_000
"""Findings about connections that are kept."""

EVIDENCE = 5
"""Lines of evidence that one finding keeps."""

CODE_OF_VERDICT = {
    Verdict.by_id: "PGG104",
    Verdict.unscoped: "PGG101",
    Verdict.cross_tenant: "PGG102",
}
"""Code of a flagged statement that brought none. `unknown` has none on purpose."""

_SEVERITIES = {"error": 0, "warning": 1, "note": 2}

Key = tuple[str, ...]


class Diagnosis(Protocol):
    """What turns events and counters into findings; their times are monotonic seconds."""

    def on_events(self, events: Sequence[Event]) -> Iterable[Finding]: ...

    def on_dropped(self, dropped: int) -> Iterable[Finding]: ...


class Recorder:
    """A subscriber of the event stream; `findings` may be asked for at any time."""

    __slots__ = ("_diagnosis", "_kept", "decide", "dropped")

    def __init__(self, diagnosis: Diagnosis | None = None, decide: Decide | None = None) -> None:
        self._diagnosis = diagnosis
        self.decide = decide
        self._kept: dict[Key, Finding] = {}
        self.dropped = 0
        """Findings that did not fit."""

    def on_batch(self, events: Sequence[Event]) -> None:
        """Take the events of the last moments, in order."""
        if self._diagnosis is None or not events:
            return
        for finding in self._diagnosis.on_events(events):
            self._keep(finding)

    def _keep(self, finding: Finding) -> None:
        key = _key(finding)
        known = self._kept.get(key)
        if known is not None:
            merge(known, finding)
        elif len(self._kept) < LIMIT:
            self._kept[key] = finding
        else:
            self.dropped += 1

    def connection_findings(self) -> list[Finding]:
        """What was made from events; times are monotonic, the objects are live: read only."""
        return list(self._kept.values())

    def findings(self, hub: Hub) -> list[Finding]:
        """All findings so far, worst first; times are seconds since 1970."""
        found: dict[Key, Finding] = {}
        for kept in self._kept.values():
            found[_key(kept)] = replace(kept, evidence=list(kept.evidence))
        for client in list(hub.clients.values()):
            for statement, tally in list(client.flagged.items()):
                finding = statement_finding(client, statement, tally, self.decide)
                if finding is None:
                    continue
                known = found.setdefault(_key(finding), finding)
                if known is not finding:
                    merge(known, finding)
        for finding in found.values():
            finding.first_seen += hub.wall
            finding.last_seen += hub.wall
        dropped = hub.counters.events_dropped + self.dropped
        if dropped and self._diagnosis is not None:
            for finding in self._diagnosis.on_dropped(dropped):
                found[_key(finding)] = finding
        return sorted(found.values(), key=rank)


def statement_code(statement: Judged) -> str:
    """Code of a flagged statement, or empty where it makes no finding of its own.

    A statement may have been judged anew since it was flagged: what counts is its verdict now.
    """
    if statement.verdict <= Verdict.scoped or statement.code == "PGG106":
        return ""
    code = statement.code or CODE_OF_VERDICT.get(Verdict(statement.verdict), "")
    return code if code in CODES else ""


def worst_table(relations: Iterable[Relation]) -> str:
    """Name of the relation with the worst level, or empty."""
    worst = max(relations, key=lambda relation: _level(relation.level), default=None)
    return "" if worst is None else worst.name


def statement_finding(
    client: Client, statement: Judged, tally: Tally, decide: Decide | None = None
) -> Finding | None:
    """The finding of one client about one statement; times are monotonic seconds.

    None if there is none, or if an exception of the settings allows it.
    """
    code = statement_code(statement)
    if not code:
        return None
    decision = decide(statement, client.key) if decide is not None else None
    if decision is not None and decision.allowed:
        return None
    return Finding(
        code=code,
        title=CODES[code].title,
        client=client.key,
        remedy=statement.remedy,
        fingerprint=statement.fingerprint,
        text=statement.masked,
        position=statement.position,
        relations=list(statement.relations),
        evidence=[statement.why] if statement.why else [],
        count=tally.count,
        by={client.key: tally.count},
        first_seen=tally.first,
        last_seen=tally.last,
        severity=decision.severity if decision is not None else "",
        action=decision.action.name if decision is not None else "observe",
        graded=decision.cls if decision is not None else "",
    )


def merge(into: Finding, other: Finding) -> None:
    """Add what `other` saw of the same thing. Of a statement the first example is what is shown."""
    first, second = into, other
    if other.by and other.first_seen < into.first_seen:
        first, second = other, replace(into)
        into.client, into.remedy, into.text = first.client, first.remedy, first.text
        into.position, into.relations = first.position, first.relations
    evidence = [*dict.fromkeys((*first.evidence, *second.evidence))]
    names = (*first.by, *second.by)
    into.by = {name: first.by.get(name, 0) + second.by.get(name, 0) for name in names}
    into.evidence = evidence[:EVIDENCE]
    into.count += other.count
    into.first_seen = min(into.first_seen, other.first_seen)
    into.last_seen = max(into.last_seen, other.last_seen)


def severity(finding: Finding) -> str:
    return finding.severity or CODES[finding.code].severity


def rank(finding: Finding) -> tuple[int, str, int, str, str]:
    """Sort key: severity, code, most often first, then by name so that the order is stable."""
    return (
        _SEVERITIES[severity(finding)],
        finding.code,
        -finding.count,
        finding.client,
        finding.fingerprint,
    )


def _key(finding: Finding) -> Key:
    """Findings are the same if they share it. What is done about a statement may depend on the
    client: then they are several."""
    if finding.by:
        graded = finding.graded, finding.severity, finding.action
        return (finding.code, finding.fingerprint, "", finding.test, *graded)
    return (finding.code, finding.fingerprint, finding.client, finding.test)


def _level(name: str) -> int:
    return int(Verdict[name]) if name in Verdict.__members__ else -1
