"""Which tables belong to tenants, and by which column: M1 of tenancy.md.

    root     the tenant itself              the tenant is its key
    direct   has a tenant column            the tenant is that column; `shared` = may be NULL
    owned    NOT NULL foreign key to a tenant table, no column of its own
    global   said so in the settings        no tenant's data
    unlisted everything else                no tenant's data

Laws: what the settings say goes before what is discovered; an ambiguity is reported (PGG110) and
never guessed: the table counts as a tenant table, and is proved scoped only if every reading of
it is; partitions and inheritance children take the model of their parent. Names are compared as
the catalogue spells them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pgguard.sql.facts.reading import read
from pgguard.tenancy import rowsecurity
from pgguard.tenancy.catalogue import (
    CATALOGUE_QUERIES,
    NEWEST_ROW_QUERY,
    Catalogue,
    ForeignKey,
    Table,
    TableName,
    catalogue_from_rows,
    undisturbed,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pgguard.sql.statement import Constant, Name, Part

Reference = tuple[TableName, tuple[str, ...]]
Composite = tuple[ForeignKey, tuple[str, ...], tuple[str, ...]]

__all__ = [
    "CATALOGUE_QUERIES",
    "NEWEST_ROW_QUERY",
    "Ambiguity",
    "Catalogue",
    "Model",
    "Role",
    "TenancySettings",
    "catalogue_from_rows",
    "undisturbed",
]


@dataclass(frozen=True, slots=True)
class TenancySettings:
    """What of `tenancy.*` a verdict depends on; tables may be globs, with a schema or without."""

    columns: tuple[str, ...] = ("tenant_id", "tenantId")
    root: tuple[str, ...] = ()
    owned: tuple[tuple[str, str], ...] = ()
    """Pairs of table and its owner key's column."""
    shared: tuple[str, ...] = ()
    global_: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    """Functions that return the tenant, with a schema or without."""
    settings: tuple[str, ...] = ("app.tenant_id", "app.current_tenant")
    max_statement: int = 16 * 1024 * 1024


@dataclass(slots=True)
class Role:
    """What a table is to the tenants."""

    kind: str
    """`root`, `direct`, `owned`; `mixed` = only some children belong to tenants."""
    table: Table
    columns: tuple[str, ...] = ()
    """The tenant column; several if it is ambiguous which; of an owned table its owner keys."""
    owners: tuple[ForeignKey, ...] = ()
    shared: bool = False
    """Rows without a tenant are visible to all."""


@dataclass(frozen=True, slots=True)
class Ambiguity:
    """A table whose role must be settled in the settings."""

    table: str
    why: str
    fix: str


