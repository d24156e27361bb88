"""Generated statements that write: INSERT, UPDATE, DELETE and MERGE in all their shapes.

Laws: keys of new rows are made so that they collide with nobody's; what a statement writes is
determined by its text and the rows, so that two runs in one world are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.conformance.tenancy.reading import Reader
from tests.conformance.tenancy.rows import words
from tests.conformance.tenancy.sources import Source, is_key, quoted

if TYPE_CHECKING:
    from tests.conformance.tenancy.pen import Pen
    from tests.conformance.tenancy.rows import Row, Rows

_NEW: Final = 700
"""Where the numbers of new keys start."""


class Writer:
    """Writes statements that change rows; `rows` are the judged tenant's in the full base."""

    def __init__(self, pen: Pen, rows: Rows) -> None:
        self.pen = pen
        self.read = Reader(pen)
        self.rows = {key[1]: there for key, there in rows.items()}

    # -- choices

    def target(self, *, new: bool = False) -> Source:
        """A base table; `new` one that rows can be put into."""
        pen, world = self.pen, self.pen.world
        tables = [
            name
            for name in world.tables
            if name not in world.protected
            and not (new and name == "Setting")
            and not (new and world.source(name, "").kind in {"root", "global"})
        ]
        chosen = pen.draw.choice(tables)
        return world.source(chosen, pen.name(chosen.strip("_")))

    def fresh(self, kind: str) -> str:
        """A new key as a literal."""
        number = _NEW + self.pen.draw.randrange(200)
        if kind == "uuid":
            return f"'0e{number:06x}-0000-4000-8000-{number:012x}'"
        return f"'new-{number}'" if kind == "text" else str(90_000 + number)

    def mine(self, relation: str, column: str) -> str:
        """A value that a row of the judged tenant has there."""
        rows = self.rows.get(relation) or []
        value = self.pen.draw.choice(rows)[column] if rows else None
        if value is None:
            return "NULL"
        return self.pen.value(value) if self.pen.style == "parameter" else f"'{value}'"

    def literal(self, name: str, kind: str) -> str:
        draw = self.pen.draw
        if kind == "text":
            return f"'{draw.choice(words(name))}'"
        if kind == "bool":
            return draw.choice(("true", "false"))
        if kind == "time":
            return f"'2025-0{draw.randrange(1, 9)}-11'"
        return str(draw.randrange(1, 9)) if kind == "int" else self.fresh(kind)

    def changed(self, target: Source, others: list[Source]) -> str:
        """SET items for columns that are no keys."""
        pen = self.pen
        unique = {c for key in pen.world.uniques[target.relation] for c in key}
        names = [
            n for n in target.columns if n != target.tenant and not is_key(n) and n not in unique
        ]
        if not names:
            return ""
        items = []
        for name in pen.draw.sample(names, min(len(names), pen.draw.choice((1, 1, 2)))):
            kind = target.columns[name]
            value = self.literal(name, kind)
            if kind == "int" and pen.chance(0.4):
                value = f"{target.col(name)} + {pen.draw.randrange(1, 4)}"
            elif kind == "int" and pen.chance(0.25):
                value = f"({self.read._scalar([target, *others], 0)})"
            items.append(f"{quoted(name)} = {value}")
        return ", ".join(items)

    def returning(self, target: Source) -> str:
        if not self.pen.chance(0.3):
            return ""
        return f" RETURNING {', '.join(target.col(n) for n in list(target.columns)[:3])}"

    # -- UPDATE and DELETE

    def update(self, *, joined: bool) -> str:
        target = self.target()
        others, condition = self._reached(target, joined=joined)
        items = self.changed(target, [])
        if not items:
            return self.delete(joined=joined)
        name = f"{quoted(target.relation)} AS {target.alias}"
        return f"UPDATE {name} SET {items}{' FROM ' + others if others else ''}{condition}" + (
            self.returning(target)
        )

    def delete(self, *, joined: bool) -> str:
        leaves = {
            "NoteReaction",
            "_BookingToTag",
            "Invoice",
            "BookingAddOn",
            "Session",
            "Template",
            "attachments",
            "events",
            "audit_log",
            "labels",
            "BookingNote",
            "comments",
        }
        target = self.target()
        while target.relation not in leaves:
            target = self.target()
        others, condition = self._reached(target, joined=joined)
        name = f"{quoted(target.relation)} AS {target.alias}"
        return f"DELETE FROM {name}{' USING ' + others if others else ''}{condition}" + (
            self.returning(target)
        )

    def _reached(self, target: Source, *, joined: bool) -> tuple[str, str]:
        """FROM or USING, and WHERE."""
        pen, read = self.pen, self.read
        if not joined:
            said = [pen.condition(target)]
            if pen.chance(0.5):
                said.append(pen.plain(target))
            if pen.chance(0.3):
                said.append(read.subcondition([target], 1))
            said = [condition for condition in said if condition]
            return "", f" WHERE {' AND '.join(said)}" if said else ""
        made = read.from_clause(2, [])
        link = read.link(target, made.sources)
        tie = "" if target.scoped and pen.chance(0.5) else read.tie(target, made.sources)
        made.where += [link, tie]
        return made.text, read.conditions(made, [], 1)

    # -- INSERT

    def _row(self, target: Source, tenant: str) -> tuple[list[str], list[str]]:
        """Columns and values of one new row."""
        names, values = [], []
        references = {
            link.columns[-1]: (link.parent, link.targets[-1])
            for link in self.pen.world.links
            if link.child == target.relation
        }
        unique = {c for key in self.pen.world.uniques[target.relation] for c in key}
        for name, kind in target.columns.items():
            if name == target.tenant:
                value = tenant
            elif name in references:
                value = self.mine(*references[name])
            elif name == "id":
                value = self.fresh(kind)
            elif name in unique and kind == "text":
                value = f"'new-{_NEW + self.pen.draw.randrange(100)}'"
            elif name in unique and kind == "int":
                value = str(_NEW + self.pen.draw.randrange(100))
            else:
                value = self.literal(name, kind)
            names.append(quoted(name))
            values.append(value)
        return names, values

    def _tenant_value(self) -> str:
        """What a new row's tenant is: the judged one, or, as a literal, another."""
        pen = self.pen
        if pen.due():
            return pen.tenant()
        pen.spoilt.append("another tenant")
        return f"'{pen.stranger}'"

    def insert_values(self) -> str:
        """One row or several, at times of two tenants."""
        pen = self.pen
        target = self.target(new=True)
        while target.owner and pen.chance(0.8):
            target = self.target(new=True)
        mine = pen.tenant()
        names, values = self._row(target, mine)
        rows = [f"({', '.join(values)})"]
        if not pen.due() and target.tenant:
            pen.spoilt.append("two tenants")
            mine = f"'{pen.me}'"
            rows = [
                f"({', '.join(self._row(target, tenant)[1])})"
                for tenant in (mine, f"'{pen.stranger}'")
            ]
        elif pen.chance(0.2):
            rows.append(f"({', '.join(self._row(target, mine)[1])})")
        return (
            f"INSERT INTO {quoted(target.relation)} ({', '.join(names)}) VALUES {', '.join(rows)}"
        )

    def insert_select(self) -> str:
        """The rows of a table once more, under new keys."""
        pen = self.pen
        target = self.target(new=True)
        while target.kind != "direct" or len(pen.world.uniques[target.relation]) > 2:
            target = self.target(new=True)
        source = pen.world.source(target.relation, pen.name("s"))
        condition = pen.condition(source)
        carried = pen.chance(0.5)
        unique = {c for key in pen.world.uniques[target.relation] for c in key}
        names, values = [], []
        for name, kind in target.columns.items():
            column = source.col(name)
            if name == target.tenant and not carried:
                column = self._tenant_value()
            elif name == "id" and kind == "uuid":
                column = f"('0e' || substr({column}::text, 3))::uuid"
            elif name == "id" or (name in unique and not is_key(name) and name != target.tenant):
                column = {"text": f"'new-' || {column}", "int": f"{column} + 90000"}.get(
                    kind, column
                )
            names.append(quoted(name))
            values.append(column)
        where = f" WHERE {condition}" if condition else ""
        return (
            f"INSERT INTO {quoted(target.relation)} ({', '.join(names)}) SELECT"
            f" {', '.join(values)} FROM {quoted(source.relation)} {source.alias}{where}"
        )

    def upsert(self) -> str:
        """ON CONFLICT on a key with the tenant, on one without it, or DO NOTHING."""
        pen = self.pen
        target = self.target(new=True)
        while not target.tenant or target.relation in {"events", "audit_log"}:
            target = self.target(new=True)
        keys = pen.world.uniques[target.relation]
        with_tenant = [key for key in keys if target.tenant in key]
        met = pen.due() and bool(with_tenant)
        key = pen.draw.choice(with_tenant if met else keys)
        names, values = self._row(target, pen.tenant())
        there = self.rows.get(target.relation) or [{}]
        row: Row = pen.draw.choice(there)
        for place, name in enumerate(target.columns):
            if name in key and name != target.tenant and name in row and pen.chance(0.8):
                values[place] = f"'{row[name]}'"
        items = self.changed(target, [])
        listed = ", ".join(map(quoted, key))
        text = f"INSERT INTO {quoted(target.relation)} AS {target.alias} ({', '.join(names)})"
        text += f" VALUES ({', '.join(values)}) ON CONFLICT "
        if pen.chance(0.2) or not items:
            return text + f"({listed}) DO NOTHING"
        text += f"({listed}) DO UPDATE SET {items}"
        if not met and pen.chance(0.5):
            condition = pen.own(target.col(target.tenant), target)
            text += f" WHERE {condition}" if condition else ""
        return text

    # -- MERGE

    def merge(self) -> str:
        pen = self.pen
        target = self.target(new=True)
        while target.kind != "direct" or target.relation in {"events", "audit_log"}:
            target = self.target(new=True)
        source, _ = self.read.some([target])
        condition = pen.condition(source) if source.kind != "derived" else ""
        where = f" WHERE {condition}" if condition else ""
        body = f"(SELECT * FROM {quoted(source.relation)} {source.alias}{where}) {source.alias}"
        link = self.read.link(target, [source])
        tie = self.read.tie(target, [source])
        on = " AND ".join(filter(None, (link, tie))) or "true"
        items = self.changed(target, [])
        text = f"MERGE INTO {quoted(target.relation)} AS {target.alias} USING {body} ON {on}"
        actions = []
        if items and pen.chance(0.8):
            late = f" AND {pen.plain(target)}" if pen.chance(0.3) else ""
            actions.append(f" WHEN MATCHED{late} THEN UPDATE SET {items}")
        if pen.chance(0.3) or not actions:
            names, values = self._row(target, pen.tenant())
            actions.append(
                f" WHEN NOT MATCHED THEN INSERT ({', '.join(names)}) VALUES ({', '.join(values)})"
            )
        return text + "".join(actions)

    def in_cte(self) -> str:
        """A CTE that modifies data and a query over what it returns."""
        pen = self.pen
        inner = pen.draw.choice((self.update, self.delete))(joined=pen.chance(0.3))
        if " RETURNING " not in inner:
            alias = inner.split(" AS ", 1)[1].split(None, 1)[0]
            inner += f" RETURNING {alias}.*"
        name = pen.name("d")
        other = self.read.select(1, [])
        if pen.chance(0.5):
            return f"WITH {name} AS ({inner}) SELECT count(*)::int FROM {name}"
        return f"WITH {name} AS ({inner}) {other.text}"
