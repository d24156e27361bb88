"""Is the one table of a statement tied to one tenant? Sections 2 to 5 of tenancy.md, for now for
statements with one table occurrence and no subquery.

Laws: whatever is not proved is not `scoped`; a table whose tenant column is ambiguous is scoped
only if it is by every reading; comparing literals sets `by_value`, for texts that differ only
there must not share the verdict.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pgguard.findings import Verdict
from pgguard.sql.statement import MAYBE, NULL, Constant, Known, Part, Term
from pgguard.tenancy.functions import is_constant
from pgguard.tenancy.values import differ, show

if TYPE_CHECKING:
    from pgguard.sql.statement import KeyValue
    from pgguard.tenancy.catalogue import Column, Table
    from pgguard.tenancy.model import Model, Role

_INTEGERS: Final = frozenset({"int2", "int4", "int8"})


@dataclass(slots=True)
class Outcome:
    """The level of one occurrence and why.

    `cure` says which fix applies: `condition`, `insert`, `conflict`, `assign`, `truncate`,
    `copy`, or nothing. `ambiguous` = the model must be settled first.
    """

    table: Table
    alias: str
    level: Verdict
    why: str
    cure: str = ""
    role: Role | None = None
    ambiguous: bool = False
    tenant: tuple[frozenset[Constant], str] | None = None
    """What the tenant column may be, and its type."""
    key: KeyValue | None = None
    """The key that chooses the row instead, or that it is inserted with."""


@dataclass(slots=True)
class Prover:
    """Proves one part against one role of its table."""

    model: Model
    part: Part
    role: Role
    table: Table
    by_value: bool = False
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        aliases = self.part.table.columns if self.part.table else ()
        for place, column in enumerate(self.table.columns):
            self.names[column.name] = aliases[place] if place < len(aliases) else column.name

    def prove(self) -> Outcome:
        """The level of the table's only occurrence."""
        outcome = self._level(self.part.known)
        if outcome.level < Verdict.unknown or self.part.hopeful is None:
            return outcome
        hopeful = self._level(self.part.hopeful)
        if hopeful.level < Verdict.unknown:
            why = f"only if its parameters are not null and its conditions hold: {hopeful.why}"
            return self.outcome(Verdict.unknown, why, "condition")
        return outcome

    def _level(self, known: Known) -> Outcome:
        if known.impossible:
            return self.outcome(Verdict.scoped, "no row can satisfy its condition")
        tenants = [self.constants(column, known) for column in self.role.columns]
        if self.role.kind in {"direct", "root"} and tenants:
            if all(values is not None for values in tenants):
                return self._tied(tenants)
            if any(values is not None for values in tenants):
                names = ", ".join(self.role.columns)
                why = f"which of {names} is the tenant is ambiguous"
                return self.outcome(Verdict.unknown, why, ambiguous=True)
        return self._by_key(known)

    def _tied(self, tenants: list[frozenset[Constant] | None]) -> Outcome:
        """Every tenant column has constants."""
        for name, values in zip(self.role.columns, tenants, strict=True):
            column = self.table.column(name)
            if values and self.differ(values, column):
                why = f"{name} may be several tenants"
                return self.outcome(Verdict.cross_tenant, why)
            if values and self._publishes(values):
                why = "it changes rows without a tenant, which all tenants see"
                return self.outcome(Verdict.unscoped, why, "condition")
            if values and self._publishes(values, MAYBE):
                why = f"if {name} is NULL, it changes rows that all tenants see"
                return self.outcome(Verdict.unknown, why, "condition")
        name, values = self.role.columns[0], tenants[0] or frozenset()
        return self.outcome(Verdict.scoped, f"{name} is {show(values)}")

    def _publishes(self, values: frozenset[Constant], null: Constant = NULL) -> bool:
        return self.role.shared and null in values and self.part.kind in {"update", "delete"}

    def _by_key(self, known: Known) -> Outcome:
        """No tenant: perhaps a key or a foreign key to a tenant table is given."""
        for key in self.table.keys:
            if set(key.columns) & set(self.role.columns) and self.role.kind != "owned":
                continue
            given = [self.chosen(column, known) for column in key.columns]
            if all(given):
                names = ", ".join(key.columns)
                one = all(values and is_single(values) for values in given)
                if self.role.kind == "root" and one and self._is_whole():
                    return self.outcome(Verdict.scoped, f"{names} names one tenant")
                return self.outcome(Verdict.by_id, f"only {names} chooses the row", "condition")
        for foreign in self.table.foreign_keys:
            if foreign.target in self.model.roles and all(
                self.chosen(column, known) for column in foreign.columns
            ):
                names, target = ", ".join(foreign.columns), foreign.target[1]
                why = f"only {names} chooses the rows, by their {target}"
                return self.outcome(Verdict.by_id, why, "condition")
        return self.outcome(Verdict.unscoped, self._missing(known), "condition")

    def _is_whole(self) -> bool:
        """Whether the keys hold for all rows: those of an inheritance parent do not."""
        return self.table.kind == "p" or not self.model.below(self.table)

    def _missing(self, known: Known) -> str:
        if self.role.kind == "owned":
            return f"nothing says whose rows: neither {self.owner_names()} nor a key is given"
        names = " or ".join(self.role.columns) or "the tenant's key"
        if not self.part.condition:
            return f"there is no condition on {names}"
        tried = [known.constants.get(Term(self.names.get(c, c))) for c in self.role.columns]
        if any(tried):
            return f"{names} is compared with something that may change from row to row"
        return f"the condition does not fix {names}"

    def owner_names(self) -> str:
        return " nor ".join(self.role.columns) or "the owner's key"

    def constants(self, column: str, known: Known) -> frozenset[Constant] | None:
        """What a catalogue column may be, if all of it is constant."""
        name = self.names.get(column, column)
        declared = self.table.column(column)
        casts = ["", *_families(declared.type if declared else "")]
        for cast in casts:
            values = known.constants.get(Term(name, "", cast))
            if values is not None and all(is_constant(value, self.model) for value in values):
                return values
        return None

    def chosen(self, column: str, known: Known) -> frozenset[Constant] | None:
        """`constants` of a key's column, unless rows without a key pass too: anybody's."""
        values, declared = self.constants(column, known), self.table.column(column)
        if values is None or (declared is not None and declared.not_null):
            return values
        return None if NULL in values or MAYBE in values else values

    def differ(self, values: frozenset[Constant], column: Column | None) -> bool:
        literals = [value.value for value in values if value.kind == "literal"]
        arrays = [value.value for value in values if value.kind == "array"]
        lists = [text for text in arrays if text.startswith("[")]
        if len(literals) < 2 and not lists:
            return False
        self.by_value = True
        for text in lists:
            literals += json.loads(text)
        return differ(literals, column.type if column else "")

    def outcome(
        self, level: Verdict, why: str, cure: str = "", *, ambiguous: bool = False
    ) -> Outcome:
        alias = self.part.table.alias if self.part.table else ""
        return Outcome(self.table, alias, level, why, cure, self.role, ambiguous)


def is_single(values: frozenset[Constant]) -> bool:
    return len(values) == 1 and not any(value.kind in {"array", "more"} for value in values)


def _families(type_name: str) -> tuple[str, ...]:
    """Casts to which families keep the identity of a column of the type."""
    if type_name == "uuid":
        return ("uuid",)
    return ("integer",) if type_name in _INTEGERS else ()
