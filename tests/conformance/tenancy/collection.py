"""The labelled statements of tests/fixtures/tenancy, and what each label is worth.

A file of a schema's directory holds blocks: `-- title`, the statement with `$1` the judged tenant,
`:me` and `:other` two tenants as literals, and at its end, in brackets, the other parameters
(`$2 Booking.id`: one row's value after the other; `$3 'text'`) or the role (`as app_user`); then
`-- verdict: relation level, …` with the relations that are worse than `scoped`, and `-- reason: …`
where the experiment cannot show what the label says.

Laws: a label agrees with the experiment or gives its reason; a harmless label may never differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgguard.findings import Verdict
from tests.conformance.tenancy.oracle import Experiment, Kind
from tests.conformance.tenancy.schemas import FIXTURES
from tests.conformance.tenancy.worlds import ME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.tenancy.oracle import Outcome
    from tests.conformance.tenancy.worlds import Worlds

_VERDICTS: Final = {verdict.name for verdict in Verdict}
_OPTIONS: Final = re.compile(r"\s*\((\$\d+ [^()]*|as \w+)\)$")
_HARMLESS: Final = {"scoped", "scoped_fk", "no_tenant_data"}
OTHER: Final = "b"
"""The tenant that `:other` is."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One statement with what must be said of it."""

    where: str
    """File and title."""
    sql: str
    options: str
    verdict: str
    levels: dict[str, str]
    """Relations that are worse than `scoped`."""
    reason: str = ""

    def experiment(self, worlds: Worlds) -> Experiment:
        """The statement with its values for one schema's worlds."""
        me, other = (worlds.maker.tenant(letter) for letter in (ME, OTHER))
        sql = self.sql.replace(":me", f"'{me}'").replace(":other", f"'{other}'")
        role, values = "", [me]
        if self.options.startswith("as "):
            role = self.options[3:]
        elif self.options:
            seen: dict[str, int] = {}
            values += [
                _value(worlds, item.split(" ", 1)[1], seen) for item in self.options.split(", ")
            ]
        return Experiment(sql, tuple(values), role)


def _value(worlds: Worlds, text: str, seen: dict[str, int]) -> str:
    """`'text'`, or the next value of a column of the judged tenant's rows."""
    if text.startswith("'"):
        return text.strip("'")
    table, _, column = text.partition(".")
    rows = next(rows for key, rows in worlds.mine["full"].items() if key[1] == table)
    place = seen[text] = seen.get(text, -1) + 1
    return str(rows[place][column])


def read(schema: str) -> list[Labelled]:
    """Every labelled statement of a schema."""
    files = sorted((FIXTURES / "tenancy" / schema).glob("*.sql"))
    return [labelled for path in files for labelled in _blocks(path.name, path.read_text())]


def _blocks(name: str, text: str) -> Iterator[Labelled]:
    for block in re.split(r"\n{2,}", text.strip())[1:]:
        title, *lines = block.split("\n")
        statement = [line for line in lines if not line.startswith("-- ")]
        label, *more = [line[3:] for line in lines if line.startswith("-- ")]
        sql = "\n".join(statement)
        options = _OPTIONS.search(sql)
        verdict, _, relations = label.partition(": ")
        if verdict not in _VERDICTS or not sql:
            raise ValueError(f"{name}: no statement or no label in {block!r}")
        levels = dict(item.split(" ") for item in relations.split(", ")) if relations else {}
        yield Labelled(
            f"{name}: {title.removeprefix('-- ')}",
            sql[: options.start()] if options else sql,
            options[1] if options else "",
            verdict,
            levels,
            next((m.removeprefix("reason: ") for m in more), ""),
        )


def disagreement(labelled: Labelled, outcome: Outcome) -> str:
    """Why the experiment does not bear the label out; empty if it does."""
    if outcome.kind in {Kind.failed, Kind.unstable}:
        if labelled.reason and outcome.kind is Kind.unstable:
            return ""
        return f"the experiment {outcome.kind.value}: {outcome.evidence}"
    differs = outcome.kind is Kind.differs
    if labelled.verdict in _HARMLESS:
        if differs or (outcome.crossed and labelled.verdict != "scoped_fk"):
            return f"it differs in {outcome.world!r}: {outcome.evidence}"
        if outcome.kind is Kind.vacuous and labelled.verdict != "no_tenant_data":
            return "" if labelled.reason else "its result is the same whatever the tenant has"
        if labelled.verdict == "scoped_fk" and not outcome.crossed:
            return "" if labelled.reason else "not even crossed keys change it"
        return ""
    if labelled.verdict in {"unscoped", "cross_tenant"} and not differs:
        return "" if labelled.reason else f"no difference is seen ({outcome.kind.value})"
    return ""
