"""What stands in FROM: tables, views, common table expressions, functions and joins (F4, F6).

Laws: the condition of an outer join says something about its nullable side alone, whose rows are
seen from outside through a link that may be NULL; a name that may mean several relations is tried
with each (`variant`); views are read like subqueries, by the names of the default search_path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgguard.sql.plan.nodes import Derived, Join, Relation, Rows, Select
from pgguard.tenancy import rowsecurity
from pgguard.tenancy.environment import Environment, Link
from pgguard.tenancy.occurrences import Item, Known, Occurrence, Scope, Tables, View
from pgguard.tenancy.terms import OUTER, STAR, Output, Terms

if TYPE_CHECKING:
    from pgguard.sql.plan.nodes import Predicate, Query, Source, Write
    from pgguard.sql.statement import Constant, Name
    from pgguard.tenancy.catalogue import Table

MOST_TABLES: Final = 60
"""Uses of tables in one statement that are proved."""


class SourceWalker(Terms):
    """Reads FROM."""

    __slots__ = ()

    def query(
        self,
        query: Query,
        env: Environment,
        outer: Scope | None,
        tables: Tables | None,
        *,
        alone: bool = False,
        unread: bool = False,
    ) -> list[Output]:
        raise NotImplementedError

    def recursive(self, known: Known, env: Environment) -> list[Output]:
        raise NotImplementedError

    def are_constant(self, constants: frozenset[Constant]) -> bool:
        raise NotImplementedError

    def assume(self, said: Predicate, env: Environment, scope: Scope) -> None:
        raise NotImplementedError

    def aside(self, queries: tuple[Query, ...], env: Environment, scope: Scope) -> None:
        raise NotImplementedError

    def write(
        self, write: Write, env: Environment, outer: Scope | None, tables: Tables | None
    ) -> list[Output]:
        raise NotImplementedError

    def source(self, source: Source, env: Environment, scope: Scope) -> list[Item]:
        """The items that something in FROM brings."""
        if isinstance(source, Relation):
            return [self._relation(source, env, scope)]
        if isinstance(source, Join):
            self.depth += 1
            if self.depth > 150:
                self.give_up("it has too many joins in joins to be proved")
            items = self._join(source, env, scope)
            self.depth -= 1
            return items
        if isinstance(source, Derived):
            outer = scope if source.lateral else scope.outer
            unread = self.unread(source.query, source.alias)
            outputs = self.query(source.query, env, outer, scope.tables, unread=unread)
            return [_item(source.alias, source.columns, outputs)]
        assert isinstance(source, Rows)
        self.aside(source.queries, env, scope)
        if source.elements is not None and self.are_constant(frozenset({source.elements})):
            term = self.fresh(env)
            env.given.append((term, frozenset({source.elements})))
            name = source.columns[0] if source.columns else source.alias
            return [Item(source.alias, [name], {name: term})]
        names = None if source.free else list(source.columns)
        return [Item(source.alias, names, dict.fromkeys(source.columns))]

    def unread(self, query: Query, called: str) -> bool:
        """Whether nobody reads what windows make in a query that is called so where it stands: then
        they are none, for a window takes no row away."""
        said = self.said
        if said is None or not isinstance(query, Select) or not query.over or said.renames:
            return False
        if "" in said.stars or called in said.stars or called in said.words:
            return False
        return not any(name in said.words or name in said.attributes for name in query.over)

    def _relation(self, source: Relation, env: Environment, scope: Scope) -> Item:
        name = source.name
        known = scope.tables.find(name.name) if scope.tables and not name.schema else None
        if known is not None:
            return self._common(source, known, env)
        table = self.find(name)
        if table is None:
            return Item(source.alias or name.name, None)
        if table.kind in {"v", "m"} and self.model.touches(table):
            return self._view(source, table, env)
        return self.item_of(self.occurrence(table, source, env), source)

    def find(self, name: Name) -> Table | None:
        """The table of that name, by the variant that is tried."""
        tables = self.model.find(name)
        if self.view is not None and not name.schema and len(tables) > 1:
            for schema in self.model.catalogue.search_path:
                for table in tables:
                    if table.schema == schema:
                        return table
        if len(tables) > 1:
            tables = [table for table in tables if self.model.touches(table)] or tables
        return tables[self.variant % len(tables)] if tables else None

    def occurrence(
        self, table: Table, source: Relation, env: Environment, use: str = "read"
    ) -> Occurrence:
        """A new use of a table."""
        role = self.model.roles.get(table.key)
        self.tables += 1
        if self.tables > MOST_TABLES:
            self.give_up("it uses too many tables to be proved")
        if role is not None and role.kind == "mixed":
            self.give_up(f"{table.shown} is a parent of tenant tables")
        one = Occurrence(table, role, source.alias, env, source.position, use)
        one.condition, one.named = self.condition, self.several
        one.outer = self.outer_side
        if self.view is not None:
            view, called = self.view
            one.inside, one.position = view.shown, -1
            one.alias = f"{called}.{source.alias or source.name.name}"
        self.occurrences.append(one)
        if role is not None:
            if role.kind == "owned":
                one.tenant = [self.fresh(env, (one, "")) for _ in role.owners]
            else:
                one.tenant = [self.term(one, column) for column in role.columns]
            setting = rowsecurity.setting(self.model, table, use, self.users, self.views)
            if setting is not None:
                for term in one.tenant:
                    env.given.append((term, setting))
        return one

    def item_of(self, one: Occurrence, source: Relation) -> Item:
        """The item of a table, its columns perhaps under other names."""
        names = self.model.names(one.table)
        if source.columns:
            names = list(names)
            for place, alias in enumerate(source.columns[: len(names)]):
                one.renamed[names[place]] = alias
                names[place] = alias
        item = Item(source.alias or source.name.name, names, None, one)
        item.plain = not source.columns
        if not source.alias:
            item.schema = one.table.schema
        return item

    def _view(self, source: Relation, table: Table, env: Environment) -> Item:
        part = self.model.view(table)
        if part is None:
            self.give_up(f"the definition of view {table.shown} is not understood")
        called = source.alias or source.name.name
        unread = self.unread(part.plan, called)
        said, self.said = self.said, part
        before, count = self.view, len(self.occurrences)
        saved = self.condition, self.several
        self.view = (table, f"{before[1]}.{called}" if before else called)
        self.views.append(table)
        outputs = self.query(part.plan, env, None, None, unread=unread)
        self.views.pop()
        self.said = said
        self.view = before
        self.condition, self.several = saved
        names = [column.name for column in table.columns]
        outputs = [(name, term) for name, (_, term) in zip(names, outputs, strict=False)]
        item = _item(called, source.columns, outputs)
        item.schema = "" if source.alias else table.schema
        shown = {term: name for name, term in (item.terms or {}).items() if term is not None}
        for one in self.occurrences[count:]:
            one.renamed = (
                {c: shown[t] for c, t in one.terms.items() if t in shown} if before is None else {}
            )
            if before is None:
                one.condition, one.outer = self.condition, self.outer_side
                one.position = source.position
        return item

    def _common(self, source: Relation, known: Known, env: Environment) -> Item:
        common = known.common
        alias = source.alias or source.name.name
        if known.work is not None:
            work = known.work
            outputs = [(name, (work.terms or {}).get(name)) for name in work.names or []]
            return _item(alias, source.columns, outputs)
        if known.returned is not None:
            inner, returned = known.returned
            outputs = self.through(returned, inner, env, set(), nullable=False)
        elif known.recursive and common.itself:
            if getattr(common.query, "operator", "") != "union":
                self.give_up(f"how {common.name} refers to itself is not understood")
            outputs = self.recursive(known, env)
        else:
            unread = self.unread(common.query, alias)
            outputs = self.query(common.query, env, known.outer, known.sees, unread=unread)
        if common.cycles:
            return Item(alias, None, dict(outputs))
        item = _item(alias, common.columns, outputs)
        return _item(
            alias, source.columns, [(n, (item.terms or {}).get(n)) for n in item.names or []]
        )

    def _join(self, join: Join, env: Environment, scope: Scope) -> list[Item]:
        left_env = self.child(env) if join.kind in {"right", "full"} else env
        right_env = self.child(env) if join.kind in {"left", "full"} else env
        outer_side = self.outer_side
        several, self.several = self.several, True
        self.outer_side = OUTER if left_env is not env else outer_side
        left = self.source(join.left, left_env, scope)
        self.outer_side = OUTER if right_env is not env else outer_side
        lateral = Scope([*scope.items, *left], scope.outer, scope.tables)
        right = self.source(join.right, right_env, lateral)
        self.outer_side, self.several = outer_side, several
        ours, theirs = left, right
        if left_env is not env:
            left = self._outside(left, left_env, env)
        if right_env is not env:
            right = self._outside(right, right_env, env)
        place = {"left": right_env, "right": left_env, "inner": env}.get(join.kind)
        if place is None:
            place = self.child(env)
            self.full(left_env, right_env, place)
        # In its own place each side goes by its own terms.
        inside = Scope([*ours, *theirs], scope.outer, scope.tables)
        if join.kind == "left":
            inside.items = [*left, *theirs]
        elif join.kind == "right":
            inside.items = [*ours, *right]
        self.assume(join.on, place, inside)
        merged = self._using(join, place, ours, theirs, left, right)
        if join.kind == "full":
            self._either(place, left_env, right_env, env)
            for item in merged:
                self._whole(item, left, right)
        items = [*merged, *left, *right]
        return [self._named(join, items)] if join.alias and join.alias[0] != "\0" else items

    def full(self, left: Environment, right: Environment, on: Environment) -> None:
        raise NotImplementedError

    def _using(
        self,
        join: Join,
        place: Environment,
        ours: list[Item],
        theirs: list[Item],
        left: list[Item],
        right: list[Item],
    ) -> list[Item]:
        """The merged columns of USING and NATURAL."""
        names = list(join.using)
        if join.natural:
            if any(item.names is None for item in (*ours, *theirs)):
                self.give_up("which columns NATURAL joins by is not known")
            other = {name for item in theirs for name in self._shown(item)}
            names = [name for item in ours for name in self._shown(item) if name in other]
            names = list(dict.fromkeys(names))
        if not names:
            return []
        terms: dict[str, int | None] = {}
        for name in names:
            one, other_term = self._first(ours, name), self._first(theirs, name)
            if one is not None and other_term is not None and one != other_term:
                place.equal.append((one, other_term))
            place.strict += [term for term in (one, other_term) if term is not None]
            kept = {"left": left, "inner": left, "right": right}.get(join.kind)
            terms[name] = self._first(kept, name) if kept is not None else None
        for item in (*left, *right):
            item.hidden |= set(names)
        merged = Item(join.alias[1:] if join.alias[:1] == "\0" else "", names, terms)
        merged.bare = not merged.alias
        return [merged]

    def _either(
        self, on: Environment, left: Environment, right: Environment, env: Environment
    ) -> None:
        """Of two columns that a FULL JOIN equates either one is the row's: a row of which it is
        something else is neither seen nor does it match one that is."""
        inside = [set(self._homed(side)) for side in (left, right)]
        for one, other in list(on.equal):
            ours, theirs = (one, other) if one in inside[0] else (other, one)
            if ours not in inside[0] or theirs not in inside[1]:
                continue
            term = self.fresh(env)
            left.equal.append((term, ours))
            right.equal.append((term, theirs))
            seen = [
                self._seen_as(side, inner, env) for side, inner in ((left, ours), (right, theirs))
            ]
            self.whole[frozenset(seen)] = term
        if self.whole:
            env.choices.append([left, right])

    def _homed(self, env: Environment) -> list[int]:
        return [term for term, home in enumerate(self.homes) if home is env]

    def _seen_as(self, side: Environment, term: int, env: Environment) -> int:
        link = next(link for link in env.links if link.source is side)
        return self.seen(term, link, env)

    def _whole(self, merged: Item, left: list[Item], right: list[Item]) -> None:
        """The merged columns of a FULL JOIN are either."""
        for name in merged.names or []:
            pair = {self._first(left, name), self._first(right, name)}
            if merged.terms is not None and None not in pair:
                found = frozenset(term for term in pair if term is not None)
                merged.terms[name] = self.whole.get(found)

    def _named(self, join: Join, items: list[Item]) -> Item:
        """A join with an alias of its own."""
        outputs: list[Output] = []
        free = False
        for item in items:
            free = free or item.names is None
            outputs += [(name, self.of_item(item, name)) for name in self._shown(item)]
        named = _item(join.alias, join.columns, outputs)
        if free:
            named.names = None
        return named

    def _outside(self, items: list[Item], inner: Environment, env: Environment) -> list[Item]:
        """Items of the nullable side as the rest of the query sees them."""
        link = Link(inner, env, nullable=True, join=True)
        env.links.append(link)
        return [View(item, link) for item in items]


def _item(alias: str, columns: tuple[str, ...], outputs: list[Output]) -> Item:
    if any(name == STAR for name, _ in outputs):
        return Item(alias, None)
    names: list[str] = []
    terms: dict[str, int | None] = {}
    for place, (name, term) in enumerate(outputs):
        shown = columns[place] if place < len(columns) else name
        names.append(shown)
        terms.setdefault(shown, term)
    return Item(alias, names, terms)
