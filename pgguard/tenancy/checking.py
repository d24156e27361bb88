"""Judges statements that nobody runs: `pgguard check`.

Laws: pure; every statement gets an answer, in the order of the input; each text is judged by
itself, so that a position is that of this very text; what stands before a statement (`setup`) is
taken as executed in the same session.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pgguard.findings import CODES, Verdict
from pgguard.sql.shape import comments
from pgguard.tenancy.rehearsal import Rehearsal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgguard.findings import Relation
    from pgguard.sql.statement import Statement
    from pgguard.tenancy.judge import Judge
    from pgguard.tenancy.policy import Decision, Policy

_IGNORE: Final = re.compile(r"pgguard:ignore[ \t]+((?:PGG\d{3}[ \t,]*)+)([^\r\n*]*)")
_CODE: Final = re.compile(r"PGG\d{3}")


class Source:
    """A file that statements were read from."""

    __slots__ = ("_lines", "path", "text")

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self._lines = [0, *(at + 1 for at, char in enumerate(text) if char == "\n")]

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column, from 1, of a character."""
        line = bisect_right(self._lines, offset)
        return line, offset - self._lines[line - 1] + 1


@dataclass(frozen=True, slots=True)
class Item:
    """One statement of the input."""

    source: Source
    sql: str
    start: int
    """Where in the source its text begins, or the line that holds it."""
    first: int = 0
    """Where in its text the first word stands."""
    id: Any = None
    verbatim: bool = True
    """The source holds the text as it is: its offsets are those of the source."""
    params: tuple[str | None, ...] | None = None
    tenant: str | None = None
    setup: tuple[str, ...] = ()
    problem: str = ""
    """Why it cannot be judged."""
    harmless: bool = False
    """Nothing that had to be: a command of psql."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One statement with its verdict; `position` is an offset into its text."""

    item: Item
    verdict: Verdict
    code: str
    why: str
    relations: tuple[Relation, ...] = ()
    remedy: str = ""
    fingerprint: str = ""
    masked: str = ""
    position: int = 0
    cls: str = ""
    severity: str = ""
    allowed: str = ""
    """Why it is no finding although it has a code."""

    @property
    def place(self) -> tuple[int, int]:
        """Line and column in the source."""
        item = self.item
        return item.source.place(item.start + (self.position if item.verbatim else 0))

    @property
    def is_finding(self) -> bool:
        return bool(self.code) and not self.allowed


class Checker:
    """Judges items by one model and one policy; a script is one session, a line one of its own."""

    __slots__ = ("_judge", "_policy", "_script", "_session")

    def __init__(self, judge: Judge, policy: Policy) -> None:
        self._judge = judge
        self._policy = policy
        self._script: Source | None = None
        self._session = Rehearsal(judge)

    def check(self, item: Item) -> Checked:
        """The verdict of one statement."""
        if item.problem:
            grade = "note" if item.harmless else "warning"
            return Checked(
                item, Verdict.unknown, "PGG901", item.problem, cls="internal", severity=grade
            )
        session = self._session_of(item)
        statement = session.judge(item.sql, item.params)
        decision = self._policy.decide(statement, item.source.path)
        checked = _answer(item, statement, decision)
        if item.verbatim:
            session.run(item.sql)
        return checked

    def _session_of(self, item: Item) -> Rehearsal:
        """The session that the item stands in, its `setup` behind it."""
        if item.verbatim and item.source is self._script:
            return self._session
        # What one session makes, such as temporary tables, no other one has.
        alone = item.verbatim or item.setup
        judge = self._judge.twin() if alone else self._judge
        session = Rehearsal(judge, item.tenant)
        for text in item.setup:
            session.run(text)
        if item.verbatim:
            self._script, self._session = item.source, session
        return session


def _answer(item: Item, statement: Statement, decision: Decision) -> Checked:
    code = statement.code if statement.code in CODES else ""
    # Parameters may have been written out, or what was prepared may stand in its place.
    own = item.sql.encode("utf-8", "surrogatepass").startswith(statement.text)
    position = statement.position - 1 if statement.position and own else item.first
    return Checked(
        item,
        Verdict(statement.verdict),
        code,
        statement.why,
        statement.relations,
        statement.remedy,
        statement.fingerprint,
        statement.masked,
        position,
        decision.cls,
        decision.severity,
        decision.allowed or _ignored(statement.text, code),
    )


def _ignored(text: bytes, code: str) -> str:
    """The reason that a comment of the statement gives for ignoring the code."""
    if b"pgguard:ignore" not in text:
        return ""
    for comment in comments(text):
        for codes, reason in _IGNORE.findall(comment):
            if code in _CODE.findall(codes) and reason.strip(" \t:-"):
                return str(reason.strip(" \t:-"))
    return ""


def worse_than_scoped(relations: Sequence[Relation]) -> list[str]:
    """The names that a level worse than `scoped` stands by, sorted, once each."""
    return sorted({r.name for r in relations if Verdict[r.level] > Verdict.scoped})
