"""What pgguard says of a statement of these schemas: the door, and nothing behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pgguard.counters import ProcessCounters
from pgguard.findings import Verdict
from pgguard.tenancy.judge import Judge
from pgguard.tenancy.rehearsal import Rehearsal
from tests.conformance.tenancy.schemas import OWNER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgguard.tenancy.model import Model
    from tests.conformance.tenancy.oracle import Experiment


class Said(NamedTuple):
    """A verdict's name, the worst level of each relation, and why."""

    verdict: str
    levels: dict[str, str]
    why: str


class Judges:
    """Asks judges that know one catalogue, one for each role that statements are run as; the tenant
    settings hold `tenant`."""

    def __init__(self, models: Mapping[str, Model], tenant: str) -> None:
        self._tenant = tenant
        self._judges = {}
        for role, model in models.items():
            judge = self._judges[role] = Judge(model.settings, ProcessCounters())
            judge.set_catalogue(model.catalogue)
            judge.users.add(role)

    def say(self, experiment: Experiment) -> Said:
        session = Rehearsal(self._judges[experiment.role or OWNER], self._tenant)
        statement = session.judge(experiment.sql, experiment.values)
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
