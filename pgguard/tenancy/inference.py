"""What follows from the facts: rounds over the environments to a fixed point, and I1 to I4.

    I1  owned.key = owner.id          the owned row's tenant is the owner's
    I2  a unique key of the root      the tenant is resolved
    I3  equal on a unique key         one row
    I4  child.x = parent.id behind a foreign key (tenant, x) -> (tenant, id): one tenant

Laws: a round solves parents before children and lets children tell their parents after; facts are
only added, so stopping early is sound; what outer joins are reduced to follows from what is known
not to be NULL, whatever it is known from (F4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgguard.sql.facts.environment import narrower
from pgguard.sql.statement import MAYBE, NULL, Constant
from pgguard.tenancy.environment import alternatives, learn

if TYPE_CHECKING:
    from pgguard.tenancy.catalogue import Table, TableName
    from pgguard.tenancy.changes import Builder
    from pgguard.tenancy.environment import Constants, Environment
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.occurrences import Occurrence, Recursion

MOST_ROUNDS: Final = 12
MOST_STEPS: Final = 4000
"""Occurrences that are compared, over all environments and rounds: what is left out proves less."""

Signature = tuple[object, ...]


class Solver:
    """Solves what a builder has read."""

    __slots__ = ("built", "left", "model", "own", "pairs")

    def __init__(self, built: Builder) -> None:
        self.built = built
        self.model: Model = built.model
        self.left = MOST_STEPS
        self.own: dict[int, list[Occurrence]] = {}
        """By environment: the occurrences that stand there."""
        self.pairs = sum([one.role is not None for one in built.occurrences]) > 1

    def solve(self) -> None:
        """To the fixed point, or as far as `MOST_ROUNDS` lead."""
        for _ in range(MOST_ROUNDS):
            self._place()
            for env in self.built.environments:
                if env.merged_into is None:
                    env.reset()
                    env.absorb()
                    self._infer(env)
            if not self._tell():
                return
        self._place()

    def _place(self) -> None:
        for env in self.built.environments:
            env.line = None
        for env in self.built.environments:
            env.line = env.chain()
        self.own = {}
        for one in self.built.occurrences:
            self.own.setdefault(one.env.place().number, []).append(one)

    def visible(self, env: Environment) -> list[Occurrence]:
        """The occurrences whose columns mean something there."""
        return [one for place in env.chain() for one in self.own.get(place.number, ())]

    def _infer(self, env: Environment) -> None:
        own = self.own.get(env.number, ())
        for one in own:
            if one.role is not None and one.role.kind == "root":
                self._resolve(one, env)
        if not self.pairs or not (own or env.equal or env.given):
            return
        seen = self.visible(env)
        if sum([one.role is not None for one in seen]) < 2:
            return
        for _ in range(MOST_ROUNDS):
            self.left -= len(seen)
            if self.left < 0:
                return
            changed = self._same_rows(seen, env)
            changed = self._owners(seen, env) or changed
            changed = self._composite(seen, env) or changed
            if not changed:
                return

    def _resolve(self, one: Occurrence, env: Environment) -> None:
        """I2."""
        if one.use == "insert" or not is_whole(one.table, self.model) or len(one.tenant) != 1:
            return
        for key in one.table.keys:
            given = [self.values(one, column, env) for column in key.columns]
            if all(values is not None and is_single(values) for values in given):
                if key.columns == one.role.columns if one.role else True:
                    continue
                words = [str(sorted(values or ())) for values in given]
                value = ", ".join(key.columns) + "\0" + "\0".join(words)
                if env.constants(one.tenant[0]) is None:
                    env.give(one.tenant[0], frozenset({Constant("resolved", value)}))

    def values(self, one: Occurrence, column: str, env: Environment) -> Constants | None:
        """The constants of a column, unless it may be NULL."""
        term = one.terms.get(column)
        if term is None:
            return None
        held = env.constants(term)
        if held is None:
            return None
        declared = one.table.column(column)
        if declared is not None and declared.not_null and one.base is None:
            return held - {NULL, MAYBE} or None
        return None if NULL in held or MAYBE in held else held

    def is_sure(self, one: Occurrence, column: str, env: Environment) -> bool:
        """Whether the column's value is not NULL."""
        declared = one.table.column(column)
        if one.base is None and declared is not None and declared.not_null:
            return True
        return env.is_solid(one.terms[column]) or self.values(one, column, env) is not None

    def signature(
        self,
        one: Occurrence,
        columns: tuple[str, ...],
        target: TableName,
        named: tuple[str, ...],
        env: Environment,
    ) -> Signature | None:
        """What tells which row of the target its columns name."""
        found: list[object] = [target, named]
        for column in columns:
            term = one.terms.get(column)
            if term is None:
                return None
            found.append(env.find(term))
        return tuple(found)

    def _same_rows(self, seen: list[Occurrence], env: Environment) -> bool:
        """I3."""
        changed = False
        first: dict[Signature, list[Occurrence]] = {}
        for one in seen:
            if one.use == "insert" or not is_whole(one.table, self.model):
                continue
            for key in one.table.keys:
                sign = self.signature(one, key.columns, one.table.key, key.columns, env)
                if sign is None:
                    continue
                others = first.setdefault(sign, [])
                for other in others[:4]:
                    if self._are_sure(one, other, key.columns, env):
                        changed = self._unite(one, other, env) or changed
                others.append(one)
        return changed

    def _are_sure(
        self, one: Occurrence, other: Occurrence, columns: tuple[str, ...], env: Environment
    ) -> bool:
        return all(
            self.is_sure(one, column, env) or self.is_sure(other, column, env) for column in columns
        )

    def _unite(self, one: Occurrence, other: Occurrence, env: Environment) -> bool:
        changed = False
        for column in list(one.terms):
            if column in other.terms:
                changed = env.merge(one.terms[column], other.terms[column]) or changed
        for ours, theirs in zip(one.tenant, other.tenant, strict=False):
            changed = env.merge(ours, theirs) or changed
        return changed

    def _owners(self, seen: list[Occurrence], env: Environment) -> bool:
        """I1."""
        changed = False
        tenants: dict[Signature, int] = {}
        waiting: list[tuple[Signature, int]] = []
        for one in seen:
            if one.role is None:
                continue
            if one.role.kind == "owned":
                for foreign, term in zip(one.role.owners, one.tenant, strict=False):
                    sign = self.signature(
                        one, foreign.columns, foreign.target, foreign.target_columns, env
                    )
                    if sign is not None and all(
                        self.is_sure(one, column, env) for column in foreign.columns
                    ):
                        waiting.append((sign, term))
            if len(one.tenant) == 1 and one.use != "insert":
                for target, columns in self.model.referenced(one.table):
                    sign = self.signature(one, columns, target, columns, env)
                    if sign is not None:
                        tenants.setdefault(sign, one.tenant[0])
        for sign, term in waiting:
            changed = env.merge(tenants.setdefault(sign, term), term) or changed
        return changed

    def _composite(self, seen: list[Occurrence], env: Environment) -> bool:
        """I4."""
        changed = False
        parents: dict[Signature, Occurrence] = {}
        for one in seen:
            if one.role is not None and len(one.tenant) == 1 and is_whole(one.table, self.model):
                for key in one.table.keys:
                    sign = self.signature(one, key.columns, one.table.key, (), env)
                    if sign is not None:
                        parents.setdefault((*sign, key.columns), one)
        for one in seen:
            role = one.role
            if role is None or role.kind != "direct" or len(role.columns) != 1:
                continue
            for foreign, rest, named in self.model.composite(one.table, role.columns[0]):
                sign = self.signature(one, rest, foreign.target, (), env)
                parent = parents.get((*sign, named)) if sign is not None else None
                if parent is None or parent is one:
                    continue
                if all(
                    self.is_sure(one, ours, env) or self.is_sure(parent, theirs, env)
                    for ours, theirs in zip(rest, named, strict=True)
                ):
                    changed = env.merge(one.tenant[0], parent.tenant[0]) or changed
        return changed

    def _tell(self) -> bool:
        """Let parents learn from children; whether anything was new."""
        new = False
        for env in reversed(self.built.environments):
            if env.merged_into is not None:
                continue
            for branches in env.choices:
                new = self._choose(env, branches) or new
            new = self._out(env) or new
            for pair in list(env.unless_null):
                if all(self._never_null(term, env) for term in pair):
                    env.unless_null.remove(pair)
                    env.equal.append(pair)
                    new = True
            for pair in list(env.when_solid):
                if env.is_solid(pair[0]):
                    env.when_solid.remove(pair)
                    env.equal.append(pair)
                    new = True
        for recursion in self.built.recursions:
            new = self._recur(recursion) or new
        for left, right, on in self.built.fulls:
            if on.merged_into is None and left.merged_into is not None:
                on.dissolve(right.place())
                new = True
            elif on.merged_into is None and right.merged_into is not None:
                on.dissolve(left.place())
                new = True
        return new

    def _never_null(self, term: int, env: Environment) -> bool:
        if env.is_solid(term):
            return True
        origin = self.built.origins[term]
        if origin is None or not origin[1]:
            held = env.constants(term)
            return held is not None and all(one.kind == "literal" for one in held)
        one, column = origin
        declared = one.table.column(column)
        return one.base is None and declared is not None and declared.not_null

    def _choose(self, env: Environment, branches: list[Environment]) -> bool:
        live = alternatives(branches, hopeful=self.built.hopeful)
        if live is None:
            new = not env.impossible
            env.impossible = True
            return new
        inside = {place.number for place in env.chain()}
        homes = self.built.homes
        touched = [term for term in _touched(live[0]) if homes[term].place().number in inside]
        if not touched:
            return False
        marks = _Marks(env)
        return learn(marks, live, touched)

    def _out(self, env: Environment) -> bool:
        new = False
        if not env.links:
            return False
        marks = _Marks(env)
        for link in list(env.links):
            source = link.source.place()
            if link.join and any(env.is_solid(term) for term in link.pairs.values()):
                env.links.remove(link)
                if source is not env:
                    source.dissolve(env)
                env.equal += [pair for pair in link.pairs.items() if pair[0] != pair[1]]
                new = True
                continue
            outside = self._outside_terms(link.source, env)
            for theirs, twin, held, solid, root in link.facts():
                if twin != theirs:
                    new = marks.merge(twin, theirs) or new
                if held is not None:
                    new = marks.give(theirs, held) or new
                if solid:
                    new = marks.harden(theirs) or new
                if not link.nullable and root in outside:
                    new = marks.merge(outside[root], theirs) or new
        return new

    def _outside_terms(self, source: Environment, env: Environment) -> dict[int, int]:
        """Classes of a child that hold a term of its parent."""
        inside = {place.number for place in env.chain()}
        homes = self.built.homes
        return {
            source.find(term): term
            for pair in source.place().equal
            for term in pair
            if homes[term].place().number in inside
        }

    def _recur(self, recursion: Recursion) -> bool:
        new = False
        step, inner = recursion.step, recursion.inner
        for column in recursion.columns:
            if column.done or column.added is None or None in column.bases:
                continue
            bases = [term for term in column.bases if term is not None]
            if step.find(column.added) == step.find(column.work):
                column.done = True
                for env, term in zip(recursion.bases, bases, strict=True):
                    env.equal.append((column.output, term))
                step.equal.append((column.work, column.output))
                new = True
                continue
            held = [env.constants(term) for env, term in zip(recursion.bases, bases, strict=True)]
            held.append(step.constants(column.added))
            if all(one is not None for one in held):
                together = frozenset[Constant]().union(*[one for one in held if one is not None])
                new = _Marks(inner.place()).give(column.output, together) or new
                new = _Marks(step.place()).give(column.work, together) or new
        return new


