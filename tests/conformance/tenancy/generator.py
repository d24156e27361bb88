"""Random statements over a schema: planted, near misses and wild ones, of every kind.

Laws: one seed gives one list of statements, whatever is thought of them; a statement says its kind
and its mode, and what was spoilt, for the report only.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.conformance.tenancy.oracle import Experiment
from tests.conformance.tenancy.pen import Mode, Pen
from tests.conformance.tenancy.reading import Block, Reader
from tests.conformance.tenancy.schemas import MEMBER
from tests.conformance.tenancy.sources import Source, World, quoted
from tests.conformance.tenancy.worlds import ME
from tests.conformance.tenancy.writing import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.tenancy.worlds import Worlds

_MODES: Final = {Mode.planted: 10, Mode.near: 6, Mode.wild: 4}
_KINDS: Final = {
    "select": 22,
    "aggregate": 10,
    "set operation": 7,
    "cte": 9,
    "recursive": 3,
    "barrier": 6,
    "distinct on": 2,
    "order and limit": 5,
    "view": 3,
    "row security": 4,
    "insert": 3,
    "insert select": 4,
    "on conflict": 4,
    "update": 5,
    "update from": 4,
    "delete": 3,
    "delete using": 4,
    "merge": 4,
    "modifying cte": 3,
    "by id": 2,
}
_TREES: Final = {"camel": ("User", "managerId"), "snake": ("tasks", "parent_id")}
_PROTECTED: Final = {
    "documents",
    "notes",
    "messages",
    "document_titles",
    "note_bodies",
    "note_bodies_invoker",
}


@dataclass(frozen=True, slots=True)
class Generated:
    """One statement with where it came from."""

    schema: str
    kind: str
    mode: str
    experiment: Experiment
    spoilt: tuple[str, ...] = field(default=())


class Generator:
    """Statements for one schema."""

    def __init__(self, worlds: Worlds, seed: int) -> None:
        self.worlds = worlds
        self.draw = random.Random(f"{seed} {worlds.schema.name}")
        self.world = World(worlds.model, protected=_PROTECTED)
        self.me = worlds.maker.tenant(ME)
        self.stranger = worlds.maker.tenant("b")
        self.slug = f"slug-{ME}-0"

    def __iter__(self) -> Iterator[Generated]:
        while True:
            yield self.one()

    def one(self) -> Generated:
        draw = self.draw
        mode = draw.choices(list(_MODES), list(_MODES.values()))[0]
        kinds = [k for k in _KINDS if k != "row security" or self.worlds.schema.name == "snake"]
        kind = draw.choices(kinds, [_KINDS[k] for k in kinds])[0]
        pen = Pen(draw, self.world, mode, self.me, self.stranger, self.slug)
        role = ""
        if kind == "row security":
            text, role = self._secured(pen)
        else:
            text = self._write(kind, pen)
        return Generated(
            self.worlds.schema.name,
            kind,
            mode.value,
            Experiment(text, tuple(pen.values), role),
            tuple(pen.spoilt),
        )

    def _write(self, kind: str, pen: Pen) -> str:
        read, write = Reader(pen), Writer(pen, self.worlds.mine["full"])
        if kind == "select":
            return read.select(4, [], depth=2).text
        if kind == "aggregate":
            return read.grouped(3, [], depth=2).text
        if kind == "order and limit":
            return read.select(3, [], limited=True).text
        if kind in {"set operation", "cte", "recursive", "barrier", "distinct on", "view"}:
            made = {
                "set operation": self._set,
                "cte": self._cte,
                "recursive": self._recursive,
                "barrier": self._barrier,
                "distinct on": self._distinct_on,
                "view": self._view,
            }[kind]
            return made(pen, read)
        if kind == "by id":
            return self._by_id(pen)
        return {
            "insert": write.insert_values,
            "insert select": write.insert_select,
            "on conflict": write.upsert,
            "update": lambda: write.update(joined=False),
            "update from": lambda: write.update(joined=True),
            "delete": lambda: write.delete(joined=False),
            "delete using": lambda: write.delete(joined=True),
            "merge": write.merge,
            "modifying cte": write.in_cte,
        }[kind]()

    def _set(self, pen: Pen, read: Reader) -> str:
        """Arms over neighbouring tables with columns of the same kinds."""
        kinds = pen.draw.choice((("text",), ("text", "int"), ("int",)))
        arms = [self._arm(pen, read, kinds) for _ in range(pen.draw.choice((2, 2, 2, 3)))]
        words = ("UNION ALL", "UNION", "INTERSECT", "EXCEPT", "EXCEPT ALL")
        text = arms[0]
        for arm in arms[1:]:
            text += f" {pen.draw.choices(words, (4, 4, 2, 3, 1))[0]} {arm}"
        if pen.chance(0.25):
            outer = pen.name("u")
            tail = read.cut(1) if pen.chance(0.3) else ""
            return f"SELECT {outer}.v0 FROM ({text}) {outer}{tail}"
        return text + (read.cut(len(kinds)) if pen.chance(0.2) else "")

    def _arm(self, pen: Pen, read: Reader, kinds: tuple[str, ...]) -> str:
        made = read.from_clause(2, [])
        where = read.conditions(made, [], 1)
        items = []
        for place, kind in enumerate(kinds):
            named = [(s, n) for s in made.sources for n, k in s.columns.items() if k == kind]
            if named:
                source, name = pen.draw.choice(named)
                items.append(f"{source.col(name)} AS v{place}")
            else:
                items.append(f"{'1' if kind == 'int' else repr('none')} AS v{place}")
        return f"(SELECT {', '.join(items)} FROM {made.text}{where})"

    def _cte(self, pen: Pen, read: Reader) -> str:
        """One or two CTEs, read once, twice or never, and joined to tables."""
        ctes = []
        for _ in range(pen.draw.choice((1, 1, 2))):
            block = pen.draw.choice((read.select, read.grouped))(2, [])
            name = pen.name("cte")
            how = pen.draw.choices(("", "MATERIALIZED ", "NOT MATERIALIZED "), (6, 1, 1))[0]
            ctes.append(f"{name} AS {how}({block.text})")
            read.derived.append(
                Source(name, name, block.columns, block.tenant, None, "derived", block.scoped)
            )
        text = f"WITH {', '.join(ctes)} "
        if pen.chance(0.6):
            return text + self._over(pen, read, read.derived[-1])
        return text + read.select(3, []).text

    def _over(self, pen: Pen, read: Reader, base: Source) -> str:
        """A query over a derived relation, filtered by its tenant column if it has one."""
        alias = pen.name("o")
        source = Source(alias, base.relation, base.columns, base.tenant, None, "derived")
        said = [f"{source.col(source.tenant)} = {pen.tenant()}"] if source.tenant else []
        said = [s for s in said if pen.due()]
        if pen.chance(0.5):
            said.append(pen.plain(source))
        where = f" WHERE {' AND '.join(said)}" if said else ""
        items = [source.col(n) for n in source.columns]
        tail = read.cut(len(items)) if pen.chance(0.2) else ""
        return f"SELECT {', '.join(items)} FROM {base.relation} {alias}{where}{tail}"

    def _recursive(self, pen: Pen, read: Reader) -> str:
        """A tree of rows that reference rows of their own table."""
        table, parent = _TREES[self.worlds.schema.name]
        base, step = (
            self.world.source(table, pen.name("b")),
            self.world.source(table, pen.name("s")),
        )
        first = pen.condition(base)
        carried = pen.chance(0.6)
        name = pen.name("r")
        again = f"{step.col(step.tenant)} = {name}.tenant" if carried else pen.condition(step)
        if not pen.due():
            again = ""
        if pen.chance(0.5):
            first = " AND ".join(filter(None, (first, f"{base.col(parent)} IS NULL")))
        tenant = f"{base.col(base.tenant)} AS tenant"
        value = step.col(step.tenant) if pen.chance(0.7) else f"{name}.tenant"
        extra = f" AND {again}" if again else ""
        where = f" WHERE {first}" if first else ""
        return (
            f"WITH RECURSIVE {name} AS (SELECT {base.col('id')}, {tenant}, 1 AS depth"
            f" FROM {quoted(table)} {base.alias}{where} UNION ALL"
            f" SELECT {step.col('id')}, {value}, {name}.depth + 1 FROM {quoted(table)} {step.alias}"
            f" JOIN {name} ON {step.col(parent)} = {name}.id{extra} WHERE {name}.depth < 4)"
            f" SELECT id, depth FROM {name}"
        )

    def _barrier(self, pen: Pen, read: Reader) -> str:
        """A derived table with LIMIT, a window, DISTINCT or a group, and a condition outside."""
        way = pen.draw.choice(("limit", "window", "distinct", "group", "offset 0"))
        alias = pen.name("x")
        if way == "group":
            block = read.grouped(2, [])
        else:
            block = read.select(2, [], limited=way == "limit")
        text = block.text + (" OFFSET 0" if way == "offset 0" else "")
        columns = dict(block.columns)
        if way == "window":
            by = quoted(block.tenant) if block.tenant and pen.chance(0.6) else "1"
            inner = pen.name("y")
            order = quoted(next(iter(columns)))
            text = (
                f"SELECT {inner}.*, rank() OVER (PARTITION BY {inner}.{by} ORDER BY {order})::int"
                f" AS place FROM ({block.text}) {inner}"
                if by != "1"
                else f"SELECT {inner}.*, rank() OVER (ORDER BY {order})::int AS place"
                f" FROM ({block.text}) {inner}"
            )
            columns["place"] = "int"
        elif way == "distinct":
            text = f"SELECT DISTINCT * FROM ({block.text}) {pen.name('y')}"
        return self._over(
            pen, read, Source("", f"({text})", columns, block.tenant, None, "derived", block.scoped)
        ).replace(") x", ") " + alias, 0)

    def _distinct_on(self, pen: Pen, read: Reader) -> str:
        block: Block = read.select(2, [])
        alias = pen.name("d")
        on = list(block.columns)[:1]
        if block.tenant and pen.chance(0.5):
            on = [block.tenant]
        order = ", ".join([*map(quoted, on), *(quoted(n) for n in block.columns if n not in on)])
        listed = ", ".join(map(quoted, on))
        text = f"(SELECT DISTINCT ON ({listed}) * FROM ({block.text}) {alias} ORDER BY {order})"
        return self._over(pen, read, Source("", text, block.columns, block.tenant))

    def _view(self, pen: Pen, read: Reader) -> str:
        names = [n for n in self.world.views if n not in self.world.protected]
        source = self.world.source(pen.draw.choice(names), pen.name("v"))
        said = [pen.condition(source)]
        if pen.chance(0.4):
            said.append(pen.plain(source))
        said = [condition for condition in said if condition]
        where = f" WHERE {' AND '.join(said)}" if said else ""
        items = ", ".join(source.col(n) for n in source.columns)
        return f"SELECT {items} FROM {quoted(source.relation)} {source.alias}{where}"

    def _secured(self, pen: Pen) -> tuple[str, str]:
        """Tables with row level security, under a role that it binds or does not."""
        role = MEMBER if pen.chance(0.6) else ""
        one = self.world.source(pen.draw.choice(sorted(_PROTECTED)), pen.name("p"))
        said = [pen.plain(one)] if pen.chance(0.5) else []
        if pen.chance(0.3):
            said.append(pen.condition(one))
        said = [condition for condition in said if condition]
        where = f" WHERE {' AND '.join(said)}" if said else ""
        name = quoted(one.relation)
        if one.kind != "view" and pen.chance(0.25):
            write = Writer(pen, self.worlds.mine["full"])
            return f"UPDATE {name} AS {one.alias} SET {write.changed(one, [])}{where}", role
        if pen.chance(0.3):
            return f"SELECT count(*)::int FROM {name} {one.alias}{where}", role
        items = ", ".join(one.col(n) for n in one.columns)
        return f"SELECT {items} FROM {name} {one.alias}{where}", role

    def _by_id(self, pen: Pen) -> str:
        write = Writer(pen, self.worlds.mine["full"])
        source = write.target(new=True)
        while "id" not in source.columns:
            source = write.target(new=True)
        key = f"{source.col('id')} = {write.mine(source.relation, 'id')}"
        items = ", ".join(source.col(n) for n in source.columns)
        return f"SELECT {items} FROM {quoted(source.relation)} {source.alias} WHERE {key}"
