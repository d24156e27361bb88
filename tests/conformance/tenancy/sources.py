"""What a generated statement reads from: relations with their columns, and how one finds another.

Laws: names are written quoted only where they must be; a `Source` is one occurrence under its
alias; nothing here knows what is scoped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pgguard.tenancy.catalogue import Table
    from pgguard.tenancy.model import Model

_PLAIN_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*")
_KINDS: Final = {
    "int2": "int",
    "int4": "int",
    "int8": "int",
    "numeric": "int",
    "text": "text",
    "varchar": "text",
    "bool": "bool",
    "date": "time",
    "timestamp": "time",
    "timestamptz": "time",
    "uuid": "uuid",
}


def quoted(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else f'"{name}"'


@dataclass(slots=True)
class Source:
    """One occurrence: `columns` maps names to `text`, `int`, `bool`, `time` or `uuid`."""

    alias: str
    relation: str
    columns: dict[str, str]
    tenant: str = ""
    """The column that says the tenant; empty if none is to be seen."""
    owner: tuple[str, str, str] | None = None
    """Of an owned table: its owner key, the owner and the column referenced."""
    kind: str = "global"
    """`root`, `direct`, `owned`, `global`, `view` or `derived`."""
    scoped: bool = False
    """Whether the generator has tied it to the tenant."""

    def col(self, name: str) -> str:
        return f"{self.alias}.{quoted(name)}"

    def named(self, kind: str) -> list[str]:
        """Columns of one kind that are no keys."""
        return [n for n, k in self.columns.items() if k == kind and not is_key(n)]

    @property
    def col_tenant(self) -> str:
        return self.col(self.tenant)

    @property
    def belongs(self) -> bool:
        """Whether rows of it belong to tenants."""
        return self.kind != "global"


class Link(NamedTuple):
    """A foreign key: `columns` of `child` reference `targets` of `parent`."""

    child: str
    columns: tuple[str, ...]
    parent: str
    targets: tuple[str, ...]


def is_key(name: str) -> bool:
    return name in {"id", "A", "B"} or name.endswith(("Id", "_id"))


@dataclass(slots=True)
class World:
    """The relations of one schema as the generator sees them."""

    model: Model
    tables: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    protected: set[str] = field(default_factory=set)
    """Tables with row level security, and views over them."""
    uniques: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    _made: dict[str, Source] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for table in sorted(self.model.catalogue.tables.values(), key=lambda table: table.key):
            if table.schema != "public" or table.name.startswith("_prisma"):
                continue
            if any(self.model.catalogue.tables[p].kind == "p" for p in table.parents):
                continue
            (self.views if table.kind == "v" else self.tables).append(table.name)
            self._made[table.name] = self._source(table)
            self.uniques[table.name] = [key.columns for key in table.keys]
            self.links += [
                Link(table.name, f.columns, f.target[1], f.target_columns)
                for f in table.foreign_keys
            ]

    def _source(self, table: Table) -> Source:
        role = self.model.roles.get(table.key)
        columns = {c.name: _KINDS[c.type] for c in table.columns if c.type in _KINDS}
        made = Source("", table.name, columns)
        if table.kind == "v":
            made.kind = "view"
            made.tenant = next((c for c in self.model.settings.columns if c in columns), "")
        elif role is not None:
            made.kind = role.kind
            if role.kind == "owned":
                foreign = role.owners[0]
                made.owner = (foreign.columns[0], foreign.target[1], foreign.target_columns[0])
            else:
                made.tenant = role.columns[0]
        return made

    def source(self, relation: str, alias: str) -> Source:
        made = self._made[relation]
        return Source(
            alias, relation, dict(made.columns), made.tenant, made.owner, made.kind, scoped=False
        )

    def neighbours(self, relation: str) -> list[tuple[str, Link]]:
        """Relations that a foreign key ties to this one, in either direction."""
        return [
            (link.parent if link.child == relation else link.child, link)
            for link in self.links
            if relation in {link.child, link.parent} and self._tenants_only(link)
        ]

    def _tenants_only(self, link: Link) -> bool:
        """Not every table's key to the root: everything would be everybody's neighbour."""
        return self._made[link.parent].kind != "root" or self._made[link.child].kind == "root"


def joined(link: Link, one: Source, other: Source, *, whole: bool) -> str:
    """The condition that ties two occurrences by a foreign key; `whole` with all its columns."""
    child, parent = (one, other) if link.child == one.relation else (other, one)
    pairs = list(zip(link.columns, link.targets, strict=True))
    if not whole:
        pairs = pairs[-1:]
    return " AND ".join(f"{child.col(mine)} = {parent.col(theirs)}" for mine, theirs in pairs)