class _Marks:
    """Facts that are added to an environment for good, if they say more than it knows."""

    __slots__ = ("env",)

    def __init__(self, env: Environment) -> None:
        self.env = env

    def merge(self, one: int, other: int) -> bool:
        new = self.env.merge(one, other)
        if new:
            self.env.equal.append((one, other))
        return new

    def give(self, term: int, constants: Constants) -> bool:
        env = self.env
        if env.is_solid(term):
            constants = constants - {NULL, MAYBE}
        before = env.constants(term)
        if narrower(before, constants) == before:
            return False
        env.give(term, constants)
        env.given.append((term, constants))
        return True

    def harden(self, term: int) -> bool:
        new = self.env.harden(term)
        if new:
            self.env.strict.append(term)
        return new


def _touched(env: Environment) -> list[int]:
    """The terms that a branch says something of."""
    found: dict[int, None] = {}
    stack = [env]
    while stack:
        one = stack.pop()
        found |= dict.fromkeys(term for pair in one.equal for term in pair)
        found |= dict.fromkeys(term for term, _ in one.given)
        found |= dict.fromkeys(one.strict)
        stack += [branch for branches in one.choices for branch in branches]
    return list(found)


def is_whole(table: Table, model: Model) -> bool:
    """Whether the keys hold for all rows: those of an inheritance parent do not."""
    return table.kind == "p" or not model.below(table)


def is_single(values: Constants) -> bool:
    return len(values) == 1 and not any(value.kind in {"array", "more"} for value in values)
