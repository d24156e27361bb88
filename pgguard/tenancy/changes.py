"""From the plan of a write to environments: section 5 of tenancy.md.

Laws: the row that is written is an occurrence whose columns equal what they are given; the row that
ON CONFLICT updates is another one, equal in the columns of the conflict; the target of MERGE is on
the nullable side as soon as a row that matches nothing has an effect, for then a match of another
tenant's row takes that effect away.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgguard.sql.plan.nodes import Column, Relation, Select, Value, Values
from pgguard.tenancy.occurrences import Item, Occurrence, Scope
from pgguard.tenancy.recursion import RecursiveWalker
from pgguard.tenancy.terms import STAR

if TYPE_CHECKING:
    from pgguard.sql.plan.nodes import Action, Conflicting, Expression, Query, Write
    from pgguard.tenancy.catalogue import Table
    from pgguard.tenancy.environment import Environment
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.occurrences import Tables
    from pgguard.tenancy.terms import Output


@dataclass(slots=True, eq=False)
class Given:
    """What a column of a written row gets."""

    value: Expression
    """None if it comes from a query."""
    term: int | None


@dataclass(slots=True, eq=False)
class Insertion:
    """Rows that are added."""

    row: Occurrence
    columns: dict[str, Given]
    listed: tuple[str, ...] | None
    """The column list as it was written."""
    drawn: bool
    """They come from the rows of a function."""
    overriding: bool = False
    conflict: Conflicting | None = None
    updated: Occurrence | None = None
    """The row that ON CONFLICT updates."""


@dataclass(slots=True, eq=False)
class Change:
    """Columns that are set; `proposed` is the row of ON CONFLICT that was to be inserted."""

    row: Occurrence
    columns: dict[str, Given] = field(default_factory=dict)
    proposed: Occurrence | None = None


class Builder(RecursiveWalker):
    """Reads any statement."""

    __slots__ = ("changes", "fulls", "insertions")

    def __init__(
        self,
        model: Model,
        *,
        hopeful: bool = False,
        variant: int = 0,
        users: frozenset[str] = frozenset(),
        nulls: frozenset[int] | None = None,
    ) -> None:
        super().__init__(model, hopeful=hopeful, variant=variant, users=users, nulls=nulls)
        self.insertions: list[Insertion] = []
        self.changes: list[Change] = []
        self.fulls: list[tuple[Environment, Environment, Environment]] = []

    def full(self, left: Environment, right: Environment, on: Environment) -> None:
        """Remember a FULL JOIN, whose condition says something once it is reduced."""
        self.fulls.append((left, right, on))

    def statement(self, plan: Query) -> None:
        """Read the whole."""
        env = self.child(None)
        if not hasattr(plan, "target"):
            self.query(plan, env, None, None, alone=True)
        else:
            self.write(plan, env, None, None)

    def of_table(self, plan: Query, table: Table) -> Occurrence:
        """Read the condition of a SELECT whose only source is taken for the table."""
        env = self.child(None)
        (source,) = plan.sources
        one = self.occurrence(table, source, env)
        names = [column.name for column in table.columns]
        item = Item(table.name, names, None, one)
        self.assume(plan.where, env, Scope([item], None, None))
        return one

    def write(
        self, write: Write, env: Environment, outer: Scope | None, tables: Tables | None
    ) -> list[Output]:
        """Returns what RETURNING gives."""
        tables = self.with_(write.common, outer, tables, recursive=write.recursive)
        scope = Scope([], outer, tables)
        saved = self.condition, self.several, self.outer_side
        self.condition, self.several = write.condition, bool(write.sources)
        self.outer_side = "MERGE" if write.kind == "merge" else ""
        item: Item | None
        if write.kind == "insert":
            # What a new row is made of says nothing of the rows that it is made from.
            source, env = env, self.child(env)
            item = self._insert(write, source, env, scope)
        elif write.kind == "merge":
            item = None
            self._merge(write, env, scope)
        else:
            item = self._change(write, env, scope)
        self.condition, self.several, self.outer_side = saved
        if item is not None:
            scope.items.insert(0, item)
        self.aside(write.queries, env, scope)
        self.written_in = env
        return self.outputs(write.returning, env, scope)

    def _target(
        self, target: Relation, env: Environment, use: str
    ) -> tuple[Occurrence | None, Item, dict[str, str]]:
        """The row that is written, what names it, and its columns by the names they have here."""
        table = self.find(target.name)
        if table is None:
            return None, Item(target.alias or target.name.name, None), {}
        if table.kind in {"v", "m"} and self.model.touches(table):
            return self._shown_by(table, target, env, use)
        one = self.occurrence(table, target, env, use)
        return one, self.item_of(one, target), {c.name: c.name for c in table.columns}

    def _shown_by(
        self, view: Table, target: Relation, env: Environment, use: str
    ) -> tuple[Occurrence | None, Item, dict[str, str]]:
        """The row that a simple view shows."""
        part = self.model.view(view)
        query = part.plan if part is not None else None
        simple = (
            isinstance(query, Select)
            and len(query.sources) == 1
            and isinstance(query.sources[0], Relation)
            and not (query.grouped or query.aggregated or query.limited or query.distinct)
            and not (query.windowed or query.common)
        )
        if not simple:
            self.give_up(f"{view.shown} is a view over tenant tables")
        count = len(self.occurrences)
        item = self.source(target, env, Scope([], None, None))[0]
        one = self.occurrences[count] if len(self.occurrences) > count else None
        if one is None:
            self.give_up(f"{view.shown} is a view over tenant tables")
        one.use = use
        columns = {}
        for name, term in (item.terms or {}).items():
            origin = self.origins[term] if term is not None else None
            if origin is not None and origin[0] is one:
                columns[name] = origin[1]
        return one, item, columns

    def _change(self, write: Write, env: Environment, scope: Scope) -> Item:
        """UPDATE and DELETE."""
        if write.cursor:
            self.give_up("it names a row by a cursor")
        one, item, columns = self._target(write.target, env, write.kind)
        for source in write.sources:
            scope.items += self.source(source, env, scope)
        inside = Scope([item, *scope.items], scope.outer, scope.tables)
        self.assume(write.where, env, inside)
        self._assign(one, columns, write.assigned, env, inside)
        return item

    def _assign(
        self,
        one: Occurrence | None,
        columns: dict[str, str],
        assigned: tuple[tuple[str, Expression], ...],
        env: Environment,
        scope: Scope,
        proposed: Occurrence | None = None,
    ) -> None:
        given = {
            columns.get(name, name): Given(value, self.value(value, env, scope))
            for name, value in assigned
        }
        if one is not None:
            self.changes.append(Change(one, given, proposed))

    def _insert(self, write: Write, origin: Environment, env: Environment, scope: Scope) -> Item:
        source = write.source
        outputs: list[Output] = []
        drawn = False
        values: tuple[Expression, ...] | None = None
        if isinstance(source, Values):
            values = source.columns
        if source is not None:
            outputs = self.query(source, origin, scope.outer, scope.tables, alone=True)
        if isinstance(source, Select):
            drawn = any(getattr(one, "given", False) for one in source.sources)
            if not any(target.star for target in source.targets):
                values = tuple(target.value for target in source.targets)
        if any(name == STAR for name, _ in outputs):
            self.give_up("the rows to insert come from SELECT * of something unknown")
        one, item, columns = self._target(write.target, env, "insert")
        if one is None:
            return item
        names = write.columns
        if names is None:
            names = tuple(column.name for column in one.table.columns)
            if one.inside:
                names = tuple(columns)
        given: dict[str, Given] = {}
        for place, (_, term) in enumerate(outputs[: len(names)]):
            name = columns.get(names[place], names[place])
            value = values[place] if values is not None and place < len(values) else None
            given[name] = Given(value, term)
            self._put(one, name, value, term, env)
        insertion = Insertion(one, given, write.columns, drawn, write.overriding)
        self.insertions.append(insertion)
        if write.conflict is not None:
            self._conflict(insertion, write, env, scope, columns)
        return item

    def _put(
        self, one: Occurrence, name: str, value: Expression, term: int | None, env: Environment
    ) -> None:
        """A column of the new row is what it is given."""
        if one.table.column(name) is None:
            return
        own = self.term(one, name)
        if term is not None:
            env.equal.append((own, term))
        elif isinstance(value, Value) and self.are_constant(value.constants):
            env.given.append((own, value.constants))

    def _conflict(
        self,
        insertion: Insertion,
        write: Write,
        env: Environment,
        scope: Scope,
        columns: dict[str, str],
    ) -> None:
        conflict = write.conflict
        assert conflict is not None
        new = insertion.row
        insertion.conflict = conflict
        inner = self.child(env)
        old = self.occurrence(new.table, write.target, inner, "update")
        old.inside, old.alias = new.inside, new.alias
        insertion.updated = old
        keys = conflict.columns
        for key in new.table.keys:
            if conflict.constraint and key.name == conflict.constraint:
                keys = key.columns
        for name in keys:
            name = columns.get(name, name)
            if new.table.column(name) is not None:
                inner.equal.append((self.term(old, name), self.term(new, name)))
        item = self.item_of(old, write.target)
        excluded = Item("excluded", [c.name for c in new.table.columns], None, new)
        inside = Scope([item, excluded], scope.outer, scope.tables)
        self.assume(conflict.where, inner, inside)
        self._assign(old, columns, conflict.assigned, inner, inside, new)

    def _merge(self, write: Write, env: Environment, scope: Scope) -> None:
        """MERGE: the source in `env`, the target inside or on the nullable side."""
        actions = [action for action in write.actions if action.kind]
        missing = any(action.when == "missing" for action in actions)
        for source in write.sources:
            scope.items += self.source(source, env, scope)
        inner = self.child(env) if missing else env
        kinds = {action.kind for action in actions if action.when == "matched"}
        use = "delete" if "delete" in kinds else "update" if kinds else "read"
        one, item, columns = self._target(write.target, inner, use)
        inside = Scope([item, *scope.items], scope.outer, scope.tables)
        self.assume(write.where, inner, inside)
        for action in actions:
            if action.when == "missing":
                self._add(action, write, env, scope)
                continue
            place, seen = self.child(inner), inside
            row, names = one, columns
            if action.when == "left_over":
                place = self.child(None)
                row, alone, names = self._target(write.target, place, action.kind)
                seen = Scope([alone], scope.outer, scope.tables)
            self.assume(action.condition, place, seen)
            self._assign(row, names, action.assigned, place, seen)

    def _add(self, action: Action, write: Write, env: Environment, scope: Scope) -> None:
        place = self.child(env)
        self.assume(action.condition, place, scope)
        one, _, columns = self._target(write.target, place, "insert")
        if one is None:
            return
        names = action.columns
        if names is None:
            names = tuple(column.name for column in one.table.columns)
        given: dict[str, Given] = {}
        for name, value in zip(names, action.values, strict=False):
            name = columns.get(name, name)
            term = self.value(value, place, scope) if not isinstance(value, Value) else None
            given[name] = Given(value, term)
            self._put(one, name, value, term, place)
        self.insertions.append(Insertion(one, given, action.columns, drawn=False))


__all__ = ["Builder", "Change", "Column", "Given", "Insertion"]
