"""The rows of one tenant, made from a catalogue: what fills the worlds of an experiment.

Laws: a tenant's rows reference only its own rows and those without a tenant, unless `strangers`
are given, to which plain foreign keys (never an owner key, never a composite one) may then point;
the same seed and profile give two tenants rows that are alike in all but their keys. Natural keys
with the tenant in them are the same for all tenants, so that they collide wherever the tenant is
left out; those without it carry the tenant's name.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgguard.tenancy.catalogue import Column, ForeignKey, Table, TableName
    from pgguard.tenancy.model import Model

Row = dict[str, "str | None"]
Rows = dict["TableName", list[Row]]

_WORDS: Final = {
    "status": ("open", "paid", "void"),
    "state": ("open", "done", "held"),
    "role": ("admin", "staff", "guest"),
    "plan": ("free", "team", "firm"),
    "kind": ("note", "mail", "call"),
    "theme": ("dark", "light"),
    "name": ("Ada", "Bob", "Cyd", "Dee"),
}
"""Values of columns by their name; statements use them, too."""
_NATURAL: Final = {"email", "code", "label"}
"""Natural keys with the tenant in them: the same for all tenants."""
_PLAIN: Final = ("alpha", "beta", "gamma", "delta")


@dataclass(frozen=True, slots=True)
class Profile:
    """How many rows a tenant has and what is in them.

    `rows` per table, `nulls` the share of NULL in columns that may be, `shift` is added to
    numbers and marks words, so that values differ from those of other shifts; `skip` is the share
    of tables that stay empty.
    """

    seed: int = 1
    rows: int = 5
    nulls: float = 0.25
    shift: int = 0
    skip: float = 0.0


def words(column: str) -> tuple[str, ...]:
    """The values that a text column has in the profile without a shift."""
    if column in _NATURAL:
        return tuple(f"{column}{place}" for place in range(4))
    return _WORDS.get(column.lower(), _PLAIN)


def key_of(kind: str, tenant: str, number: int) -> str:
    """The key of a tenant's row: `tenant` is one letter, `number` says table and row."""
    if kind == "uuid":
        # Only digits and a to f: the letter's place in the alphabet, spread over what hex can say.
        return f"{ord(tenant) - 96:x}{number:07x}"[-8:] + "-0000-4000-8000-" + f"{number:012x}"
    if kind in {"int4", "int8", "int2", "numeric"}:
        return str((ord(tenant) - 96) * 1000 + number)
    return f"{tenant}-{number}"


