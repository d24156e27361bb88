"""What pgguard says of a statement of these schemas: the door, and nothing behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pgguard.counters import ProcessCounters
from pgguard.findings import Verdict
from pgguard.tenancy.judge import Judge

if TYPE_CHECKING:
    from pgguard.tenancy.model import Model
    from tests.conformance.tenancy.oracle import Experiment


class Said(NamedTuple):
    """A verdict's name, the worst level of each relation, and why."""

    verdict: str
    levels: dict[str, str]
    why: str


class Judges:
    """Asks a judge that knows one catalogue."""

    def __init__(self, model: Model) -> None:
        self._judge = Judge(model.settings, ProcessCounters())
        self._judge.set_catalogue(model.catalogue)

    def say(self, experiment: Experiment) -> Said:
        statement = self._judge.statement(experiment.sql.encode())
        self._judge.judge(statement)
        worst: dict[str, Verdict] = {}
        for relation in statement.relations:
            level = Verdict[relation.level]
            worst[relation.name] = max(level, worst.get(relation.name, level))
        why = statement.why or "; ".join(
            f"{relation.name} {relation.alias}: {relation.level}, {relation.why}"
            for relation in statement.relations
        )
        levels = {name: level.name for name, level in worst.items()}
        return Said(Verdict(statement.verdict).name, levels, why)
