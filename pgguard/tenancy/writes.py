"""The levels of INSERT, ON CONFLICT and UPDATE: section 5 of tenancy.md.

Laws: a row that is written belongs to the tenant only if the tenant column is a constant in every
row; a conflict may update only a row of the same tenant; setting the tenant column of a row that
may be another tenant's adopts a foreign row.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pgguard.findings import Verdict
from pgguard.sql.statement import DEFAULT, DRAWN, NULL, Conflict, Constant, Term
from pgguard.tenancy.functions import is_constant
from pgguard.tenancy.proof import Outcome, Prover, is_single
from pgguard.tenancy.values import show

if TYPE_CHECKING:
    from pgguard.tenancy.catalogue import Column, Key


class WriteProver(Prover):
    """Proves one write."""

    __slots__ = ()

    def prove(self) -> Outcome:
        """The level of the table that is written."""
        if self.part.kind == "insert":
            return self._insert()
        outcome = super().prove()
        return self._assign(outcome) if self.part.kind == "update" else outcome

    def _insert(self) -> Outcome:
        outcome = self._inserted()
        conflict = self.part.conflict
        if conflict is None:
            return outcome
        updated = self._conflict(conflict)
        return updated if updated.level > outcome.level else outcome

    def _inserted(self) -> Outcome:
        if self.role.kind == "root":
            return self.outcome(Verdict.scoped, "it creates a tenant")
        if self.role.kind == "owned":
            return self._inserted_owned()
        outcomes = [self._inserted_tenant(column) for column in self.role.columns]
        levels = {outcome.level for outcome in outcomes}
        if len(levels) > 1 and Verdict.scoped in levels:
            why = f"which of {', '.join(self.role.columns)} is the tenant is ambiguous"
            return self.outcome(Verdict.unknown, why, ambiguous=True)
        return max(outcomes, key=lambda outcome: outcome.level)

    def _inserted_owned(self) -> Outcome:
        for foreign in self.role.owners:
            given = [self.value(column) for column in foreign.columns]
            if all(self._plain(values) for values in given):
                why = f"only {', '.join(foreign.columns)} says whose row it becomes"
                return self.outcome(Verdict.by_id, why, "insert")
        if any(DRAWN in (self.value(column) or ()) for column in self.role.columns):
            why = f"{self.owner_names()} comes from the rows of a function"
            return self.outcome(Verdict.unknown, why)
        if self.table.fills:
            return self.outcome(Verdict.unknown, "a trigger may fill in the owner's key")
        return self.outcome(
            Verdict.unscoped, f"{self.owner_names()} is not given as a constant", "insert"
        )

    def _inserted_tenant(self, name: str) -> Outcome:
        values, column = self.value(name), self.table.column(name)
        if values is None or DEFAULT in values or NULL in values:
            return self._left_out(name, values, column)
        if DRAWN in values:
            why = f"{name} comes from the rows of a function"
            return self.outcome(Verdict.unknown, why)
        if not self._plain(values):
            why = f"{name} is not given as a constant"
            return self.outcome(Verdict.unscoped, why, "insert")
        if self.differ(values, column):
            why = f"its rows have several tenants in {name}"
            return self.outcome(Verdict.cross_tenant, why)
        return self.outcome(Verdict.scoped, f"{name} is {show(values)}")

    def _left_out(
        self, name: str, values: frozenset[Constant] | None, column: Column | None
    ) -> Outcome:
        """The tenant column gets its default, or NULL."""
        default = column.default if column else ""
        given = values is not None and NULL in values
        if not given and self._default_is_tenant(default):
            rest = (values or frozenset()) - {DEFAULT}
            if all(is_constant(value, self.model) for value in rest):
                return self.outcome(Verdict.scoped, f"{name} is the tenant by its default")
        if self.table.fills:
            return self.outcome(Verdict.unknown, f"a trigger may fill in {name}")
        if column is not None and column.generated:
            return self.outcome(Verdict.unknown, f"{name} is generated from other columns")
        if given and self.role.shared:
            why = f"{name} is NULL: all tenants will see the row"
        elif given:
            why = f"{name} is NULL: the row belongs to no tenant"
        else:
            why = f"{name} is left out, and its default is not the tenant"
        return self.outcome(Verdict.unscoped, why, "insert")

    def _default_is_tenant(self, default: str) -> bool:
        settings = self.model.settings
        if any(f"current_setting('{name}'" in default for name in settings.settings):
            return True
        return any(
            re.search(rf"(?<!\w){re.escape(name)}\(", default) for name in settings.functions
        )

    def value(self, column: str) -> frozenset[Constant] | None:
        """What an INSERT puts into a catalogue column; None if it is left out."""
        names = self.part.columns
        if names is None:
            names = tuple(known.name for known in self.table.columns)
        try:
            place = names.index(column)
        except ValueError:
            return None
        values = self.part.values
        return values[place] if place < len(values) else None

    def _plain(self, values: frozenset[Constant] | None) -> bool:
        return (
            bool(values)
            and NULL not in (values or ())
            and all(is_constant(value, self.model) for value in values or ())
        )

    def _conflict(self, conflict: Conflict) -> Outcome:
        target = self._target(conflict)
        if target is None:
            why = f"constraint {conflict.constraint} is not in the catalogue"
            return self.outcome(Verdict.unknown, why)
        columns, primary = target
        if self._conflict_crosses(conflict):
            why = "it inserts for one tenant and updates another's row"
            return self.outcome(Verdict.cross_tenant, why)
        tied = self._conflict_is_tied(conflict, columns)
        outcome = self.outcome(Verdict.scoped, "the conflict is within the tenant")
        if not tied:
            names = ", ".join(columns) or conflict.constraint or "an expression"
            owner = self.role.kind == "owned" and set(columns) & set(self.role.columns)
            if primary or owner or self.role.kind == "root":
                why = f"ON CONFLICT updates the row that has its {names}"
                outcome = self.outcome(Verdict.by_id, why, "conflict")
            else:
                why = f"ON CONFLICT ({names}) may update another tenant's row"
                outcome = self.outcome(Verdict.unscoped, why, "conflict")
        return self._assign(outcome, conflict)

    def _target(self, conflict: Conflict) -> tuple[tuple[str, ...], bool] | None:
        if not conflict.constraint:
            primary = any(
                key.primary and set(key.columns) == set(conflict.columns) for key in self.table.keys
            )
            return conflict.columns, primary
        found: Key | None = None
        for key in self.table.keys:
            if key.name == conflict.constraint:
                found = key
        return (found.columns, found.primary) if found else None

    def _conflict_is_tied(self, conflict: Conflict, columns: tuple[str, ...]) -> bool:
        if self.role.kind == "owned" or not self.role.columns:
            return False
        if conflict.known.impossible:
            return True
        for column in self.role.columns:
            own = Term(self.names.get(column, column))
            equal = any({own, Term(column, "excluded")} <= terms for terms in conflict.known.equal)
            given = self.constants(column, conflict.known)
            if given is not None and self._published(given):
                return False
            if column not in columns and not equal and given is None:
                return False
        return True

    def _conflict_crosses(self, conflict: Conflict) -> bool:
        for column in self.role.columns if self.role.kind != "owned" else ():
            given, held = self.constants(column, conflict.known), self.value(column)
            if given and held and self.differ(given | held, self.table.column(column)):
                return True
        return False

    def _published(self, values: frozenset[Constant]) -> bool:
        return self.role.shared and NULL in values

    def _assign(self, outcome: Outcome, conflict: Conflict | None = None) -> Outcome:
        """What SET does to the tenant column, or to an owner's key."""
        worst = outcome
        generated = [c for c in self.role.columns if (d := self.table.column(c)) and d.generated]
        if generated and outcome.level < Verdict.unknown:
            why = f"{generated[0]} is generated from other columns"
            worst = self.outcome(Verdict.unknown, why)
        for column, value in self.part.assigned.items():
            if column not in self.role.columns:
                continue
            if isinstance(value, Term) and value == Term(self.names.get(column, column)):
                continue
            if self.role.kind == "owned":
                changed = self.outcome(Verdict.by_id, f"it assigns {column}", "assign")
            else:
                changed = self._assigned(column, value, outcome, conflict)
            if changed.level > worst.level:
                worst = changed
        return worst

    def _assigned(
        self, column: str, value: Constant | Term, outcome: Outcome, conflict: Conflict | None
    ) -> Outcome:
        if value == DEFAULT:
            return self.outcome(Verdict.unknown, f"it sets {column} to its default")
        proposed = conflict is not None and value == Term(column, "excluded")
        constant = value if isinstance(value, Constant) else None
        if not proposed and (constant is None or not is_constant(constant, self.model)):
            why = f"it sets {column} to something that is not a constant"
            return self.outcome(Verdict.unscoped, why, "assign")
        if outcome.level >= Verdict.by_id:
            why = f"it sets {column} of a row that may be another tenant's"
            return self.outcome(Verdict.unscoped, why, "assign")
        if constant is None:
            return outcome
        if constant == NULL and self.role.shared:
            why = f"it sets {column} to NULL: all tenants will see the row"
            return self.outcome(Verdict.unscoped, why, "assign")
        given = frozenset({constant})
        held = self.value(column) if conflict else self.constants(column, self.part.known)
        if held and is_single(held) and constant.same(next(iter(held))):
            self.by_value = self.by_value or _has_literals(given)
            return outcome
        return self._moved(column, held, given)

    def _moved(
        self, column: str, held: frozenset[Constant] | None, given: frozenset[Constant]
    ) -> Outcome:
        if given == frozenset({NULL}):
            return self.outcome(Verdict.scoped, f"it takes the tenant's rows out of {column}")
        if held and self.differ(held | given, self.table.column(column)):
            why = f"it moves rows to another tenant: {column} changes"
            return self.outcome(Verdict.cross_tenant, why)
        self.by_value = self.by_value or _has_literals(held) or _has_literals(given)
        why = f"it sets {column}; the values decide whether the tenant stays the same"
        return self.outcome(Verdict.unknown, why)


def _has_literals(values: frozenset[Constant] | None) -> bool:
    return any(value.kind in {"literal", "expression", "setting"} for value in values or ())