class Maker:
    """Makes the rows of one tenant after another for one model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.tables = _in_order(model)
        self._numbers = {table.key: 20 * place for place, table in enumerate(self.tables)}

    def id(self, table: Table, tenant: str, place: int) -> str:
        """The key that the row in this place of a tenant's table has."""
        column = table.column("id") or table.columns[0]
        return key_of(column.type, tenant, self._numbers[table.key] + place)

    def tenant(self, tenant: str) -> str:
        """The value of tenant columns for this tenant."""
        root = next(role.table for role in self.model.roles.values() if role.kind == "root")
        return self.id(root, tenant, 0)

    def common(self) -> Rows:
        """The rows that belong to nobody: those of tables without tenants."""
        made: Rows = {}
        for table in self.tables:
            if table.key not in self.model.roles:
                made[table.key] = [
                    self._row(table, "x", place, Profile(nulls=0), made, {}) or {}
                    for place in range(4)
                ]
        return made

    def unowned(self, common: Rows) -> Rows:
        """Rows without a tenant in tables whose tenant column may be NULL."""
        made: Rows = {}
        for table in self.tables:
            role = self.model.roles.get(table.key)
            if role is None or role.kind != "direct":
                continue
            column = table.column(role.columns[0])
            if column is None or column.not_null or table.parents:
                continue
            for place in range(3):
                row = self._row(table, "n", place, Profile(nulls=0), dict(common), {})
                if row is not None:
                    row[column.name] = None
                    made.setdefault(table.key, []).append(row)
        return made

    def make(
        self, tenant: str, profile: Profile, common: Rows, strangers: Mapping[TableName, list[Row]]
    ) -> Rows:
        """All rows of a tenant."""
        draw = random.Random(profile.seed)
        made: Rows = {}
        for table in self.tables:
            role = self.model.roles.get(table.key)
            if role is None:
                continue
            empty = draw.random() < profile.skip and role.kind != "root"
            one = role.kind == "root" or any(
                key.primary and key.columns == role.columns for key in table.keys
            )
            rows: list[Row] = []
            seen: set[tuple[object, ...]] = set()
            count = 0 if empty else 1 if one else profile.rows
            for place in range(count):
                seeded = replace(profile, seed=draw.randrange(1 << 30))
                row = self._row(table, tenant, place, seeded, made | common, strangers)
                keys = [
                    (key.name, *(row[c] for c in key.columns))
                    for key in table.keys
                    if row is not None and all(row[c] is not None for c in key.columns)
                ]
                if row is None or seen.intersection(keys):
                    continue
                seen.update(keys)
                rows.append(row)
                made[table.key] = rows
            made[table.key] = rows
        return made

    def _row(
        self,
        table: Table,
        tenant: str,
        place: int,
        profile: Profile,
        made: Rows,
        strangers: Mapping[TableName, list[Row]],
    ) -> Row | None:
        """One row, or None if what it must reference does not exist."""
        draw = random.Random(f"{profile.seed} {table.name}")
        role = self.model.roles.get(table.key)
        row: Row = {}
        if role is not None and role.kind == "direct":
            row[role.columns[0]] = self.tenant(tenant)
        for foreign in table.foreign_keys:
            if all(column in row for column in foreign.columns):
                continue
            if not self._reference(table, foreign, row, draw, profile, made, strangers):
                return None
        for column in table.columns:
            if column.name not in row:
                row[column.name] = self._value(table, column, tenant, place, profile, draw)
        return row

    def _reference(
        self,
        table: Table,
        foreign: ForeignKey,
        row: Row,
        draw: random.Random,
        profile: Profile,
        made: Rows,
        strangers: Mapping[TableName, list[Row]],
    ) -> bool:
        role = self.model.roles.get(table.key)
        optional = any(
            (c := table.column(name)) and not c.not_null and name not in row
            for name in foreign.columns
        )
        owner = role is not None and role.kind == "owned" and foreign in role.owners[:1]
        choice = made.get(foreign.target, [])
        crossing = strangers.get(foreign.target, [])
        if crossing and not owner and len(foreign.columns) == 1 and draw.random() < 0.7:
            choice = crossing
        if not choice or (optional and draw.random() < profile.nulls):
            for name in foreign.columns:
                row.setdefault(name, None)
            return optional
        chosen = choice[draw.randrange(len(choice))]
        for mine, theirs in zip(foreign.columns, foreign.target_columns, strict=True):
            row[mine] = chosen[theirs]
        return True

    def _value(
        self,
        table: Table,
        column: Column,
        tenant: str,
        place: int,
        profile: Profile,
        draw: random.Random,
    ) -> str | None:
        unique = [key.columns for key in table.keys if column.name in key.columns]
        if any(key == (column.name,) for key in unique):
            if column.name in {"id", "code"} or column.type == "uuid":
                number = self._numbers[table.key] + place
                return key_of(column.type, tenant, number)
            return f"{column.name}-{tenant}-{place}"
        if unique and column.type in {"int2", "int4", "int8", "text"}:
            return str(place + 1) if column.type.startswith("int") else f"{column.name}{place}"
        if not column.not_null and draw.random() < profile.nulls:
            return None
        if column.type in {"int2", "int4", "int8", "numeric"}:
            return str(draw.randrange(1, 7) + profile.shift)
        if column.type == "bool":
            return "t" if draw.random() < 0.5 else "f"
        if column.type in {"date", "timestamp", "timestamptz"}:
            year = 2024 + draw.randrange(2)
            return f"{year}-{draw.randrange(1, 13):02d}-{draw.randrange(1, 29):02d}"
        if column.type == "uuid":
            return key_of("uuid", tenant, 900 + place)
        word = words(column.name)[draw.randrange(len(words(column.name)))]
        return f"{word}{profile.shift}" if profile.shift and column.name not in _WORDS else word


def _in_order(model: Model) -> list[Table]:
    """Base tables, those that are referenced before those that reference them."""
    waiting = [
        table
        for table in model.catalogue.tables.values()
        if table.kind in {"r", "p"} and not _is_partition(model, table)
    ]
    waiting.sort(key=lambda table: table.key)
    done: list[Table] = []
    while waiting:
        ready = [
            table
            for table in waiting
            if all(
                f.target == table.key or all(w.key != f.target for w in waiting)
                for f in table.foreign_keys
            )
        ]
        done += ready
        waiting = [table for table in waiting if table not in ready]
        assert ready, f"foreign keys in a circle: {[table.name for table in waiting]}"
    return done


def _is_partition(model: Model, table: Table) -> bool:
    return any(model.catalogue.tables[parent].kind == "p" for parent in table.parents)
