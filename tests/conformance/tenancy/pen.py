"""How generated statements tie an occurrence to the tenant, and how they fail to.

A `Pen` writes one statement. Each occurrence of a tenant table is an *obligation*: it is met in one
of many ways, or, as the statement's mode wants, spoilt in one of many. The generator means well or
ill; what is true the experiment alone decides.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from tests.conformance.tenancy.rows import words
from tests.conformance.tenancy.sources import Source, World, quoted

if TYPE_CHECKING:
    import random


class Mode(Enum):
    planted = "planted"
    """Every obligation is met."""
    near = "near miss"
    """All but one."""
    wild = "wild"
    """As chance will have it."""


WHERE: Final = "where"
ON: Final = "on"


class Pen:
    """The state of one statement while it is written."""

    def __init__(
        self, draw: random.Random, world: World, mode: Mode, me: str, stranger: str, slug: str
    ) -> None:
        self.draw = draw
        self.world = world
        self.mode = mode
        self.me = me
        self.stranger = stranger
        self.slug = slug
        self.style = draw.choices(("parameter", "literal", "setting"), (6, 3, 1))[0]
        self.values: list[str] = []
        self.ctes: list[str] = []
        self.recursive = False
        self._names = 0
        self._spoil_at = draw.choices((0, 1, 2), (6, 3, 1))[0] if mode is Mode.near else -1
        self._obligations = 0
        self.spoilt: list[str] = []

    def chance(self, share: float) -> bool:
        return self.draw.random() < share

    def name(self, start: str) -> str:
        self._names += 1
        return f"{start[0].lower()}{self._names}"

    def tenant(self) -> str:
        """An expression that is the judged tenant."""
        if self.style == "literal":
            return f"'{self.me}'"
        if self.style == "setting":
            kind = "uuid" if len(self.me) > 20 else "text"
            if kind == "uuid" and self.chance(0.5):
                return "current_tenant()"
            return "current_setting('app.tenant_id')" + ("::uuid" if kind == "uuid" else "")
        return self.value(self.me)

    def value(self, text: str) -> str:
        """A parameter with this value."""
        if text not in self.values or self.chance(0.15):
            self.values.append(text)
        return f"${len(self.values) - self.values[::-1].index(text)}"

    def array(self, *items: str) -> str:
        return f"ARRAY[{', '.join(items)}]" + ("::uuid[]" if len(self.me) > 20 else "")

    def due(self) -> bool:
        """Whether the next obligation is to be met."""
        self._obligations += 1
        if self.mode is Mode.planted:
            return True
        if self.mode is Mode.near:
            return self._obligations - 1 != self._spoil_at
        return self.chance(0.55)

    # -- conditions on one tenant column

    def tied(self, column: str, source: Source) -> str:
        """A condition that names the tenant of a column, in one of the ways that count."""
        me = self.tenant
        root = self._root()
        ways = [
            lambda: f"{column} = {me()}",
            lambda: f"{me()} = {column}",
            lambda: f"{column} IN ({me()})",
            lambda: f"{column} = ANY ({self.array(me())})",
            lambda: f"NOT ({column} <> {me()})",
            lambda: f"{column} IS NOT DISTINCT FROM {me()}",
            lambda: f"({column} = {me()}) IS TRUE",
            lambda: f"({column} = {me()} AND {self.plain(source)})",
            lambda: (
                f"({column} = {me()} AND {self.plain(source)}"
                f" OR {column} = {me()} AND {self.plain(source)})"
            ),
            lambda: f"{column} BETWEEN {me()} AND {me()}" if self.style != "setting" else "",
            lambda: f"CASE WHEN {self.plain(source)} THEN {column} = {me()} ELSE false END",
            lambda: f"{column} IN (SELECT id FROM {root} WHERE slug = '{self.slug}')",
            lambda: f"{column} = (SELECT id FROM {root} WHERE slug = '{self.slug}')",
            lambda: self._exists(column),
        ]
        weights = (24, 2, 3, 2, 1, 1, 1, 2, 2, 1, 1, 2, 2, 2)
        return self.draw.choices(ways, weights)[0]() or f"{column} = {me()}"

    def untied(self, column: str, source: Source) -> str:
        """A condition that looks like one and is none; may be empty."""
        me = self.tenant
        both = self.array(f"'{self.me}'", f"'{self.stranger}'")
        ways = {
            "dropped": lambda: "",
            "or": lambda: f"({column} = {me()} OR {self.plain(source)})",
            "not": lambda: f"NOT ({column} = {me()})",
            "unequal": lambda: f"{column} <> {me()}",
            "itself": lambda: f"{column} = {column}",
            "at least": lambda: f"{column} >= {me()}",
            "known": lambda: f"{column} IS NOT NULL",
            "not false": lambda: f"({column} = {me()}) IS NOT FALSE",
            "perhaps": lambda: f"({column} = {me()}) IS NOT NULL",
            "row": lambda: f"({column}, 0) >= ({me()}, 0)",
            "case": lambda: f"CASE WHEN {self.plain(source)} THEN {column} = {me()} ELSE true END",
            "all": lambda: f"{column} = ALL ('{{}}')",
            "not in": lambda: f"{column} NOT IN ({me()})",
            "or in": lambda: f"{column} = ANY ({both})",
        }
        names = list(ways)
        chosen = self.draw.choices(names, (8, 5, 2, 2, 2, 2, 2, 1, 1, 1, 1, 0, 1, 1))[0]
        self.spoilt.append(chosen)
        return ways[chosen]()

    def own(self, column: str, source: Source) -> str:
        """The condition of the next obligation, met or not."""
        if self.due():
            source.scoped = True
            return self.tied(column, source)
        return self.untied(column, source)

    def owned(self, source: Source) -> str:
        """A condition that reaches the tenant of an owned table through its owner."""
        assert source.owner is not None
        key, relation, target = source.owner
        owner = self.world.source(relation, self.name(relation))
        column = source.col(key)
        inner = self.owned(owner) if owner.owner else self.own(owner.col(owner.tenant), owner)
        source.scoped = owner.scoped
        body = f"FROM {quoted(relation)} {owner.alias}"
        if self.chance(0.5):
            inner = f"{inner} AND " if inner else ""
            return f"EXISTS (SELECT 1 {body} WHERE {inner}{owner.col(target)} = {column})"
        inner = f" WHERE {inner}" if inner else ""
        verb = self.draw.choice(("IN", "= ANY"))
        return f"{column} {verb} (SELECT {owner.col(target)} {body}{inner})"

    def condition(self, source: Source) -> str:
        """What ties this occurrence, or fails to."""
        if source.kind == "root":
            if self.chance(0.3) and self.due():
                source.scoped = True
                return f"{source.col('slug')} = '{self.slug}'"
            return self.own(source.col("id"), source)
        if source.owner:
            return self.owned(source)
        if source.tenant:
            return self.own(source.col(source.tenant), source)
        return ""

    def _root(self) -> str:
        role = next(r for r in self.world.model.roles.values() if r.kind == "root")
        return quoted(role.table.name)

    def _exists(self, column: str) -> str:
        alias = self.name("t")
        return (
            f"EXISTS (SELECT 1 FROM {self._root()} {alias}"
            f" WHERE {alias}.id = {column} AND {alias}.slug = '{self.slug}')"
        )

    # -- conditions that say nothing of tenants

    def plain(self, source: Source) -> str:
        """A condition on a column that is no key."""
        names = [n for n in source.columns if n != source.tenant and not n.endswith(("Id", "_id"))]
        names = [n for n in names if n not in {"id", "A", "B"}]
        if not names:
            return f"{source.col(next(iter(source.columns)))} IS NOT NULL"
        name = self.draw.choice(names)
        column, kind = source.col(name), source.columns[name]
        number = self.draw.randrange(1, 7)
        word, other = self.draw.choice(words(name)), self.draw.choice(words(name))
        ways = {
            "text": [
                f"{column} = '{word}'",
                f"{column} <> '{word}'",
                f"{column} IN ('{word}', '{other}')",
                f"{column} LIKE '%{word[-1:]}%'",
                f"{column} IS NOT NULL",
                f"lower({column}) >= '{word[:1].lower()}'",
                f"length({column}) > {number // 2}",
            ],
            "int": [
                f"{column} > {number // 2}",
                f"{column} <= {number + 2}",
                f"{column} BETWEEN {number - 3} AND {number + 3}",
                f"{column} % 2 = {number % 2}",
                f"COALESCE({column}, {number}) > {number - 2}",
            ],
            "bool": [column, f"NOT {column}", f"{column} IS NOT NULL"],
            "time": [f"{column} >= '2024-0{number}-01'", f"{column} < '2025-0{number + 3}-01'"],
            "uuid": [f"{column} IS NOT NULL"],
        }
        return self.draw.choice(ways[kind])
