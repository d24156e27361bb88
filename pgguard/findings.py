"""What is wrong, with evidence and remedy: the shape that every report is made from.

`CODES` is the table of codes that exist in this version; `Verdict` the scale of levels, worst last.
Laws: no I/O; a finding holds no secret and, unless asked, no literal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple


class Verdict(IntEnum):
    """What is known of one statement, worst last."""

    no_tenant_data = 0
    scoped = 1
    scoped_fk = 2
    by_id = 3
    unknown = 4
    unscoped = 5
    cross_tenant = 6


class Code(NamedTuple):
    code: str
    cls: str
    severity: str
    title: str


CODES: dict[str, Code] = {
    entry.code: entry
    for entry in (
        Code("PGG101", "unscoped", "error", "statement is not scoped to a tenant"),
        Code("PGG102", "cross_tenant", "error", "statement reaches more than one tenant"),
        Code("PGG103", "cross_tenant", "note", "transaction works for more than one tenant"),
        Code("PGG104", "by_id", "note", "rows are chosen by id alone"),
        Code("PGG105", "scoped_fk", "note", "rows are scoped through foreign keys alone"),
        Code("PGG106", "unknown", "warning", "scope of the statement is not known"),
        Code("PGG107", "cross_tenant", "error", "rows of more than one tenant came back"),
        Code("PGG108", "unknown", "warning", "row security does not bind"),
        Code("PGG109", "internal", "note", "entry of tenancy.allow is of no use"),
        Code("PGG110", "unknown", "warning", "tenant model is ambiguous"),
        Code("PGG301", "exhaustion", "error", "client reached its cap"),
        Code("PGG302", "exhaustion", "error", "all server connections are in use"),
        Code("PGG303", "exhaustion", "error", "client waits for itself"),
        Code("PGG309", "exhaustion", "warning", "client gave up while it waited"),
        Code("PGG310", "exhaustion", "error", "Postgres refused a server connection"),
        Code("PGG311", "exhaustion", "error", "value of a sequence was asked for too late"),
        Code("PGG901", "internal", "warning", "statement was not analysed"),
        Code("PGG902", "internal", "warning", "rows were dropped"),
        Code("PGG903", "internal", "note", "clients were merged"),
    )
}

CLASSES = (
    "unscoped",
    "cross_tenant",
    "by_id",
    "scoped_fk",
    "unknown",
    "setup",
    "leftover",
    "leak",
    "collision",
    "shared_state",
    "exhaustion",
    "slow",
    "internal",
)


@dataclass(slots=True)
class Relation:
    """One occurrence of a table in a statement."""

    name: str
    """As in the catalogue, with the schema only if it is not `public`."""
    alias: str
    level: str
    """Name of a `Verdict`."""
    why: str
    fix: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {k: getattr(self, k) for k in ("name", "alias", "level", "why", "fix")}


@dataclass(slots=True)
class Finding:
    code: str
    title: str
    client: str
    """The first that did it."""
    remedy: str
    test: str = ""
    fingerprint: str = ""
    text: str = ""
    """Statement with its literals masked."""
    position: int = 0
    """Characters from the start of the statement, from 1; 0 = not known."""
    relations: list[Relation] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    count: int = 1
    by: dict[str, int] = field(default_factory=dict)
    """Of a statement: how often each client did it, the first one first."""
    first_seen: float = 0.0
    """Seconds since 1970, UTC."""
    last_seen: float = 0.0
    confidence: str = "certain"
    """`certain` or `likely`."""
    severity: str = ""
    """Empty = that of the code."""
    action: str = "observe"
    graded: str = ""
    """Class, where it is not that of the code: `setup`."""

    @property
    def cls(self) -> str:
        return self.graded or CODES[self.code].cls

    @property
    def clients(self) -> list[str]:
        """All that did it, the first one first."""
        return list(self.by) or ([self.client] if self.client else [])

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of surface.md."""
        return {
            "code": self.code,
            "class": self.cls,
            "severity": self.severity or CODES[self.code].severity,
            "title": self.title,
            "client": self.client,
            "clients": dict(self.by) or ({self.client: self.count} if self.client else {}),
            "test": self.test or None,
            "statement": {
                "fingerprint": self.fingerprint,
                "text": self.text,
                "position": self.position,
            }
            if self.fingerprint
            else None,
            "relations": [relation.to_dict() for relation in self.relations],
            "evidence": list(self.evidence),
            "count": self.count,
            "first_seen": self.first_seen,
            "last_seen": self.last_seen,
            "remedy": self.remedy,
            "confidence": self.confidence,
        }
