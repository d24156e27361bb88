"""The level of every occurrence: section 4 of tenancy.md.

    scoped      the tenant has a constant
    scoped_fk   foreign-key equalities lead to an occurrence that is scoped
    by_id       a key has a constant, or the occurrence hangs on one whose key has
    unscoped    otherwise

Laws: an occurrence is raised only by what holds in its own environment; one behind a barrier or an
outer join counts outside with its own level; levels only rise, until nothing changes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgguard.findings import Verdict
from pgguard.sql.statement import MAYBE, NULL, KeyValue
from pgguard.tenancy.values import differ, show

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pgguard.sql.statement import Constant
    from pgguard.tenancy.catalogue import Column
    from pgguard.tenancy.environment import Constants, Environment
    from pgguard.tenancy.inference import Solver
    from pgguard.tenancy.occurrences import Occurrence

NOT_FIXED = "the condition does not fix "


@dataclass(slots=True, eq=False)
class Bond:
    """Occurrences that hang together in one environment."""

    members: list[Occurrence]
    env: Environment
    by: str
    """`key` or `tenant`."""


class Leveller:
    """Gives every occurrence its level."""

    __slots__ = ("bonds", "by_value", "choices", "inside", "model", "solver")

    def __init__(self, solver: Solver) -> None:
        self.solver = solver
        self.model = solver.model
        self.by_value = False
        """Literals were compared."""
        self.bonds: list[Bond] = []
        self.choices: list[tuple[Environment, list[Environment]]] = []
        self.inside: dict[tuple[int, int], Verdict] = {}
        """Levels that occurrences have in other environments than their own."""

    def judge(self) -> None:
        """Sets level, reason and cure of every occurrence of a tenant table."""
        judged = [
            one
            for one in self.solver.built.occurrences
            if one.base is None and one.role is not None
        ]
        for one in judged:
            self.alone(one)
        waiting = [one for one in judged if one.level > Verdict.scoped and not one.settled]
        if waiting and len(judged) > 1:
            self._bind(waiting)
            self._raise(waiting)

    def set(
        self, one: Occurrence, level: Verdict, why: str, cure: str = "", *, ambiguous: bool = False
    ) -> None:
        one.level, one.why, one.cure, one.ambiguous = level, why, cure, ambiguous
        one.settled = one.settled or ambiguous

    def alone(self, one: Occurrence) -> None:
        """What its own columns say."""
        env, role = one.env.place(), one.role
        assert role is not None
        if env.is_false():
            self.set(one, Verdict.scoped, "no row can satisfy its condition")
            return
        held = [env.constants(term) for term in one.tenant]
        if held and all(values is not None for values in held):
            self._tied(one, held)
        elif role.kind != "owned" and any(values is not None for values in held):
            names = ", ".join(role.columns)
            why = f"which of {names} is the tenant is ambiguous"
            self.set(one, Verdict.unknown, why, ambiguous=True)
        elif one.use == "insert":
            self.set(one, Verdict.unscoped, "its tenant is not given as a constant", "insert")
            if role.kind == "owned":
                self._by_foreign_key(one, env)
        else:
            self._by_key(one, env)

    def _tied(self, one: Occurrence, held: list[Constants | None]) -> None:
        """Every tenant term has constants."""
        one.settled = True
        role = one.role
        assert role is not None
        names = role.columns if role.kind != "owned" else ("its owner",)
        for name, values in zip(names, held, strict=False):
            values = values or frozenset()
            if self.differ(values, one.table.column(name)):
                self.set(one, Verdict.cross_tenant, f"{name} may be several tenants")
                return
            changes = role.shared and one.use in {"update", "delete"}
            if changes and NULL in values:
                why = "it changes rows without a tenant, which all tenants see"
                self.set(one, Verdict.unscoped, why, "condition")
                return
            if changes and MAYBE in values:
                why = f"if {name} is NULL, it changes rows that all tenants see"
                self.set(one, Verdict.unknown, why, "condition")
                return
        values = held[0] or frozenset()
        one.values = values
        resolved = next((v for v in values if v.kind == "resolved"), None)
        if role.kind == "root" and resolved is not None:
            keys = resolved.value.partition("\0")[0]
            self.set(one, Verdict.scoped, f"{keys} names one tenant")
        elif role.kind == "owned":
            target = role.owners[0].target[1]
            self.set(one, Verdict.scoped, f"the tenant of its {target} is {show(values)}")
        else:
            self.set(one, Verdict.scoped, f"{role.columns[0]} is {show(values)}")

    def _by_key(self, one: Occurrence, env: Environment) -> None:
        """No tenant: perhaps a key or a foreign key to a tenant table is given."""
        role = one.role
        assert role is not None
        for key in one.table.keys:
            if set(key.columns) & set(role.columns) and role.kind != "owned":
                continue
            given = [self.solver.values(one, column, env) for column in key.columns]
            if all(given):
                names = ", ".join(key.columns)
                self.set(one, Verdict.by_id, f"only {names} chooses the row", "condition")
                one.key = self._key(one, one.table.key, key.columns, key.columns, given)
                return
        if not self._by_foreign_key(one, env):
            self.set(one, Verdict.unscoped, self._missing(one, env), "condition")

    def _by_foreign_key(self, one: Occurrence, env: Environment) -> bool:
        for foreign in one.table.foreign_keys:
            if foreign.target not in self.model.roles:
                continue
            given = [self.solver.values(one, column, env) for column in foreign.columns]
            if all(given):
                names, target = ", ".join(foreign.columns), foreign.target[1]
                why = f"only {names} chooses the rows, by their {target}"
                cure = "condition"
                if one.use == "insert":
                    why, cure = f"only {names} says whose row it becomes", "insert"
                self.set(one, Verdict.by_id, why, cure)
                one.key = self._key(
                    one, foreign.target, foreign.columns, foreign.target_columns, given
                )
                return True
        return False

    def _key(
        self,
        one: Occurrence,
        target: tuple[str, str],
        columns: tuple[str, ...],
        named: tuple[str, ...],
        given: list[Constants | None],
    ) -> KeyValue:
        declared = [one.table.column(column) for column in columns]
        types = tuple(column.type if column else "" for column in declared)
        use = one.use if target == one.table.key else "read"
        return KeyValue(target, named, tuple(v or frozenset() for v in given), types, -1, use)

    def _missing(self, one: Occurrence, env: Environment) -> str:
        role = one.role
        assert role is not None
        if role.kind == "owned":
            names = " nor ".join(role.columns) or "the owner's key"
            return f"nothing says whose rows: neither {names} nor a key is given"
        names = " or ".join(role.columns) or "the tenant's key"
        drawn = {env.find(term) for term in self.solver.built.drawn}
        if any(env.find(term) in drawn for term in one.tenant):
            return f"{names} is compared with something that may change from row to row"
        if one.outer:
            return f"the condition of {one.outer} does not fix {names}"
        if not one.condition and not one.named:
            return f"there is no condition on {names}"
        return NOT_FIXED + names

    def _bind(self, waiting: list[Occurrence]) -> None:
        """Find what hangs together, in each environment that may raise somebody who waits."""
        homes = {one.env.place().number: one.env.place() for one in waiting}
        places = list(homes.values())
        for env in places:
            for branches in env.choices:
                live = [branch.place() for branch in branches if not branch.false]
                self.choices.append((env, live))
                places += [one for one in live if one not in places]
        for env in places:
            for by, members in self._groups(env):
                self.bonds.append(Bond(members, env, by))

    def _groups(self, env: Environment) -> Iterator[tuple[str, list[Occurrence]]]:
        solver = self.solver
        groups: dict[object, list[Occurrence]] = {}
        for one in solver.visible(env):
            if one.role is None:
                continue
            if len(one.tenant) == 1:
                groups.setdefault(env.find(one.tenant[0]), []).append(one)
            signs = [
                (foreign.columns, foreign.target, foreign.target_columns)
                for foreign in one.table.foreign_keys
                if foreign.target in self.model.roles
            ]
            if one.use != "insert":
                signs += [(c, target, c) for target, c in self.model.referenced(one.table)]
            for columns, target, named in signs:
                sign = solver.signature(one, columns, target, named, env)
                if sign is not None and all(solver.is_sure(one, c, env) for c in columns):
                    groups.setdefault(sign, []).append(one)
        for shared, members in groups.items():
            if len(members) > 1:
                yield "key" if isinstance(shared, tuple) else "tenant", members

    def _level_in(self, one: Occurrence, env: Environment) -> Verdict:
        """The level that an occurrence has where more may be known of it than at home."""
        level = one.real().level
        if one.env.place() is env:
            return level
        key = env.number, id(one)
        known = self.inside.get(key)
        if known is None:
            known = self.inside[key] = self._direct(one, env)
        return min(known, level)

    def _direct(self, one: Occurrence, env: Environment) -> Verdict:
        held = [env.constants(term) for term in one.tenant]
        if held and all(values is not None for values in held):
            return Verdict.scoped
        for key in one.table.keys:
            if all(self.solver.values(one, column, env) for column in key.columns):
                return Verdict.by_id
        return Verdict.unscoped

    def _raise(self, waiting: list[Occurrence]) -> None:
        for _ in range(len(waiting) + 1):
            changed = False
            for bond in self.bonds:
                changed = self._pull(bond) or changed
            for env, live in reversed(self.choices):
                for one in waiting:
                    changed = self._in_each(one, env, live) or changed
            if not changed:
                return

    def _pull(self, bond: Bond) -> bool:
        """Raise who hangs on a better one."""
        env = bond.env
        sources = [one for one in bond.members if one.use != "insert"]
        if not sources:
            return False
        best = min(sources, key=lambda one: self._level_in(one, env))
        level = self._level_in(best, env)
        if level >= Verdict.unknown:
            return False
        changed = False
        for one in bond.members:
            if one is best or one.base is not None:
                continue
            if one.env.place() is env:
                changed = self._hang(one, best.real(), level, bond.by) or changed
            elif max(level, Verdict.scoped_fk) < self._level_in(one, env):
                self.inside[env.number, id(one)] = max(level, Verdict.scoped_fk)
                changed = True
        return changed

    def _in_each(self, one: Occurrence, env: Environment, live: list[Environment]) -> bool:
        """Raise who hangs on something in every branch."""
        home = one.env.place()
        if not live or one.settled or (home is not env and home not in env.chain()):
            return False
        level = max(self._level_in(one, branch) for branch in live)
        if level >= self._level_in(one, env) or level >= Verdict.unknown:
            return False
        if home is not env:
            self.inside[env.number, id(one)] = level
        elif one.use == "insert":
            return False
        else:
            cure = "condition" if level == Verdict.by_id else ""
            self.set(one, level, "every alternative ties it to one tenant", cure)
        return True

    def _hang(self, one: Occurrence, best: Occurrence, level: Verdict, by: str) -> bool:
        level = max(level, Verdict.scoped_fk)
        role = one.role
        if role is None or one.level <= level or one.settled:
            return False
        if one.use == "insert" and role.kind != "owned" and by == "key":
            return False
        name = best.alias or best.table.shown
        if level == Verdict.scoped_fk:
            self.set(one, level, f"its foreign key ties it to {name}")
        else:
            why = f"it hangs on {name}, which is chosen by a key alone"
            self.set(one, level, why, "condition" if one.use != "insert" else "insert")
            one.key = None
        return True

    def differ(self, values: Iterable[Constant], column: Column | None) -> bool:
        """Whether literals among the values are more than one tenant."""
        constants = list(values)
        literals = [value.value for value in constants if value.kind == "literal"]
        arrays = [value.value for value in constants if value.kind == "array"]
        lists = [text for text in arrays if text.startswith("[")]
        if len(literals) < 2 and not lists:
            return False
        self.by_value = True
        for text in lists:
            literals += json.loads(text)
        return differ(literals, column.type if column else "")