@dataclass(slots=True)
class Model:
    """The tenant tables of one catalogue."""

    catalogue: Catalogue
    settings: TenancySettings
    roles: dict[TableName, Role] = field(default_factory=dict)
    ambiguities: list[Ambiguity] = field(default_factory=list)
    by_name: dict[str, list[Table]] = field(default_factory=dict)
    _children: dict[TableName, list[Table]] = field(default_factory=dict)
    _referring: dict[TableName, list[tuple[Table, ForeignKey]]] = field(default_factory=dict)
    _referenced: dict[TableName, list[Reference]] = field(default_factory=dict)
    _composite: dict[TableName, list[Composite]] = field(default_factory=dict)
    _views: dict[TableName, Part | None] = field(default_factory=dict)
    _touches: dict[TableName, bool] = field(default_factory=dict)
    _names: dict[TableName, list[str]] = field(default_factory=dict)
    _ties: dict[tuple[TableName, str], frozenset[Constant] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for table in self.catalogue.tables.values():
            self.by_name.setdefault(table.name, []).append(table)
            for parent in table.parents:
                self._children.setdefault(parent, []).append(table)
            for foreign in table.foreign_keys:
                self._referring.setdefault(foreign.target, []).append((table, foreign))
        roots = self._add_roots()
        self._add_direct(roots)
        self._add_owned()
        self._inherit()

    def find(self, name: Name) -> list[Table]:
        """The tables that a name may mean; empty if none has it.

        Without a schema all that have the name: the session may have a search_path of its own.
        """
        if name.schema:
            table = self.catalogue.tables.get((name.schema, name.name))
            return [table] if table else []
        return self.by_name.get(name.name, [])

    def names(self, table: Table) -> list[str]:
        """The table's columns, in its order: one list for all who ask, not to be changed."""
        found = self._names.get(table.key)
        if found is None:
            found = self._names[table.key] = [column.name for column in table.columns]
        return found

    def reach(self, tables: Iterable[Table]) -> list[Table]:
        """The tables and everything that views and policies read, in a stable order."""
        seen: dict[TableName, Table] = {}
        stack = list(tables)
        if not any(table.depends or table.policies for table in stack):
            return list({table.key: table for table in reversed(stack)}.values())
        while stack:
            table = stack.pop()
            if table.key in seen:
                continue
            seen[table.key] = table
            known = self.catalogue.tables
            read = sorted(table.depends | table.policies)
            stack.extend(known[name] for name in read if name in known)
        return list(seen.values())

    def touches(self, table: Table) -> bool:
        """Whether a relation is a tenant table, or a view or policy reads one."""
        known = self._touches.get(table.key)
        if known is None:
            known = any(one.key in self.roles for one in self.reach([table]))
            self._touches[table.key] = known
        return known

    def below(self, table: Table) -> list[Table]:
        """Where a write to the table arrives beside it: in children, and in what a view shows."""
        if not table.depends:
            return self._children.get(table.key, [])
        known = self.catalogue.tables
        shown = [known[name] for name in sorted(table.depends) if name in known]
        return self._children.get(table.key, []) + shown

    def referring(self, table: Table) -> list[tuple[Table, ForeignKey]]:
        """The tables that reference the table or what it is a part of."""
        targets = [table.key, *table.parents]
        return [one for target in targets for one in self._referring.get(target, [])]

    def referenced(self, table: Table) -> list[Reference]:
        """The keys of the table that foreign keys name, each with the table whose key it is."""
        found = self._referenced.get(table.key)
        if found is None:
            targets = (table.key, *table.parents)
            named = [(t, f.target_columns) for t in targets for _, f in self._referring.get(t, [])]
            found = self._referenced[table.key] = list(dict.fromkeys(named))
        return found

    def composite(self, table: Table, tenant: str) -> list[Composite]:
        """Foreign keys (tenant, x) -> (tenant, id) that hold for every row, id being a key (I4):
        the key, x, and id."""
        found = self._composite.get(table.key)
        if found is None:
            found = self._composite[table.key] = list(self._composites(table, tenant))
        return found

    def _composites(self, table: Table, tenant: str) -> Iterator[Composite]:
        for foreign in table.foreign_keys:
            role, target = self.roles.get(foreign.target), self.catalogue.tables[foreign.target]
            if tenant not in foreign.columns or len(foreign.columns) < 2 or role is None:
                continue
            theirs = foreign.target_columns[foreign.columns.index(tenant)]
            if role.kind != "direct" or role.columns != (theirs,):
                continue
            pairs = [
                pair
                for pair in zip(foreign.columns, foreign.target_columns, strict=True)
                if pair[0] != tenant
            ]
            rest, named = tuple(one for one, _ in pairs), tuple(one for _, one in pairs)
            # With the rest equal to a key, which is not NULL, Postgres enforces it.
            enforced = (column := table.column(tenant)) is not None and column.not_null
            keys = [key.columns for key in target.keys if set(key.columns) == set(named)]
            for key in keys if enforced else ():
                order = tuple(rest[named.index(column)] for column in key)
                yield foreign, order, key

    def view(self, table: Table) -> Part | None:
        """A view's query, with its plan; None if it is not understood."""
        if table.key not in self._views:
            parts = read(table.definition.encode(), columns=True).parts if table.definition else ()
            self._views[table.key] = parts[0] if len(parts) == 1 and parts[0].plan else None
        return self._views[table.key]

    def tie(self, table: Table, condition: str) -> frozenset[Constant] | None:
        """What a policy's condition makes of the table's tenant column; see `rowsecurity`."""
        key = (table.key, condition)
        if key not in self._ties:
            self._ties[key] = rowsecurity.tie(self, table, condition) if condition else None
        return self._ties[key]

    def is_secured(self) -> bool:
        """Whether verdicts may depend on who runs a statement."""
        return any(self.catalogue.tables[key].secured for key in self.roles)

    def referencing(self, tables: Iterable[Table]) -> list[Table]:
        """The tables and all that reference them, as TRUNCATE … CASCADE finds them."""
        seen = {table.key: table for table in tables}
        grown = True
        while grown:
            grown = False
            for table in self.catalogue.tables.values():
                if table.key not in seen and any(
                    foreign.target in seen for foreign in table.foreign_keys
                ):
                    seen[table.key] = table
                    grown = True
        return list(seen.values())

    def _candidates(self) -> list[Table]:
        return [
            table
            for table in self.catalogue.tables.values()
            if table.kind in {"r", "p", "f"} and not _named(table, self.settings.global_)
        ]

    def _add_roots(self) -> set[TableName]:
        tables = self._candidates()
        if self.settings.root:
            roots = {table.key for table in tables if _named(table, self.settings.root)}
        else:
            roots = {
                foreign.target
                for table in tables
                for foreign in table.foreign_keys
                if len(foreign.columns) == 1 and foreign.columns[0] in self.settings.columns
            } & {table.key for table in tables}
            if len(roots) > 1:
                names = sorted(self.catalogue.tables[key].shown for key in roots)
                self._ambiguous(
                    names[0],
                    "tenant columns reference several tables: " + ", ".join(names),
                    f'set tenancy.root, for example root = ["{names[0]}"]',
                )
        for key in roots:
            table = self.catalogue.tables[key]
            self.roles[key] = Role("root", table, self._root_key(table))
        return roots

    def _root_key(self, table: Table) -> tuple[str, ...]:
        referenced = {
            foreign.target_columns[0]
            for other in self._candidates()
            for foreign in other.foreign_keys
            if foreign.target == table.key and len(foreign.columns) == 1
        }
        if len(referenced) == 1:
            return tuple(referenced)
        primary = [key.columns for key in table.keys if key.primary]
        return primary[0] if primary and len(primary[0]) == 1 else tuple(sorted(referenced))

    def _add_direct(self, roots: set[TableName]) -> None:
        for table in self._candidates():
            if table.key in self.roles:
                continue
            named = [c.name for c in table.columns if c.name in self.settings.columns]
            to_root = [
                foreign.columns[0]
                for foreign in table.foreign_keys
                if foreign.target in roots and len(foreign.columns) == 1
            ]
            columns = [column for column in named if column in to_root] or named or to_root
            columns = list(dict.fromkeys(columns))
            if not columns or _owner_column(table, self.settings):
                continue
            if len(columns) > 1:
                self._ambiguous(
                    table.shown,
                    f"{table.shown} has several tenant columns: " + ", ".join(columns),
                    "name the one that counts in tenancy.columns",
                )
            shared = _named(table, self.settings.shared)
            self.roles[table.key] = Role("direct", table, tuple(columns), shared=shared)

    def _add_owned(self) -> None:
        waiting = [table for table in self._candidates() if table.key not in self.roles]
        grown = True
        while grown:
            grown = False
            for table in waiting:
                if table.key not in self.roles:
                    owners = self._owners(table)
                    if owners:
                        self.roles[table.key] = Role("owned", table, (), owners)
                        grown = True
        for role in self.roles.values():
            if role.kind == "owned":
                # Owners that were themselves found later count as candidates too.
                role.owners = self._owners(role.table)
                role.columns = tuple(dict.fromkeys(c for f in role.owners for c in f.columns))
                self._settle(role)

    def _owners(self, table: Table) -> tuple[ForeignKey, ...]:
        chosen = _owner_column(table, self.settings)
        found = []
        for foreign in table.foreign_keys:
            required = all((c := table.column(n)) and c.not_null for n in foreign.columns)
            if foreign.target not in self.roles or foreign.target == table.key:
                continue
            if chosen in foreign.columns if chosen else required:
                found.append(foreign)
        return tuple(found)

    def _settle(self, role: Role) -> None:
        table = role.table
        if len({(f.columns, f.target) for f in role.owners}) > 1:
            ways = ", ".join(sorted({"+".join(f.columns) for f in role.owners}))
            first = role.owners[0].columns[0]
            self._ambiguous(
                table.shown,
                f"{table.shown} could be owned through several foreign keys: {ways}",
                f'say which in tenancy.owned, for example {{ {table.shown} = "{first}" }}',
            )

    def _inherit(self) -> None:
        """Children take the model of their parent; a parent of tenant tables is `mixed`."""
        grown = True
        while grown:
            grown = False
            for table in self.catalogue.tables.values():
                if _named(table, self.settings.global_):
                    continue
                for parent in table.parents:
                    above, below = self.roles.get(parent), self.roles.get(table.key)
                    if above and above.kind != "mixed" and below is None:
                        role = Role(above.kind, table, above.columns, above.owners, above.shared)
                        self.roles[table.key] = role
                        grown = True
                    elif above is None and below and parent in self.catalogue.tables:
                        whole = self.catalogue.tables[parent]
                        if not _named(whole, self.settings.global_):
                            self.roles[parent] = Role("mixed", whole)
                            grown = True

    def _ambiguous(self, table: str, why: str, fix: str) -> None:
        self.ambiguities.append(Ambiguity(table, why, fix))


def _named(table: Table, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns names the table, with its schema or without."""
    qualified = f"{table.schema}.{table.name}"
    return any(fnmatchcase(table.name, p) or fnmatchcase(qualified, p) for p in patterns)


def _owner_column(table: Table, settings: TenancySettings) -> str:
    """The owner key's column as the settings say, or nothing."""
    for pattern, column in settings.owned:
        if _named(table, (pattern,)):
            return column
    return ""
