"""Common table expressions that read themselves: F8 of tenancy.md.

    base        the rows to begin with
    step        what one round adds, from the rows of the round before (`work`)

Laws: a column that every round carries along is what it was in the base, so that facts pass both
ways; of another one only what base and step have in common goes out; working rows that are rows of
one table count as an occurrence of it, of the base's level, which every round keeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.sql.plan.nodes import SetOperation
from pgguard.tenancy.occurrences import Carried, Item, Known, Occurrence, Recursion, Scope
from pgguard.tenancy.walk import Walker, common_width

if TYPE_CHECKING:
    from pgguard.tenancy.environment import Environment
    from pgguard.tenancy.terms import Output


class RecursiveWalker(Walker):
    """Reads recursive queries."""

    __slots__ = ()

    def recursive(self, known: Known, env: Environment) -> list[Output]:
        """A common table expression that reads itself (F8)."""
        query = known.common.query
        assert isinstance(query, SetOperation)
        tables = self.with_(query.common, known.outer, known.sees, recursive=query.recursive)
        *bases, last = query.arms
        outer = known.outer
        inner = self.child(env) if query.limited else env
        places = [self.child(inner) for _ in bases]
        columns = [
            self.query(arm, place, outer, tables) for arm, place in zip(bases, places, strict=True)
        ]
        width = common_width(columns)
        names = [name for name, _ in columns[0][:width]]
        names[: len(known.common.columns)] = known.common.columns[:width]
        step = self.child(inner)
        work = {name: self.fresh(step) for name in names}
        known.work = Item(known.common.name, names, dict(work))
        added = self.query(last, step, outer, tables)
        known.work = None
        outputs: list[Output] = []
        carried = Recursion(inner, places, step)
        for number, name in enumerate(names):
            term = self.fresh(inner)
            outputs.append((name, term))
            last_term = added[number][1] if number < len(added) else None
            carried.columns.append(
                Carried(term, [one[number][1] for one in columns], last_term, work[name])
            )
        self.recursions.append(carried)
        self.working_rows(carried)
        inner.choices.append(places)
        self.aside(query.queries, inner, Scope([], outer, tables))
        if inner is env:
            return outputs
        return self.through(outputs, inner, env, set(), nullable=False)

    def working_rows(self, recursion: Recursion) -> None:
        """The rows that a recursive query adds to, if they are rows of one table."""
        twins: dict[Occurrence, Occurrence] = {}
        for column in list(recursion.columns):
            starts = [self.origins[term] for term in column.bases if term is not None]
            added = self.origins[column.added] if column.added is not None else None
            if not starts or len(starts) != len(column.bases) or added is None:
                continue
            first = starts[0]
            if first is None or not first[1] or not added[1]:
                continue
            tables = {(o[0].table.key, o[1]) for o in starts if o} | {
                (added[0].table.key, added[1])
            }
            if len(tables) != 1:
                continue
            base, name = first
            one = twins.get(base)
            if one is None:
                one = Occurrence(base.table, base.role, base.alias, recursion.step, base=base)
                twins[base] = one
                self.occurrences.append(one)
                one.tenant = [self.fresh(recursion.step, (one, "")) for _ in base.tenant]
                self._carry_tenant(recursion, one, [o[0] for o in starts if o], added[0])
            one.terms[name] = column.work
            self.origins[column.work] = (one, name)
            if base.role is not None and name in base.role.columns and base.role.kind != "owned":
                one.tenant[base.role.columns.index(name)] = column.work

    def _carry_tenant(
        self, recursion: Recursion, work: Occurrence, bases: list[Occurrence], added: Occurrence
    ) -> None:
        """The tenant is carried along even if it is no column of the result."""
        for place, term in enumerate(work.tenant):
            if any(len(one.tenant) <= place for one in (*bases, added)):
                continue
            output = self.fresh(recursion.inner)
            starts: list[int | None] = [one.tenant[place] for one in bases]
            recursion.columns.append(Carried(output, starts, added.tenant[place], term))
