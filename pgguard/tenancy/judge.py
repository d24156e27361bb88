"""The one door of `tenancy/`: from a text to its Statement, and from a Statement to its verdict.

Laws: `statement` only looks up; `judge` analyses now, never raises, and is for texts up to
`SHAPED` bytes, larger ones go to a worker and come back through `judge_facts`; a verdict holds
for one version of the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.findings import Finding, Verdict
from pgguard.sql import effects
from pgguard.sql.cache import SHAPED, Counters, StatementCache
from pgguard.sql.statement import Facts, Statement

if TYPE_CHECKING:
    from pgguard.tenancy.model import Catalogue, TenancySettings


class Judge:
    """Judges the statements of one database."""

    __slots__ = ("cache", "counters", "settings", "unknown_relation", "version")

    def __init__(self, settings: TenancySettings, counters: Counters) -> None:
        self.settings = settings
        self.counters = counters
        self.cache = StatementCache(counters)
        self.version = 0
        self.unknown_relation = False

    def statement(self, text: bytes, readable: bool = True) -> Statement:
        """Look-up only; a miss gives a PENDING statement."""
        return self.cache.get(text)

    def judge(self, statement: Statement) -> None:
        """Analyse now."""
        self.judge_facts(statement, None)

    def wants_worker(self, statement: Statement) -> bool:
        """Whether the text is too large to be read in this process."""
        return len(statement.text) > SHAPED and statement.facts is None

    def judge_facts(self, statement: Statement, facts: Facts | None) -> None:
        """Verdict from facts; None = they could not be had."""
        statement.verdict = int(Verdict.unknown)
        statement.version = self.version

    def set_catalogue(self, catalogue: Catalogue) -> None:
        """A new catalogue: verdicts of older versions are to be judged again."""
        self.version += 1

    def model_changed_by(self, statement: Statement) -> bool:
        """Whether the catalogue must be read again once the statement has run."""
        return bool(statement.effects & effects.DDL)

    def model_findings(self) -> list[Finding]:
        """What is wrong with the model itself (PGG110)."""
        return []
