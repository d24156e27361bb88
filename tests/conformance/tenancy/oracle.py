"""The experiment: what other tenants' rows change of what a statement returns and does.

A statement runs in a base (the judged tenant alone) and in worlds (others beside it), each run in
a transaction that is rolled back. Its results are compared as multisets, as lists where it orders
them; all rows of all tables behind a write must be the base's and, untouched, the others'. A
difference counts only if the base and its twin (the same rows in another order, under another
planner) agree.

Laws: what differs is shown with the world and both sides; unique and foreign key violations in a
world are no visible dependence (a key that another tenant took is told by an error alone);
every other error that the base does not have is. A statement whose results are the same whatever
the judged tenant itself has proves nothing: `vacuous`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from psycopg.pq import ExecStatus, TransactionStatus

from tests.conformance.tenancy.worlds import SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg import pq

    from tests.conformance.tenancy.worlds import World, Worlds

_WRITES: Final = re.compile(
    r"\b(insert|update|delete|merge|truncate|into|create|call|do|copy|execute|lock|declare)\b",
    re.IGNORECASE,
)
_ORDERED: Final = re.compile(r"\border\s+by\b[^()]*(\([^()]*\)[^()]*)*$", re.IGNORECASE)
_BY_ERROR_ALONE: Final = {"23505", "23503", "23P01"}
_TOO_SLOW: Final = {"57014", "55P03"}

Answer = tuple["tuple[bytes | None, ...]", ...]


class Kind(Enum):
    same = "no difference"
    differs = "differs"
    vacuous = "says nothing"
    unstable = "differs from run to run"
    failed = "fails"


class Outcome(NamedTuple):
    """What the experiment showed; `world` and `evidence` of the first difference."""

    kind: Kind
    world: str = ""
    evidence: str = ""
    crossed: bool = False
    """A difference appears only where foreign keys of others lead to the tenant's rows."""
    by_error: bool = False
    """In some world a key that another tenant took made it fail."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A statement to run; `$n` are replaced by `values` (None: NULL)."""

    sql: str
    values: tuple[str | None, ...] = ()
    role: str = ""
    """Who runs it; empty = the tables' owner."""
    setup: tuple[str, ...] = ()
    """Statements before it in the same transaction."""


class Run(NamedTuple):
    """What one execution gave."""

    answers: tuple[Answer, ...] = ()
    rows: dict[str, str] | None = None
    """Behind a write: by table all rows."""
    error: str = ""
    message: str = ""

    @property
    def size(self) -> int:
        return sum(map(len, self.answers))


def bound(sql: str, values: Sequence[str | None]) -> str:
    """The text with its parameters written out; `$n` in it must stand outside of literals."""
    if not values:
        return sql
    written = [
        "NULL" if value is None else "'" + value.replace("'", "''") + "'" for value in values
    ]
    return re.sub(r"\$(\d+)", lambda match: written[int(match[1]) - 1], sql)


class Oracle:
    """Runs experiments in the worlds of one schema."""

    def __init__(self, worlds: Worlds, owner: str) -> None:
        self.worlds = worlds
        self.owner = owner
        self.executions = 0

    def examine(self, experiment: Experiment) -> Outcome:
        """What the worlds say; the cheapest order is not needed, every world is asked at once."""
        worlds = self.worlds
        asked = [*worlds.bases.values(), *worlds.worlds, *worlds.crossed]
        runs = dict(zip((world.name for world in asked), self._run(asked, experiment), strict=True))
        bases = {name: runs[name] for name in worlds.bases}
        if any(run.error in _TOO_SLOW for run in runs.values()):
            return Outcome(Kind.failed, "", "too slow")
        good = {name for name, run in bases.items() if not run.error}
        for world in worlds.worlds:
            if bases[world.base].error in _BY_ERROR_ALONE and not runs[world.name].error:
                return Outcome(Kind.differs, world.name, "works only with others' rows")
        if not good:
            return Outcome(Kind.failed, "full", bases["full"].message)
        ordered = bool(_ORDERED.search(experiment.sql.rstrip("; \n")))
        by_error = False
        for world in [*worlds.worlds, *worlds.crossed]:
            if world.base not in good:
                continue
            run, base = runs[world.name], bases[world.base]
            if run.error in _BY_ERROR_ALONE:
                by_error = True
                continue
            alone = worlds.bases[world.base]
            evidence = difference(base, run, alone, world, ordered=ordered)
            if not evidence:
                continue
            strict = self._stable(experiment, base, world.base, ordered=ordered)
            if strict is None:
                return Outcome(Kind.unstable, world.name, evidence)
            if ordered and not strict:
                evidence = difference(base, run, alone, world, ordered=False)
            if evidence:
                if world in worlds.crossed:
                    kind = self._idle(bases, good)
                    return Outcome(kind, world.name, evidence, crossed=True, by_error=by_error)
                return Outcome(Kind.differs, world.name, evidence, by_error=by_error)
        return Outcome(self._idle(bases, good), by_error=by_error)

    def _idle(self, bases: dict[str, Run], good: Iterable[str]) -> Kind:
        """`vacuous` if no base differs from another in what the statement returns or does."""
        seen = []
        for name in good:
            run = bases[name]
            before = self.worlds.bases[name].before
            changed = {t: rows for t, rows in (run.rows or {}).items() if rows != before[t]}
            seen.append((run.answers, changed))
        alike = len(seen) > 1 and all(one == seen[0] for one in seen)
        return Kind.vacuous if alike else Kind.same

    def _stable(
        self, experiment: Experiment, base: Run, name: str, *, ordered: bool
    ) -> bool | None:
        """None if base and twin differ; else whether they agree in the order, too."""
        twin = self.worlds.twins[name]
        (again,) = self._run([twin], experiment)
        if base.rows != again.rows or _answered(base, again, ordered=False):
            return None
        return not (ordered and _answered(base, again, ordered=True))

    def _run(self, worlds: Sequence[World], experiment: Experiment) -> list[Run]:
        """Run it in all these worlds at the same time."""
        role = experiment.role or self.owner
        sql = bound(experiment.sql, experiment.values)
        writes = bool(_WRITES.search(sql)) or bool(experiment.setup)
        steps = ["BEGIN", *experiment.setup, sql] if writes else [sql]
        text = ";\n".join(step.rstrip().rstrip(";") for step in steps)
        if writes:
            text += ";\nSELECT * FROM tests.snapshot();\nROLLBACK"
        skip = 1 + len(experiment.setup) if writes else 0
        for world in worlds:
            if world.role != role:
                world.connection.pgconn.exec_(
                    f"RESET SESSION AUTHORIZATION; SET SESSION AUTHORIZATION {role}".encode()
                )
                world.role = role
            world.connection.pgconn.send_query(text.encode())
        self.executions += len(worlds)
        return [_collect(world.connection.pgconn, skip, writes=writes) for world in worlds]


