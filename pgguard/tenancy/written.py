"""The levels of rows that are inserted and of columns that are set: section 5 of tenancy.md.

Laws: a row that is written belongs to the tenant only if its tenant column is a constant; a
conflict may update only a row of the same tenant; setting the tenant column of a row that may be
another tenant's adopts a foreign row.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pgguard.findings import Verdict
from pgguard.sql.plan.nodes import Value
from pgguard.sql.statement import DEFAULT, MAYBE, NULL, KeyValue
from pgguard.tenancy.functions import configured, is_constant
from pgguard.tenancy.values import show

if TYPE_CHECKING:
    from pgguard.sql.statement import Constant
    from pgguard.tenancy.catalogue import Column
    from pgguard.tenancy.changes import Change, Given, Insertion
    from pgguard.tenancy.environment import Constants
    from pgguard.tenancy.levels import Leveller
    from pgguard.tenancy.model import Role
    from pgguard.tenancy.occurrences import Occurrence


_NULLS = frozenset({NULL, MAYBE})


class Writes:
    """Corrects the levels of what is written."""

    __slots__ = ("levels", "model")

    def __init__(self, levels: Leveller) -> None:
        self.levels = levels
        self.model = levels.model

    def judge(self) -> None:
        """All of a statement's writes."""
        built = self.levels.solver.built
        for insertion in built.insertions:
            if insertion.row.role is not None:
                self._insertion(insertion, insertion.row.role)
                self._note_key(insertion.row)
        for change in built.changes:
            if change.row.role is not None:
                self._change(change, change.row.role)
        for insertion in built.insertions:
            if insertion.row.role is not None and insertion.updated is not None:
                self._conflict(insertion, insertion.updated)

    def worse(self, one: Occurrence, level: Verdict, why: str, cure: str = "") -> None:
        """Lower the level, never raise it."""
        if level > one.level:
            self.levels.set(one, level, why, cure)

    def _insertion(self, insertion: Insertion, role: Role) -> None:
        one = insertion.row
        if insertion.overriding:
            why = "it overrides the values that it gives"
            self.levels.set(one, Verdict.unknown, why)
            return
        if role.kind == "root":
            self.levels.set(one, Verdict.scoped, "it creates a tenant")
            one.values = self._values(one, role.columns[0]) if role.columns else None
            return
        if role.kind == "owned":
            self._owned(insertion, role)
            return
        outcomes = [self._tenant(insertion, column, role) for column in role.columns]
        levels = {level for level, _, _ in outcomes}
        if len(levels) > 1 and Verdict.scoped in levels:
            why = f"which of {', '.join(role.columns)} is the tenant is ambiguous"
            self.levels.set(one, Verdict.unknown, why, ambiguous=True)
            return
        level, why, cure = max(outcomes, key=lambda outcome: outcome[0])
        self.levels.set(one, level, why, cure)

    def _tenant(self, insertion: Insertion, name: str, role: Role) -> tuple[Verdict, str, str]:
        """What the tenant column of a new row says."""
        one = insertion.row
        column = one.table.column(name)
        given = insertion.columns.get(name)
        values = self._values(one, name)
        if values is not None and not role.shared:
            # A subquery without a row: the row belongs to nobody, or fails.
            values = values - {MAYBE}
        default = given is None or self._is_default(given)
        if default or (values is not None and NULL in values):
            return self._left_out(one, name, None if default else values, column, role)
        if values is not None:
            if self.levels.differ(values, column):
                why = f"its rows have several tenants in {name}"
                return Verdict.cross_tenant, why, ""
            one.values = values
            if not self._agrees(one, values):
                self.levels.by_value = True
                why = (
                    f"it inserts for {name}; the values decide whether its rows are of that tenant"
                )
                return Verdict.unknown, why, ""
            return Verdict.scoped, f"{name} is {show(values)}", ""
        if insertion.drawn and given is not None and given.term is None:
            return Verdict.unknown, f"{name} comes from the rows of a function", ""
        if one.level in {Verdict.scoped_fk, Verdict.by_id}:
            return one.level, one.why, one.cure
        return Verdict.unscoped, f"{name} is not given as a constant", "insert"

    def _is_default(self, given: Given) -> bool:
        """DEFAULT, in some rows at least, beside constants."""
        if not isinstance(given.value, Value) or DEFAULT not in given.value.constants:
            return False
        rest = given.value.constants - {DEFAULT}
        return all(is_constant(value, self.model) for value in rest)

    def _agrees(self, one: Occurrence, values: Constants) -> bool:
        """Whether the rows that are read are of the tenant that is written, as far as the text
        says; literals of two tenants are found later."""
        ours = {self._meant(value) for value in values}
        for other in self.levels.solver.built.occurrences:
            if other.base is not None or other.role is None or other.use != "read":
                continue
            theirs = other.values
            if theirs is None or other.level != Verdict.scoped:
                continue
            kinds = {value.kind for value in (*values, *theirs)}
            plain = {self._meant(value) for value in theirs if value not in _NULLS}
            if kinds <= {"literal", "null"} or not plain:
                continue
            if plain - ours:
                return False
        return True

    def _meant(self, value: Constant) -> tuple[object, ...]:
        """Two constants that mean the same whatever they are; the tenant setting has many names."""
        settings = self.model.settings.settings
        called = value.functions and all(configured(name, self.model) for name in value.functions)
        if called or (value.kind == "setting" and value.value in settings):
            return ("tenant",)
        return value[:3]

    def _left_out(
        self,
        one: Occurrence,
        name: str,
        values: Constants | None,
        column: Column | None,
        role: Role,
    ) -> tuple[Verdict, str, str]:
        """The tenant column gets its default, or NULL."""
        given = values is not None and NULL in values
        if not given and self._default_is_tenant(column.default if column else ""):
            return Verdict.scoped, f"{name} is the tenant by its default", ""
        if one.table.fills:
            return Verdict.unknown, f"a trigger may fill in {name}", ""
        if column is not None and column.generated:
            return Verdict.unknown, f"{name} is generated from other columns", ""
        if given and role.shared:
            why = f"{name} is NULL: all tenants will see the row"
        elif given:
            why = f"{name} is NULL: the row belongs to no tenant"
        else:
            why = f"{name} is left out, and its default is not the tenant"
        return Verdict.unscoped, why, "insert"

    def _default_is_tenant(self, default: str) -> bool:
        settings = self.model.settings
        if any(f"current_setting('{name}'" in default for name in settings.settings):
            return True
        return any(
            re.search(rf"(?<!\w){re.escape(name)}\(", default) for name in settings.functions
        )

    def _owned(self, insertion: Insertion, role: Role) -> None:
        one = insertion.row
        if one.level < Verdict.unknown:
            return
        names = " nor ".join(role.columns) or "the owner's key"
        given = [insertion.columns.get(column) for column in role.columns]
        if insertion.drawn and any(g is not None and g.term is None for g in given):
            why = f"{names} comes from the rows of a function"
            self.levels.set(one, Verdict.unknown, why)
        elif one.table.fills:
            self.levels.set(one, Verdict.unknown, "a trigger may fill in the owner's key")
        else:
            why = f"{names} is not given as a constant"
            self.levels.set(one, Verdict.unscoped, why, "insert")

    def _note_key(self, one: Occurrence) -> None:
        """The key that a new row gets; it comes before its owner's."""
        env, role = one.env.place(), one.role
        for key in one.table.keys:
            if role is None or (set(key.columns) & set(role.columns)):
                continue
            given = [self.levels.solver.values(one, column, env) for column in key.columns]
            if all(given):
                types = tuple(
                    column.type if (column := one.table.column(name)) else ""
                    for name in key.columns
                )
                constants = tuple(values or frozenset() for values in given)
                one.key = KeyValue(one.table.key, key.columns, constants, types, -1, "insert")
                return

    def _values(self, one: Occurrence, name: str) -> Constants | None:
        term = one.terms.get(name)
        return one.env.place().constants(term) if term is not None else None

    def _change(self, change: Change, role: Role) -> None:
        """What SET does to the tenant column, or to an owner's key."""
        one = change.row
        generated = [c for c in role.columns if (d := one.table.column(c)) and d.generated]
        if generated and change.columns and one.use == "update":
            why = f"{generated[0]} is generated from other columns"
            self.worse(one, Verdict.unknown, why)
        level = one.level
        for name, given in change.columns.items():
            if name not in role.columns or self._is_itself(one, name, given):
                continue
            if role.kind == "owned":
                self.worse(one, Verdict.by_id, f"it assigns {name}", "assign")
            else:
                self._assigned(change, name, given, level, role)

    def _is_itself(self, one: Occurrence, name: str, given: Given) -> bool:
        own = one.terms.get(name)
        return own is not None and given.term is not None and own == given.term

    def _assigned(
        self, change: Change, name: str, given: Given, level: Verdict, role: Role
    ) -> None:
        one = change.row
        env = one.env.place()
        own = self.levels.solver.built.term(one, name)
        same = given.term is not None and env.find(given.term) == env.find(own)
        if isinstance(given.value, Value) and DEFAULT in given.value.constants:
            self.worse(one, Verdict.unknown, f"it sets {name} to its default")
            return
        values = env.constants(given.term) if given.term is not None else None
        if values is None and isinstance(given.value, Value):
            values = None
        proposed = change.proposed is not None and given.term == change.proposed.terms.get(name)
        if values is None and not same and not proposed:
            why = f"it sets {name} to something that is not a constant"
            self.worse(one, Verdict.unscoped, why, "assign")
            return
        if level >= Verdict.by_id:
            why = f"it sets {name} of a row that may be another tenant's"
            self.levels.set(one, Verdict.unscoped, why, "assign")
            return
        if same or (proposed and values is None):
            return
        held = env.constants(own)
        if values is not None and NULL in values and role.shared:
            why = f"it sets {name} to NULL: all tenants will see the row"
            self.worse(one, Verdict.unscoped, why, "assign")
            return
        self._moved(one, name, held, values or frozenset())

    def _moved(self, one: Occurrence, name: str, held: Constants | None, given: Constants) -> None:
        literal = {"literal", "expression", "setting"}
        if held and len(held) == 1 and len(given) == 1:
            ours, theirs = next(iter(held)), next(iter(given))
            if ours.same(theirs):
                self.levels.by_value = self.levels.by_value or theirs.kind in literal
                return
        if given <= {NULL, MAYBE} and given:
            one.why = f"it takes the tenant's rows out of {name}"
            return
        if held and self.levels.differ(held | given, one.table.column(name)):
            why = f"it moves rows to another tenant: {name} changes"
            self.worse(one, Verdict.cross_tenant, why)
            return
        if any(value.kind in literal for value in (*(held or ()), *given)):
            self.levels.by_value = True
        why = f"it sets {name}; the values decide whether the tenant stays the same"
        self.worse(one, Verdict.unknown, why)

    def _conflict(self, insertion: Insertion, old: Occurrence) -> None:
        """What ON CONFLICT DO UPDATE may reach."""
        new, conflict, role = insertion.row, insertion.conflict, insertion.row.role
        assert conflict is not None
        assert role is not None
        columns, primary = conflict.columns, False
        for key in new.table.keys:
            if conflict.constraint and key.name == conflict.constraint:
                columns, primary = key.columns, key.primary
            elif not conflict.constraint and set(key.columns) == set(columns) and key.primary:
                primary = True
        if conflict.constraint and not columns:
            why = f"constraint {conflict.constraint} is not in the catalogue"
            self.worse(new, Verdict.unknown, why)
            return
        ours, theirs = new.env.place(), old.env.place()
        for mine, yours in zip(new.tenant, old.tenant, strict=False):
            one, other = ours.constants(mine), theirs.constants(yours)
            column = new.table.column(role.columns[0]) if role.columns else None
            if one and other and self.levels.differ(one | other, column):
                why = "it inserts for one tenant and updates another's row"
                self.worse(new, Verdict.cross_tenant, why)
                return
        if old.cure == "assign" or old.level == Verdict.cross_tenant:
            self.worse(new, old.level, old.why, old.cure)
            return
        if old.level == Verdict.unknown:
            self.worse(new, old.level, old.why, old.cure)
            return
        tied = role.kind != "owned" and all(
            theirs.find(mine) == theirs.find(yours)
            for mine, yours in zip(new.tenant, old.tenant, strict=False)
        )
        if (tied and role.kind != "root") or old.level <= Verdict.scoped_fk:
            return
        names = ", ".join(columns) or conflict.constraint or "an expression"
        owner = role.kind == "owned" and set(columns) & set(role.columns)
        if role.kind == "root" and old.level > Verdict.scoped and primary:
            return
        if primary or owner or role.kind == "root":
            why = f"ON CONFLICT updates the row that has its {names}"
            self.worse(new, Verdict.by_id, why, "conflict")
        else:
            why = f"ON CONFLICT ({names}) may update another tenant's row"
            self.worse(new, Verdict.unscoped, why, "conflict")
