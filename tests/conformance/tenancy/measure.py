"""`tenancy`: what pgguard says of statements, and what an experiment on real rows shows.

First the labelled statements of `collection`: the experiment bears each label out, and pgguard
says it. Then N random statements of both schemas (`--count N`, `--seed S`). Those whose results
say nothing (the same whatever the tenant itself has), differ from run to run or fail are counted
apart.

Laws: the bars are those of the guard's issue; a statement that is called `scoped` is also held to a
world in which foreign keys of others lead to the tenant's rows, which `scoped_fk` trusts not to be;
what is wrong is shown with the smallest statement that is still wrong.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.conformance import harness
from tests.conformance.tenancy import collection
from tests.conformance.tenancy.generator import Generator
from tests.conformance.tenancy.judging import Judges
from tests.conformance.tenancy.oracle import Experiment, Kind, Oracle, Outcome
from tests.conformance.tenancy.schemas import OWNER, SCHEMAS
from tests.conformance.tenancy.shrinking import shrink
from tests.conformance.tenancy.worlds import ME, Worlds

if TYPE_CHECKING:
    from tests.conformance.tenancy.generator import Generated
    from tests.conformance.tenancy.judging import Said

SERVER: Final = {"max_connections": "60", "shared_buffers": "64MB"}
REFUTED: Final = "called harmless, and is not"
HARMLESS_LEVELS: Final = {"scoped", "no_tenant_data"}
"""Levels that labels leave out."""
MOST_SHOWN: Final = 40
HARMLESS: Final = {"scoped", "scoped_fk", "no_tenant_data"}
HARMFUL: Final = {"unscoped", "cross_tenant"}
_SHOWN: Final = 5
_SHORT: Final = 500
_COUNT: Final = 2000


def run(checks: harness.Checks, short: bool, count: int = 0, seed: int = 1) -> None:
    """The collection, then random statements with their bars."""
    count = count or (_SHORT if short else _COUNT)
    tally, labels = Tally(), Labels()
    with harness.postgres(settings=SERVER) as postgres:
        for schema in SCHEMAS.values():
            with Worlds(postgres.embedded, schema) as worlds:
                examined = Examined(worlds, seed)
                labels.compare(worlds, examined)
                started = time.monotonic()
                for _ in range(count // len(SCHEMAS)):
                    tally.add(*examined.next())
                took = time.monotonic() - started
                checks.note(
                    f"{schema.name}: {count // len(SCHEMAS)} statements,"
                    f" {examined.oracle.executions} executions, {took:.0f} s"
                )
                for what, cases in tally.wrong.items():
                    mine = [case for case in cases if case[0].schema == schema.name]
                    mine.sort(key=lambda case: len(case[0].experiment.sql))
                    few = _SHOWN if what == REFUTED else 1 if short else 2
                    tally.shown[what] += [examined.smallest(*case) for case in mine[:few]]
    labels.report(checks)
    report(checks, tally, seed)


@dataclass(slots=True)
class Labels:
    """What became of the labelled statements."""

    count: int = 0
    untrue: list[str] = field(default_factory=list)
    otherwise: list[str] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)

    def compare(self, worlds: Worlds, examined: Examined) -> None:
        for labelled in collection.read(worlds.schema.name):
            self.count += 1
            self.verdicts[labelled.verdict] += 1
            experiment = labelled.experiment(worlds)
            shown = f"[{worlds.schema.name}] {labelled.where}\n     {experiment.sql}"
            why = collection.disagreement(labelled, examined.oracle.examine(experiment))
            if why:
                self.untrue.append(f"{shown}\n     label {labelled.verdict}; {why}")
            said = examined.judges.say(experiment)
            worse = {n: level for n, level in said.levels.items() if level not in HARMLESS_LEVELS}
            if (said.verdict, worse) != (labelled.verdict, labelled.levels):
                self.otherwise.append(
                    f"{shown}\n     label: {labelled.verdict} {labelled.levels}"
                    f"\n     said: {said.verdict} {worse} ({said.why})"
                )

    def report(self, checks: harness.Checks) -> None:
        told = ", ".join(f"{count} {verdict}" for verdict, count in self.verdicts.most_common())
        checks.note(f"{self.count} labelled statements: {told}")
        for text in [*self.untrue[:MOST_SHOWN], *self.otherwise[:MOST_SHOWN]]:
            checks.note(f"  {text}")
        checks.claim(self.count >= 400, "labelled statements", self.count, "at least 400")
        checks.claim(
            not self.untrue,
            "the experiment bears out every label",
            f"{self.count - len(self.untrue)} of {self.count}",
            "all",
        )
        checks.claim(
            not self.otherwise,
            "verdict and relations are the label's",
            f"{self.count - len(self.otherwise)} of {self.count}",
            "all",
        )


class Examined:
    """The statements of one schema, each judged twice: by pgguard and by the oracle."""

    def __init__(self, worlds: Worlds, seed: int) -> None:
        self.oracle = Oracle(worlds, OWNER)
        self.judges = Judges(worlds.models, worlds.maker.tenant(ME))
        self._generator = Generator(worlds, seed)

    def next(self) -> tuple[Generated, Said, Outcome]:
        made = self._generator.one()
        return made, self.judges.say(made.experiment), self.oracle.examine(made.experiment)

    def smallest(self, made: Generated, said: Said, outcome: Outcome) -> str:
        """The shortest statement on which both say the same, with what they say."""
        values, role = made.experiment.values, made.experiment.role

        def wrong(sql: str) -> bool:
            tried = Experiment(sql, values, role)
            if self.judges.say(tried).verdict != said.verdict:
                return False
            seen = self.oracle.examine(tried)
            return (seen.kind, seen.crossed) == (outcome.kind, outcome.crossed)

        sql = shrink(made.experiment.sql, wrong)
        tried = Experiment(sql, values, role)
        now, seen = self.judges.say(tried), self.oracle.examine(tried)
        who = f" as {role}" if role else ""
        shown = f"[{made.schema}{who}] {sql}\n     said: {now.verdict} ({now.why})"
        return shown + (f"\n     shown in {seen.world!r}: {seen.evidence}" if seen.evidence else "")


@dataclass(slots=True)
class Tally:
    """What was said of how many."""

    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By outcome and verdict."""
    kinds: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    modes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    wrong: dict[str, list[tuple[Generated, Said, Outcome]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    shown: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, made: Generated, said: Said, outcome: Outcome) -> None:
        verdict, kind = said.verdict, outcome.kind
        case = (made, said, outcome)
        self.seen[kind.name, verdict] += 1
        self.modes[made.mode][kind.name] += 1
        row = self.kinds[made.kind]
        row["all"] += 1
        row[kind.name] += 1
        row[f"{kind.name} {verdict}"] += 1
        if unsound(verdict, outcome):
            row["unsound"] += 1
            self.wrong[REFUTED].append(case)
        elif kind is Kind.same and verdict in HARMFUL and not outcome.crossed:
            self.wrong["false alarm"].append(case)
        elif kind in {Kind.same, Kind.differs} and verdict == "unknown":
            self.wrong["unknown"].append(case)
        elif kind is Kind.differs and verdict == "by_id":
            self.wrong["by_id, and differs"].append(case)

    def of(self, kind: Kind, *verdicts: str) -> int:
        return sum(
            count
            for (name, verdict), count in self.seen.items()
            if name == kind.name and (not verdicts or verdict in verdicts)
        )


def unsound(verdict: str, outcome: Outcome) -> bool:
    """Whether a harmless verdict is refuted."""
    if outcome.crossed:
        return verdict in {"scoped", "no_tenant_data"}
    return outcome.kind is Kind.differs and verdict in HARMLESS


def report(checks: harness.Checks, tally: Tally, seed: int) -> None:
    """The distribution, the worst examples and the bars."""
    _distribution(checks, tally)
    for what, shown in tally.shown.items():
        checks.note(f"{what}: {len(tally.wrong[what])}; the smallest of some:")
        for text in sorted(shown, key=len)[:_SHOWN]:
            checks.note(f"  {text}")
    same, differs = tally.of(Kind.same), tally.of(Kind.differs)
    apart = [kind for kind in Kind if kind not in {Kind.same, Kind.differs}]
    reasons = Counter(case[1].why[:80] for case in tally.wrong["unknown"])
    for reason, count in reasons.most_common(8):
        checks.note(f"unknown {count} times: {reason}")
    checks.note(
        f"seed {seed}: {same} without visible dependence, {differs} with; apart: "
        + ", ".join(f"{tally.of(kind)} {kind.value}" for kind in apart)
    )
    wrong = len(tally.wrong[REFUTED])
    checks.claim(
        wrong == 0, "none called scoped, scoped_fk or no_tenant_data that is not", wrong, "0"
    )
    _bar(checks, tally, Kind.same, ("scoped", "scoped_fk"), 85, least=True)
    _bar(checks, tally, Kind.same, ("unscoped", "cross_tenant"), 8)
    _bar(checks, tally, Kind.same, ("unknown",), 3)
    _bar(checks, tally, Kind.differs, ("unscoped", "cross_tenant"), 95, least=True)
    none = tally.of(Kind.differs, "no_tenant_data")
    checks.claim(none == 0, "none with visible dependence is no_tenant_data", none, "0")
    checks.claim(same >= 4 * differs / 10 > 0, "statements of both sorts", f"{same} and {differs}")


def _bar(
    checks: harness.Checks,
    tally: Tally,
    kind: Kind,
    verdicts: tuple[str, ...],
    bar: int,
    *,
    least: bool = False,
) -> None:
    whole, part = tally.of(kind), tally.of(kind, *verdicts)
    share = 100 * part / max(whole, 1)
    held = bool(whole) and (share >= bar if least else share <= bar)
    what = "without" if kind is Kind.same else "with"
    checks.claim(
        held,
        f"{what} visible dependence: {' or '.join(verdicts)}",
        f"{share:.1f} % of {whole}",
        f"{'at least' if least else 'at most'} {bar} %",
    )


def _distribution(checks: harness.Checks, tally: Tally) -> None:
    rows = []
    for kind, row in tally.kinds.items():
        good = row["same scoped"] + row["same scoped_fk"]
        caught = row["differs unscoped"] + row["differs cross_tenant"]
        rows.append(
            [
                kind,
                row["all"],
                row["same"],
                good,
                row["same unscoped"] + row["same cross_tenant"],
                row["same by_id"],
                row["same unknown"],
                row["differs"],
                caught,
                row["differs by_id"],
                row["differs unknown"],
                row["unsound"],
                row["vacuous"] + row["unstable"] + row["failed"],
            ]
        )
    head = ["kind", "all", "same:", "scoped", "unscoped", "by_id", "unknown"]
    head += ["differs:", "caught", "by_id", "unknown", "unsound", "apart"]
    checks.table(head, rows)
    for mode, row in tally.modes.items():
        checks.note(f"{mode}: " + ", ".join(f"{count} {kind}" for kind, count in row.items()))