def _collect(connection: pq.abc.PGconn, skip: int, *, writes: bool) -> Run:
    answers: list[Answer] = []
    error = message = ""
    while (result := connection.get_result()) is not None:
        if result.status == ExecStatus.COPY_OUT:
            answers.append(_copied(connection))
        elif result.status == ExecStatus.FATAL_ERROR:
            error = (result.error_field(67) or b"XX000").decode()
            message = result.error_message.decode(errors="replace").strip()
        elif result.status == ExecStatus.TUPLES_OK:
            width = range(result.nfields)
            get = result.get_value
            answers.append(
                tuple(tuple(get(row, c) for c in width) for row in range(result.ntuples))
            )
        else:
            # How many rows a command says that it changed is an answer, too.
            answers.append((((result.command_status or b""),),))
    if connection.transaction_status != TransactionStatus.IDLE:
        connection.exec_(b"ROLLBACK")
    if error:
        return Run(error=error, message=message)
    if not writes:
        return Run(tuple(answers))
    rows = {_text(row[0]): _text(row[1]) for row in answers[-2]}
    return Run(tuple(answers[skip:-2]), rows)


def _copied(connection: pq.abc.PGconn) -> Answer:
    lines: list[tuple[bytes | None, ...]] = []
    while True:
        size, data = connection.get_copy_data(0)
        if size <= 0:
            return tuple(lines)
        lines.append((bytes(data),))


def _text(value: bytes | None) -> str:
    return (value or b"").decode()


def difference(base: Run, run: Run, alone: World, world: World, *, ordered: bool) -> str:
    """What a run in `world` has that its base's, in `alone`, has not; empty if nothing."""
    return _answered(base, run, ordered=ordered) or _effect(
        base.rows or {}, run.rows or {}, alone, world
    )


def _answered(base: Run, run: Run, *, ordered: bool) -> str:
    """What differs in what came back."""
    if base.error or run.error:
        return "" if base.error == run.error else f"{base.error or 'ok'} / {run.message or 'ok'}"
    if len(base.answers) != len(run.answers):
        return "another number of results"
    for mine, theirs in zip(base.answers, run.answers, strict=True):
        if mine == theirs:
            continue
        less, more = Counter(mine) - Counter(theirs), Counter(theirs) - Counter(mine)
        if less or more:
            return f"without others {_some(less)}, with them {_some(more)}"
        if ordered:
            return "the same rows in another order"
    return ""


def _effect(base: dict[str, str], run: dict[str, str], alone: World, world: World) -> str:
    """Whether a write left others' rows alone, and did to the tenant's what it does there."""
    for table, text in run.items():
        if text == world.before[table] and base[table] == alone.before[table]:
            continue
        mine, others = _counted(base[table]) - alone.others[table], world.others[table]
        wanted, found = mine + others, _counted(text)
        if wanted != found:
            return f"{table}: expected {_some(wanted - found)}, found {_some(found - wanted)}"
    return ""


def _counted(text: str) -> Counter[str]:
    return Counter(text.split(SEPARATOR)) if text else Counter()


def _some(rows: Counter[Any]) -> str:
    shown = ", ".join(str(row) for row in list(rows)[:2])
    return f"{sum(rows.values())} row(s) {shown}"[:300]
