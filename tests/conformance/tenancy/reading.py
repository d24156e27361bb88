"""Generated queries: FROM with joins of every kind, conditions with subqueries, select lists.

Laws: LIMIT stands behind an order over all output columns, so that what it cuts is determined;
aggregates that depend on an order have one; row_number orders by all that is selected.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.conformance.tenancy.sources import Source, joined, quoted

if TYPE_CHECKING:
    from tests.conformance.tenancy.pen import Pen

_MOST: Final = 4
"""Occurrences in one FROM."""


@dataclass(slots=True)
class From:
    """A FROM clause in the making."""

    text: str = ""
    sources: list[Source] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    commas: bool = False


@dataclass(slots=True)
class Block:
    """One SELECT with the names and kinds of what it puts out."""

    text: str
    columns: dict[str, str]
    tenant: str = ""
    scoped: bool = False


class Reader:
    """Writes queries with one pen."""

    def __init__(self, pen: Pen) -> None:
        self.pen = pen
        self.derived: list[Source] = []
        """CTEs that may be read from."""

    # -- FROM

    def some(self, near: list[Source]) -> tuple[Source, tuple[str, ...]]:
        """A new occurrence, most often a neighbour of one that is there."""
        pen = self.pen
        world = pen.world
        relation = ""
        if near and pen.chance(0.8):
            known = [n for s in near for n, _ in world.neighbours(s.relation)]
            known = [n for n in known if n not in world.protected]
            relation = pen.draw.choice(known) if known else ""
        if not relation:
            if self.derived and pen.chance(0.3):
                base = pen.draw.choice(self.derived)
                made = Source(
                    pen.name("c"), base.relation, dict(base.columns), base.tenant, None, "derived"
                )
                made.scoped = base.scoped
                return made, ()
            choice = world.views if pen.chance(0.12) else world.tables
            relation = pen.draw.choice([n for n in choice if n not in world.protected])
        return world.source(relation, pen.name(relation.strip("_"))), ()

    def from_clause(self, most: int, outer: list[Source]) -> From:
        made = From()
        count = 1 + sum(self.pen.chance(0.5) for _ in range(min(most, _MOST) - 1))
        for place in range(count):
            source, _ = self.some(made.sources or outer)
            if place == 0:
                self._first(made, source, outer)
            else:
                self._join(made, source, outer)
        return made

    def _first(self, made: From, source: Source, outer: list[Source]) -> None:
        pen = self.pen
        made.sources.append(source)
        correlated = bool(outer) and pen.chance(0.8)
        if correlated:
            made.where.append(self.link(source, outer))
        way = pen.draw.choices(("where", "derived"), (8, 1))[0]
        if way == "derived" and source.kind not in {"derived", "global"}:
            made.text = self._inside(source)
        else:
            made.text = f"{quoted(source.relation)} {source.alias}"
            if not (correlated and source.scoped and pen.chance(0.4)):
                made.where.append(self.tie(source, outer))

    def link(self, source: Source, others: list[Source]) -> str:
        """A condition between this occurrence and one of the others; sets `scoped` by a key."""
        pen = self.pen
        for other in pen.draw.sample(others, len(others)):
            links = [
                link
                for name, link in pen.world.neighbours(source.relation)
                if name == other.relation
            ]
            if links:
                link = pen.draw.choice(links)
                source.scoped = source.scoped or other.scoped
                return joined(link, source, other, whole=pen.chance(0.5))
        other = pen.draw.choice(others)
        if source.tenant and other.tenant and pen.chance(0.6):
            source.scoped = source.scoped or other.scoped
            return f"{source.col(source.tenant)} = {other.col(other.tenant)}"
        for kind in ("int", "text", "time"):
            mine, theirs = source.named(kind), other.named(kind)
            if mine and theirs and pen.chance(0.7):
                sign = pen.draw.choices(("=", ">=", "<>"), (2, 2, 1))[0]
                one, two = pen.draw.choice(mine), pen.draw.choice(theirs)
                return f"{source.col(one)} {sign} {other.col(two)}"
        return ""

    def tie(self, source: Source, others: list[Source]) -> str:
        """A condition that ties it: to a constant, or to the tenant of one that is tied."""
        pen = self.pen
        tied = [o for o in others if o.scoped and o.tenant]
        if source.tenant and tied and pen.chance(0.35):
            if pen.due():
                source.scoped = True
                return f"{source.col(source.tenant)} = {pen.draw.choice(tied).col_tenant}"
            return pen.untied(source.col(source.tenant), source)
        return pen.condition(source)

    def _inside(self, source: Source) -> str:
        """A derived table of the occurrence's relation, tied inside, or spoilt by a barrier."""
        pen = self.pen
        if source.kind == "derived":
            return f"{source.relation} {source.alias}"
        inner = pen.world.source(source.relation, pen.name(source.relation))
        body = f"SELECT * FROM {quoted(source.relation)} {inner.alias}"
        if pen.mode.value != "planted" and source.tenant and pen.chance(0.25):
            # The condition comes too late: behind LIMIT or a window.
            order = (
                inner.col("id") if "id" in inner.columns else inner.col(next(iter(inner.columns)))
            )
            pen.spoilt.append("barrier")
            way = pen.draw.choice(("", " DESC"))
            body += f" ORDER BY {order}{way} LIMIT {pen.draw.randrange(2, 6)}"
            return f"({body}) {source.alias}"
        condition = pen.condition(inner)
        source.scoped = inner.scoped
        return f"({body}{' WHERE ' + condition if condition else ''}) {source.alias}"

    def _join(self, made: From, source: Source, outer: list[Source]) -> None:
        pen = self.pen
        before = list(made.sources)
        kind = pen.draw.choices(
            ("JOIN", ",", "LEFT", "RIGHT", "FULL", "CROSS", "USING", "NATURAL", "LATERAL"),
            (10, 3, 5, 1, 1, 1, 2, 1, 2),
        )[0]
        if made.commas:
            # A comma binds less than JOIN: what stands before it could not be named in ON.
            kind = ","
        if kind == "NATURAL" and len(before) == 1 and self._natural(made, source, before[0]):
            return
        if kind == "LATERAL" and self._lateral(made, source, before):
            return
        if kind == "USING" and self._using(made, source, before):
            return
        if kind in {"NATURAL", "LATERAL", "USING"}:
            kind = "JOIN"
        relation = f"{quoted(source.relation)} {source.alias}"
        made.sources.append(source)
        if kind in {",", "CROSS"}:
            link = self.link(source, before)
            if not (source.scoped and pen.chance(0.5)):
                made.where.append(self.tie(source, before))
            made.where.append(link if kind == "," or pen.chance(0.8) else "")
            made.text += f", {relation}" if kind == "," else f" CROSS JOIN {relation}"
            made.commas = kind == ","
            return
        terms = [self.link(source, before)]
        if kind == "FULL" or (kind == "RIGHT" and pen.chance(0.5)):
            source.scoped = False
            made.text += f" {kind} JOIN {self._inside(source)}"
            terms = (
                terms[:1]
                if terms[0]
                else ["true"]
                if kind == "RIGHT"
                else [self._equal(source, before)]
            )
            made.text += f" ON {' AND '.join(terms)}"
            return
        preserved = kind == "RIGHT"
        if preserved:
            source.scoped = False
        condition = "" if source.scoped and pen.chance(0.4) else self.tie(source, before)
        if condition and (preserved or pen.chance(0.3)):
            if preserved and pen.mode.value != "planted" and pen.chance(0.3):
                pen.spoilt.append("preserved")
                terms.append(condition)
            else:
                made.where.append(condition)
        elif condition:
            terms.append(condition)
        self._misplace(made, kind, terms)
        word = "JOIN" if kind == "JOIN" else f"{kind} JOIN"
        made.text += f" {word} {relation} ON {' AND '.join(filter(None, terms)) or 'true'}"

    def _equal(self, source: Source, before: list[Source]) -> str:
        """FULL JOIN wants an equality."""
        for other in before:
            for name, kind in source.columns.items():
                for theirs, their_kind in other.columns.items():
                    if kind == their_kind:
                        return f"{source.col(name)} = {other.col(theirs)}"
        return "false"

    def _misplace(self, made: From, kind: str, terms: list[str]) -> None:
        """Sometimes move a condition of WHERE into the ON of an outer join, where it is nothing."""
        pen = self.pen
        places = [at for at, condition in enumerate(made.where) if condition]
        if kind == "LEFT" and pen.mode.value != "planted" and places and pen.chance(0.2):
            pen.spoilt.append("left side in ON")
            terms.append(made.where.pop(pen.draw.choice(places)))

    def _using(self, made: From, source: Source, before: list[Source]) -> bool:
        pen = self.pen
        other = before[-1]
        if len(before) > 1 or not source.tenant or source.tenant != other.tenant:
            return False
        if source.kind == "root" or other.kind == "root":
            return False
        names = [source.tenant]
        for name in source.columns:
            same = source.columns[name] == other.columns.get(name)
            if same and name not in names and name != "id" and pen.chance(0.4):
                names.append(name)
        source.scoped = other.scoped
        if not source.scoped:
            made.where.append(self.tie(source, before))
        kind = pen.draw.choice(("JOIN", "JOIN", "LEFT JOIN"))
        made.sources.append(source)
        listed = ", ".join(map(quoted, names))
        made.text += f" {kind} {quoted(source.relation)} {source.alias} USING ({listed})"
        return True

    def _natural(self, made: From, source: Source, other: Source) -> bool:
        """NATURAL JOIN with a few columns of the other relation, under this one's names."""
        pen = self.pen
        links = [k for name, k in pen.world.neighbours(source.relation) if name == other.relation]
        links = [link for link in links if link.child == other.relation]
        if not links or other.kind == "derived" or not source.columns.get("id"):
            return False
        key = links[0].columns[-1]
        chosen = [f"{quoted(links[0].targets[-1])} AS {quoted(key)}"]
        columns = {key: source.columns["id"]}
        if source.tenant and source.tenant == other.tenant and pen.chance(0.7):
            chosen.append(quoted(source.tenant))
            columns[source.tenant] = source.columns[source.tenant]
        else:
            source.tenant = ""
        for kind in ("int", "text"):
            for name in source.named(kind)[:2]:
                if name not in other.columns:
                    chosen.append(quoted(name))
                    columns[name] = kind
        inner = f"SELECT {', '.join(chosen)} FROM {quoted(source.relation)}"
        source.columns, source.kind, source.relation = columns, "derived", ""
        source.scoped = other.scoped
        made.sources.append(source)
        made.text += f" NATURAL JOIN ({inner}) {source.alias}"
        return True

    def _lateral(self, made: From, source: Source, before: list[Source]) -> bool:
        pen = self.pen
        block = self.select(1, before, limited=pen.chance(0.4))
        source.columns, source.tenant, source.kind = block.columns, block.tenant, "derived"
        source.relation, source.owner, source.scoped = "", None, block.scoped
        made.sources.append(source)
        join, on = pen.draw.choice(
            (("CROSS JOIN", ""), ("LEFT JOIN", " ON true"), ("JOIN", " ON true"))
        )
        made.text += f" {join} LATERAL ({block.text}) {source.alias}{on}"
        return True

    # -- conditions

    def conditions(self, made: From, outer: list[Source], depth: int) -> str:
        pen = self.pen
        said = [*made.where]
        said += [pen.plain(source) for source in made.sources if pen.chance(0.2)]
        if depth > 0 and pen.chance(0.4):
            said.append(self.subcondition(made.sources, depth - 1))
        said = [condition for condition in said if condition]
        pen.draw.shuffle(said)
        return f" WHERE {' AND '.join(said)}" if said else ""

    def subcondition(self, outer: list[Source], depth: int) -> str:
        """EXISTS, IN, NOT IN, ANY, ALL, or a comparison with a scalar subquery."""
        pen = self.pen
        way = pen.draw.choice(("exists", "not exists", "in", "not in", "any", "scalar", "all"))
        if way in {"exists", "not exists"}:
            made = self.from_clause(2, outer)
            where = self.conditions(made, outer, depth)
            return f"{way.upper()} (SELECT 1 FROM {made.text}{where})"
        if way == "scalar":
            pair = self._scalar(outer, depth)
            mine = [(s, n) for s in outer for n in s.named("int")]
            if not mine:
                return f"({pair}) IS NOT NULL"
            source, name = pen.draw.choice(mine)
            return f"{source.col(name)} {pen.draw.choice(('>', '<', '=', '<='))} ({pair})"
        keys = [(s, n, k) for s in outer for n, k in s.columns.items() if k in {"int", "text"}]
        keys += [(s, n, k) for s in outer for n, k in s.columns.items() if k == "uuid"]
        if not keys:
            return ""
        source, name, kind = pen.draw.choice(keys)
        inner = self.from_clause(2, outer if pen.chance(0.3) else [])
        where = self.conditions(inner, outer, depth)
        theirs = [(s, n) for s in inner.sources for n, k in s.columns.items() if k == kind]
        link = self._by_key(source, name, inner)
        if link:
            column = link
        elif theirs:
            one, theirs_name = pen.draw.choice(theirs)
            column = one.col(theirs_name)
        else:
            return f"EXISTS (SELECT 1 FROM {inner.text}{where})"
        verb = {"in": "IN", "not in": "NOT IN", "any": "= ANY", "all": "<> ALL"}[way]
        return f"{source.col(name)} {verb} (SELECT {column} FROM {inner.text}{where})"

    def _by_key(self, source: Source, name: str, inner: From) -> str:
        """The column that a foreign key of the outer occurrence references, if it is inside."""
        for relation, link in self.pen.world.neighbours(source.relation):
            for other in inner.sources:
                if (
                    relation == other.relation
                    and name in link.columns
                    and link.child == source.relation
                ):
                    return other.col(link.targets[link.columns.index(name)])
        return ""

    def _scalar(self, outer: list[Source], depth: int) -> str:
        """A subquery that gives one value."""
        pen = self.pen
        made = self.from_clause(2, outer if pen.chance(0.7) else [])
        where = self.conditions(made, outer, depth)
        return f"SELECT {self.aggregate(made.sources)} FROM {made.text}{where}"

    # -- select lists

    def aggregate(self, sources: list[Source]) -> str:
        pen = self.pen
        numbers = [s.col(n) for s in sources for n in s.named("int")]
        if not numbers or pen.chance(0.4):
            return "count(*)"
        return f"{pen.draw.choice(('sum', 'min', 'max', 'count'))}({pen.draw.choice(numbers)})::int"

    def listed(self, sources: list[Source], depth: int) -> list[tuple[str, str, str]]:
        """Some expressions: text, name, kind."""
        pen = self.pen
        made: list[tuple[str, str, str]] = []
        for source in sources:
            keep = [n for n in source.columns if pen.chance(0.4)]
            if source.tenant and pen.chance(0.5):
                keep.append(source.tenant)
            made += [(source.col(n), n, source.columns[n]) for n in dict.fromkeys(keep)]
        if not made:
            source = sources[0]
            name = next(iter(source.columns))
            made.append((source.col(name), name, source.columns[name]))
        if depth > 0 and pen.chance(0.2):
            made.append((f"({self._scalar(sources, depth - 1)})", pen.name("n"), "int"))
        if pen.chance(0.1):
            condition = pen.plain(sources[0])
            made.append((f"CASE WHEN {condition} THEN 1 ELSE 0 END", pen.name("f"), "int"))
        if pen.chance(0.1):
            made.append((self.window(sources), pen.name("w"), "int"))
        return _unlike(made)

    def window(self, sources: list[Source]) -> str:
        pen = self.pen
        source = sources[0]
        names = [n for n in source.columns if n != "id"]
        by = source.col(source.tenant) if source.tenant and pen.chance(0.5) else ""
        if not by and names and pen.chance(0.6):
            by = source.col(pen.draw.choice(names))
        order = source.col(pen.draw.choice(list(source.columns)))
        call = pen.draw.choice(("rank()", "dense_rank()", "count(*)"))
        numbers = source.named("int")
        if numbers and pen.chance(0.4):
            call = f"sum({source.col(pen.draw.choice(numbers))})"
        inside = f"PARTITION BY {by} " if by else ""
        return f"{call} OVER ({inside}ORDER BY {order})::int"

    def select(
        self, most: int, outer: list[Source], *, depth: int = 1, limited: bool = False
    ) -> Block:
        """A plain SELECT; its columns have names that differ."""
        pen = self.pen
        made = self.from_clause(most, outer)
        where = self.conditions(made, outer, depth)
        items = self.listed(made.sources, depth)
        distinct = "DISTINCT " if pen.chance(0.1) else ""
        text = f"SELECT {distinct}{_written(items)} FROM {made.text}{where}"
        if limited:
            text += self.cut(len(items))
        return self._block(text, items, made)

    def cut(self, width: int) -> str:
        pen = self.pen
        way = pen.draw.choice(("", " DESC"))
        order = ", ".join(f"{n}{way}" for n in range(1, width + 1))
        offset = f" OFFSET {pen.draw.randrange(1, 3)}" if pen.chance(0.2) else ""
        limit = f" LIMIT {pen.draw.randrange(1, 6)}"
        if pen.chance(0.15):
            limit, offset = f" OFFSET {pen.draw.randrange(1, 3)}", ""
        return f" ORDER BY {order}{limit}{offset}"

    def _block(self, text: str, items: list[tuple[str, str, str]], made: From) -> Block:
        columns = {name: kind for _, name, kind in items}
        tenant, scoped = "", all(s.scoped or not s.belongs for s in made.sources)
        for source in made.sources:
            if source.tenant and any(
                expression == source.col(source.tenant) and name == source.tenant
                for expression, name, _ in items
            ):
                tenant = source.tenant
                break
        return Block(text, columns, tenant, scoped)

    def grouped(self, most: int, outer: list[Source], *, depth: int = 1) -> Block:
        """GROUP BY, GROUPING SETS, ROLLUP, HAVING."""
        pen = self.pen
        made = self.from_clause(most, outer)
        where_from = made
        keys: list[tuple[str, str, str]] = []
        for source in made.sources:
            names = [n for n in source.columns if pen.chance(0.2)]
            if source.tenant and pen.chance(0.6):
                names.append(source.tenant)
            keys += [(source.col(n), n, source.columns[n]) for n in dict.fromkeys(names)]
        keys = _unlike(keys)[:3]
        having = ""
        if keys and pen.mode.value != "planted" and made.where and pen.chance(0.1):
            pen.spoilt.append("moved to HAVING")
        where = self.conditions(where_from, outer, depth)
        items = [*keys, (self.aggregate(made.sources), pen.name("n"), "int")]
        if pen.chance(0.3):
            items.append((self.aggregate(made.sources), pen.name("n"), "int"))
        text = f"SELECT {_written(items)} FROM {made.text}{where}"
        if keys:
            listed = ", ".join(key[0] for key in keys)
            shape = pen.draw.choices(
                ("{}", "ROLLUP ({})", "CUBE ({})", "GROUPING SETS (({}), ())"), (6, 1, 1, 1)
            )[0]
            text += " GROUP BY " + shape.format(listed)
        if pen.chance(0.25):
            having = f" HAVING {pen.draw.choice(('count(*) > 1', 'count(*) < 4', 'min(1) = 1'))}"
        return self._block(text + having, items, made)


def _unlike(items: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Those whose names are the first of their kind."""
    seen: dict[str, tuple[str, str, str]] = {}
    for item in items:
        seen.setdefault(item[1], item)
    return list(seen.values())


def _written(items: list[tuple[str, str, str]]) -> str:
    return ", ".join(
        text if text.endswith("." + quoted(name)) else f"{text} AS {quoted(name)}"
        for text, name, _ in items
    )
