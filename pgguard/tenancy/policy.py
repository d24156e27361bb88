"""What is done about a statement's verdict: whom it concerns, how grave it is, and the action.

    verdict ──► findings (code, table) ──► allowed? ──► class and severity ──► mode ──► action

Laws: pure, no clock (`today` is given); a decision is kept for (statement, client, verdict), so
that an execution whose statement was seen before costs one look-up, and statements that are clean
need none; what is allowed was allowed by an entry that has not expired, and every entry that was
ever needed is marked as used. A grade never opens the gate: `block` goes by the verdict, and only
a client that the settings name as set-up is let through.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from pgguard.findings import CODES, Finding, Verdict
from pgguard.sql import effects
from pgguard.sql.shape import remarks
from pgguard.tenancy import rules
from pgguard.tenancy.cleanup import empties_tables

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgguard.findings import Relation
    from pgguard.sql.statement import Facts

CODE_OF: Final = {
    Verdict.scoped_fk: "PGG105",
    Verdict.by_id: "PGG104",
    Verdict.unknown: "PGG106",
    Verdict.unscoped: "PGG101",
    Verdict.cross_tenant: "PGG102",
}
KEPT: Final = 20_000
"""Decisions that are kept."""


class Action(IntEnum):
    """What is done with a statement, mildest first."""

    observe = 0
    warn = 1
    block = 2


@dataclass(frozen=True, slots=True)
class ModeRule:
    """An entry of `tenancy.rules`: globs, empty = any. Of those that fit the last one decides."""

    mode: Action
    code: str = ""
    table: str = ""
    client: str = ""


@dataclass(frozen=True, slots=True)
class Allow:
    """An entry of `tenancy.allow`: whatever it names has to fit; table and client are globs."""

    reason: str
    fingerprint: str = ""
    table: str = ""
    client: str = ""
    comment: str = ""
    """The word behind `pgguard:allow` in a comment of the statement."""
    expires: date | None = None
    """The last day on which it holds."""

    @property
    def shown(self) -> str:
        """What it names, as in the settings."""
        names = ("fingerprint", "table", "client", "comment")
        return ", ".join(f'{name} = "{value}"' for name in names if (value := getattr(self, name)))


class Decision(NamedTuple):
    """About one statement of one client under one verdict."""

    action: Action
    cls: str
    severity: str
    allowed: str = ""
    """The reason of the entries that allow it; empty = it is not allowed."""


class Judged(Protocol):
    """The part of a Statement that a decision looks at."""

    text: bytes
    readable: bool
    verdict: int
    code: str
    effects: int
    version: int
    relations: tuple[Relation, ...]
    facts: Facts | None

    @property
    def fingerprint(self) -> str: ...
    @property
    def masked(self) -> str: ...


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """`tenancy.mode`, `.rules`, `.allow` and `.setup`."""

    mode: Action = Action.observe
    rules: tuple[ModeRule, ...] = ()
    allow: tuple[Allow, ...] = ()
    setup: tuple[str, ...] = ()
    """Globs of clients that set up or clean up."""


@dataclass(slots=True)
class Policy:
    """Decides for all databases of one guard."""

    settings: PolicySettings = field(default_factory=PolicySettings)
    today: date = date.min
    used: set[Allow] = field(default_factory=set)
    """Entries of `tenancy.allow` that were needed so far."""
    _known: dict[tuple[object, str, int], tuple[int, Decision]] = field(default_factory=dict)
    _most: Action = Action.observe
    """The most that is done about any statement."""

    def __post_init__(self) -> None:
        self._most = max([self.settings.mode, *(rule.mode for rule in self.settings.rules)])

    @property
    def acts(self) -> bool:
        """Whether any statement of anybody may be warned about or blocked."""
        return self._most > Action.observe

    @property
    def blocks(self) -> bool:
        """Whether any may be blocked, so that statements must be judged before they run."""
        return self._most is Action.block

    def decide(self, statement: Judged, client: str, verdict: int | None = None) -> Decision:
        """What to do about an execution by `client`.

        `verdict` is that of this execution where its values say more than its text does.
        """
        level = statement.verdict if verdict is None else verdict
        key = (statement, client, level)
        kept = self._known.get(key)
        if kept is not None and kept[0] == statement.version:
            return kept[1]
        decision = self._decide(statement, client, Verdict(max(level, 0)))
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[key] = statement.version, decision
        return decision

    def reconfigure(self, settings: PolicySettings) -> None:
        """New settings; what was used stays used."""
        self.settings = settings
        self.__post_init__()
        self._known.clear()

    def turn(self, today: date) -> None:
        """A new day: entries may have expired."""
        if today != self.today:
            self.today = today
            self._known.clear()

    def expired(self) -> list[Allow]:
        """Entries that do not allow any more."""
        return [entry for entry in self.settings.allow if self._has_expired(entry)]

    def unused(self) -> list[Allow]:
        """Entries that still hold and that nothing has needed so far."""
        return [
            entry
            for entry in self.settings.allow
            if entry not in self.used and not self._has_expired(entry)
        ]

    def findings(self) -> list[Finding]:
        """PGG109: at the end of a run, entries that have expired, and those of no use."""
        found = []
        for entry in self.expired():
            last = entry.expires.isoformat() if entry.expires else ""
            title = f"has allowed nothing since {last}: {entry.shown}"
            found.append(_of_entry(entry, title, "warning"))
        return found + [
            _of_entry(entry, f"nothing has needed it: {entry.shown}", "note")
            for entry in self.unused()
        ]

    def _has_expired(self, entry: Allow) -> bool:
        return entry.expires is not None and entry.expires < self.today

    def _decide(self, statement: Judged, client: str, level: Verdict) -> Decision:
        code = statement.code if level == statement.verdict else CODE_OF.get(level, "")
        if code not in CODES or level <= Verdict.scoped:
            return Decision(Action.observe, "", "note")
        named = [pattern for pattern in self.settings.setup if fnmatchcase(client, pattern)]
        cls, severity = CODES[code].cls, CODES[code].severity
        if named and level > Verdict.scoped_fk:
            cls, severity = "setup", "note"
        elif level in {Verdict.unscoped, Verdict.cross_tenant} and _sets_up(statement):
            cls, severity = "setup", "warning"
        faults = _faults(statement, code, level)
        reasons = self._allowed(statement, client, [table for _, table in faults])
        if reasons:
            return Decision(Action.observe, cls, severity, reasons)
        actions = [self._action(statement, client, *fault, trusted=bool(named)) for fault in faults]
        return Decision(max(actions), cls, severity)

    def _action(
        self, statement: Judged, client: str, code: str, table: str, *, trusted: bool
    ) -> Action:
        rule = self._rule(code, table, client)
        mode = self.settings.mode if rule is None else rule.mode
        if rule is not None and rule.code:
            return mode
        severity = CODES[code].severity
        if code == "PGG901":
            refused = statement.facts is not None and statement.facts.rejected
            return Action.observe if refused else mode
        if severity == "note" or (trusted and rule is None):
            return Action.observe
        return min(mode, Action.warn) if severity == "warning" else mode

    def _rule(self, code: str, table: str, client: str) -> ModeRule | None:
        for rule in reversed(self.settings.rules):
            if (
                fnmatchcase(code, rule.code or "*")
                and fnmatchcase(table, rule.table or "*")
                and fnmatchcase(client, rule.client or "*")
            ):
                return rule
        return None

    def _allowed(self, statement: Judged, client: str, tables: Iterable[str]) -> str:
        """Why it is allowed: one entry for all of it, or one for every table that is at fault."""
        words = remarks(statement.text) if self.settings.allow and statement.readable else ()
        reasons: list[str] = []
        used: set[Allow] = set()
        for table in tables:
            for entry in self.settings.allow:
                if (
                    not self._has_expired(entry)
                    and fnmatchcase(table, entry.table or "*")
                    and fnmatchcase(client, entry.client or "*")
                    and entry.fingerprint in {"", statement.fingerprint}
                    and (not entry.comment or entry.comment in words)
                ):
                    used.add(entry)
                    reasons.append(entry.reason)
                    break
            else:
                return ""
        self.used |= used
        return "; ".join(dict.fromkeys(reasons))


def _of_entry(entry: Allow, title: str, severity: str) -> Finding:
    words = rules.remedy("PGG109", [], "")
    reason = f"its reason: {entry.reason}"
    return Finding("PGG109", title, "", words, evidence=[reason], severity=severity)


def _sets_up(statement: Judged) -> bool:
    """Whether a statement without a tenant is one that sets up or cleans up, by its form."""
    return bool(statement.effects & effects.DDL) or empties_tables(statement.masked)


def _faults(statement: Judged, code: str, level: Verdict) -> list[tuple[str, str]]:
    """(code, table) of everything that is wrong with the statement; no table = all of it."""
    found = []
    worst = Verdict.no_tenant_data
    for relation in statement.relations:
        own = Verdict[relation.level]
        if own > Verdict.scoped:
            worst = max(worst, own)
            found.append((code if own == level else CODE_OF[own], relation.name))
    if worst < level:
        found += [(code, relation.name) for relation in statement.relations]
    return [fault for fault in found if fault[0] in CODES] or [(code, "")]
