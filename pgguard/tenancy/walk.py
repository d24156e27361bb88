"""From a plan to environments: every occurrence in the place where its rows matter (F4 to F9).

Laws: a query is read anew at each reference to it, with a bound on how often and how deep; what
gives nothing back is read in a child; a barrier lets constants out and nothing in; what is not
understood has no term. Nothing is solved here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgguard.sql.plan.combining import queries_of
from pgguard.sql.plan.nodes import (
    Absent,
    All,
    Among,
    Column,
    Either,
    Equal,
    Exists,
    Fallback,
    Hope,
    IfNull,
    Member,
    Never,
    Null,
    Row,
    Says,
    Scalar,
    Select,
    SetOperation,
    Value,
    Values,
    Write,
)
from pgguard.sql.statement import MAYBE, NULL
from pgguard.tenancy.functions import builtin, is_constant
from pgguard.tenancy.occurrences import Known, Scope, Tables
from pgguard.tenancy.sources import SourceWalker
from pgguard.tenancy.terms import STAR

if TYPE_CHECKING:
    from pgguard.sql.plan.nodes import Expression, Predicate, Query, Target
    from pgguard.tenancy.environment import Constants, Environment

Output = tuple[str, int | None]

MOST_QUERIES: Final = 400
MOST_DEPTH: Final = 40


class Walker(SourceWalker):
    """Reads queries and conditions."""

    __slots__ = ()

    def query(
        self,
        query: Query,
        env: Environment,
        outer: Scope | None,
        tables: Tables | None,
        *,
        alone: bool = False,
        unread: bool = False,
    ) -> list[Output]:
        """The result columns of a query; `alone` = nothing flows into it, `unread` = what windows
        make is not read."""
        self.queries += 1
        self.depth += 1
        if self.queries > MOST_QUERIES or self.depth > MOST_DEPTH:
            self.give_up("it has too many queries in queries to be proved")
        if isinstance(query, Select):
            outputs = self._select(query, env, outer, tables, alone=alone, unread=unread)
        elif isinstance(query, SetOperation):
            outputs = self._set_operation(query, env, outer, tables, alone=alone)
        elif isinstance(query, Values):
            outputs = self._values(query, env, outer, tables)
        elif isinstance(query, Write):
            self.give_up("a statement that writes stands where it was not expected")
            outputs = []
        else:
            outputs = []
        self.depth -= 1
        return outputs

    def aside(self, queries: tuple[Query, ...], env: Environment, scope: Scope) -> None:
        """Subqueries that may use what is known and give nothing back."""
        for query in queries:
            self.query(query, self.child(env), scope, scope.tables, alone=True)

    def _select(
        self,
        query: Select,
        env: Environment,
        outer: Scope | None,
        tables: Tables | None,
        *,
        alone: bool,
        unread: bool,
    ) -> list[Output]:
        tables = self.with_(query.common, outer, tables, recursive=query.recursive)
        windowed = query.windowed and not unread
        aggregated = query.aggregated or any(not builtin(n, self.model) for n in query.calls)
        total = query.sets or (aggregated and not query.grouped)
        barrier = total or query.limited or windowed or bool(query.distinct)
        inner = self.child(env) if barrier and not alone else env
        scope = Scope([], outer, tables)
        saved = self.condition, self.several, self.outer_side
        self.condition, self.several = query.condition, len(query.sources) > 1
        self.outer_side = ""
        for source in query.sources:
            scope.items += self.source(source, inner, scope)
        self.condition, self.several, self.outer_side = saved
        self.assume(query.where, inner, scope)
        if query.having != Says():
            self.assume(query.having, inner, scope)
        outputs = self.outputs(query.targets, inner, scope)
        self.aside(query.queries, inner, scope)
        if inner is env:
            return outputs
        passing: set[int] = set()
        if not query.limited and not total:
            passing = self._passing(query, scope, windowed=windowed)
        seen = self.through(outputs, inner, env, passing, nullable=query.sets)
        if query.sets and not (query.limited or windowed or query.distinct):
            # What is no aggregate is a group key, or NULL in a total.
            for (_, ours), (_, theirs) in zip(outputs, seen, strict=True):
                if ours is not None and theirs is not None and self.origins[ours] is not None:
                    inner.when_solid.append((theirs, ours))
        return seen

    def _passing(self, query: Select, scope: Scope, *, windowed: bool) -> set[int]:
        """The columns that filter whole windows, or whole groups of DISTINCT ON."""
        keys = [
            *(query.partitions if windowed else ()),
            *([query.distinct] if query.distinct else []),
        ]
        if windowed and not query.partitions:
            return set()
        sets = [
            {term for key in one if (term := self.column(key, scope)) is not None} for one in keys
        ]
        return set.intersection(*sets) if sets else set()

    def _values(
        self, query: Values, env: Environment, outer: Scope | None, tables: Tables | None
    ) -> list[Output]:
        tables = self.with_(query.common, outer, tables, recursive=query.recursive)
        scope = Scope([], outer, tables)
        self.aside(query.queries, env, scope)
        return [
            (f"column{place}", self.value(value, env, scope))
            for place, value in enumerate(query.columns, 1)
        ]

    def _set_operation(
        self,
        query: SetOperation,
        env: Environment,
        outer: Scope | None,
        tables: Tables | None,
        *,
        alone: bool,
    ) -> list[Output]:
        """Arms share what is known of an output; constants of all arms go out (F7)."""
        tables = self.with_(query.common, outer, tables, recursive=query.recursive)
        inner = self.child(env) if query.limited and not alone else env
        arms = [self.child(inner) for _ in query.arms]
        columns = [
            self.query(arm, place, outer, tables)
            for arm, place in zip(query.arms, arms, strict=True)
        ]
        width = common_width(columns)
        outputs: list[Output] = [] if width else [(STAR, None)]
        for number in range(width):
            term = self.fresh(inner)
            outputs.append((columns[0][number][0], term))
            for place, one in zip(arms, columns, strict=True):
                theirs = one[number][1]
                if theirs is not None:
                    place.equal.append((term, theirs))
        # Of EXCEPT every result row is one of the first arm.
        telling = arms[:1] if query.operator == "except" else arms
        inner.choices.append(telling)
        self.aside(query.queries, inner, Scope([], outer, tables))
        if inner is env:
            return outputs
        return self.through(outputs, inner, env, set(), nullable=False)

    def outputs(self, targets: tuple[Target, ...], env: Environment, scope: Scope) -> list[Output]:
        """The result columns, stars resolved."""
        found: list[Output] = []
        for target in targets:
            if target.star:
                found += self.star(target.value.names, scope)
            else:
                found.append((target.name, self.value(target.value, env, scope)))
        return found

    def value(self, item: Expression, env: Environment, scope: Scope) -> int | None:
        """The term that an expression is."""
        if isinstance(item, Column):
            return self.column(item, scope)
        if isinstance(item, Value):
            if not self.are_constant(item.constants):
                return None
            term = self.fresh(env)
            env.given.append((term, item.constants))
            return term
        if isinstance(item, Scalar):
            if item.query is None:
                return None
            inner = self.child(env)
            outputs = self.query(item.query, inner, scope, scope.tables, alone=True)
            if len(outputs) != 1:
                return None
            return self.through(outputs, inner, env, set(), nullable=True)[0][1]
        if isinstance(item, Fallback):
            terms = [self.value(one, env, scope) for one in item.items]
            if len(terms) == 2 and None not in terms:
                return self.whole.get(frozenset(term for term in terms if term is not None))
            return None
        self.aside(queries_of(item), env, scope)
        return None

    def are_constant(self, constants: Constants) -> bool:
        return all(is_constant(one, self.model) for one in constants)

    def assume(self, said: Predicate, env: Environment, scope: Scope) -> None:
        """What holds where the predicate is TRUE."""
        kind = type(said)
        if kind is Equal:
            self._equal(said, env, scope)
        elif kind is All:
            for item in said.items:
                self.assume(item, env, scope)
        elif kind is Among:
            self._among(said.left, said.constants, env, scope)
        elif kind is Says:
            for column in said.strict:
                self._strict(column, env, scope)
            self.aside(said.queries, env, scope)
        elif kind is Either:
            branches = []
            for item in said.items:
                branch = self.child(env)
                self.assume(item, branch, scope)
                branches.append(branch)
            env.choices.append(branches)
        elif kind is Null:
            term = self.column(said.item, scope)
            if term is not None:
                env.given.append((term, frozenset({NULL})))
        elif kind is Exists:
            self.query(said.query, env, scope, scope.tables)
        elif kind is Member:
            self._member(said, env, scope)
        elif kind is Absent:
            self._absent(said, env, scope)
        elif kind is Hope:
            if self.hopeful:
                env.conditional = env.conditional or said.conditional
                self.assume(said.held, env, scope)
        elif kind is IfNull:
            if self.nulls is not None:
                known = said.absent if said.parameter in self.nulls else said.present
                self.assume(known, env, scope)
            elif self.hopeful:
                self.assume(said.present, env, scope)
        elif kind is Never:
            env.impossible = True

    def _equal(self, said: Equal, env: Environment, scope: Scope) -> None:
        for one, other in ((said.left, said.right), (said.right, said.left)):
            if isinstance(other, Value):
                values = other.constants
                sure = all(value.kind in {"literal", "null"} for value in values)
                if said.null_safe and not sure:
                    values = values | {MAYBE}
                self._among(one, values, env, scope, strict=not said.null_safe)
                return
        left, right = said.left, said.right
        for one, other in ((left, right), (right, left)):
            if isinstance(one, Row) and isinstance(other, Scalar):
                self._row_of(one, other, env, scope, null_safe=said.null_safe)
                return
        first, second = self.value(left, env, scope), self.value(right, env, scope)
        if not said.null_safe:
            for item, term in ((left, first), (right, second)):
                if term is not None:
                    env.strict.append(term)
                self._strict_of(item, env, scope)
        if first is not None and second is not None and first != second:
            env.equal.append((first, second))

    def _row_of(
        self, row: Row, other: Scalar, env: Environment, scope: Scope, *, null_safe: bool
    ) -> None:
        inner = self.child(env)
        outputs = self.query(other.query, inner, scope, scope.tables, alone=True)
        outside = self.through(outputs, inner, env, set(), nullable=True)
        if len(outside) == len(row.items):
            for item, (_, theirs) in zip(row.items, outside, strict=True):
                self._tie(self.value(item, env, scope), theirs, env, strict=not null_safe)

    def _tie(
        self, one: int | None, other: int | None, env: Environment, *, strict: bool = True
    ) -> None:
        if strict:
            env.strict += [term for term in (one, other) if term is not None]
        if one is not None and other is not None and one != other:
            env.equal.append((one, other))

    def _among(
        self,
        left: Expression,
        constants: Constants,
        env: Environment,
        scope: Scope,
        *,
        strict: bool = True,
    ) -> None:
        term = self.value(left, env, scope) if not isinstance(left, Value) else None
        strict = strict and NULL not in constants
        if strict:
            self._strict_of(left, env, scope)
        if term is None:
            return
        if strict:
            env.strict.append(term)
        if self.are_constant(constants):
            env.given.append((term, constants))
        else:
            self.drawn.add(term)

    def _strict_of(self, item: Expression, env: Environment, scope: Scope) -> None:
        for column in getattr(item, "strict", ()):
            self._strict(column, env, scope)

    def _strict(self, column: Column, env: Environment, scope: Scope) -> None:
        term = self.column(column, scope, any_cast=True)
        if term is not None:
            env.strict.append(term)

    def _member(self, said: Member, env: Environment, scope: Scope) -> None:
        outputs = self.query(said.query, env, scope, scope.tables)
        items = said.left.items if isinstance(said.left, Row) else (said.left,)
        if len(items) != len(outputs):
            return
        for item, (_, theirs) in zip(items, outputs, strict=True):
            if isinstance(item, Value) and theirs is not None:
                if self.are_constant(item.constants):
                    env.given.append((theirs, item.constants))
                env.strict.append(theirs)
            else:
                self._tie(self.column(item, scope), theirs, env)
                self._strict_of(item, env, scope)

    def _absent(self, said: Absent, env: Environment, scope: Scope) -> None:
        inner = self.child(env)
        outputs = self.query(said.query, inner, scope, scope.tables)
        items = said.left.items if isinstance(said.left, Row) else (said.left,)
        if len(items) != len(outputs):
            return
        for item, (_, theirs) in zip(items, outputs, strict=True):
            if theirs is None:
                continue
            ours = self.column(item, scope)
            if isinstance(item, Value) and all(one.kind == "literal" for one in item.constants):
                ours = self.fresh(inner)
                inner.given.append((ours, item.constants))
                inner.strict.append(ours)
            if ours is not None:
                inner.unless_null.append((ours, theirs))

    def with_(
        self,
        common: tuple[object, ...],
        outer: Scope | None,
        tables: Tables | None,
        *,
        recursive: bool,
    ) -> Tables | None:
        """What names mean behind a WITH; its writes are read here."""
        if not common:
            return tables
        names: dict[str, Known] = {}
        whole = Tables(names, tables)
        for entry in common:
            sees = whole if recursive else Tables(dict(names), tables)
            known = Known(entry, outer, sees, recursive)  # type: ignore[arg-type]
            names.setdefault(entry.name, known)  # type: ignore[attr-defined]
            if isinstance(entry.query, Write):  # type: ignore[attr-defined]
                env = self.child(None)
                returned = self.write(entry.query, env, outer, sees)  # type: ignore[attr-defined]
                known.returned = self.written_in, returned
        return whole


def common_width(columns: list[list[Output]]) -> int:
    """How many columns all arms are known to have; 0 if that cannot be told."""
    if any(name == STAR for one in columns for name, _ in one):
        return 0
    return min(len(one) for one in columns)
