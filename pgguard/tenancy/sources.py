"""What stands in FROM: tables, views, common table expressions, functions and joins (F4, F6).

Laws: the condition of an outer join says something about its nullable side alone, whose rows are
seen from outside through a link that may be NULL; a name that may mean several relations is tried
with each (`variant`); views are read like subqueries, by the names of the default search_path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from pgguard.sql.plan.nodes import Column, Derived, Join, Relation, Rows
from pgguard.tenancy import rowsecurity
from pgguard.tenancy.environment import Environment, Link
from pgguard.tenancy.occurrences import Item, Known, Occurrence, Recursion, Scope, Tables, View

if TYPE_CHECKING:
    from pgguard.sql.plan.nodes import Expression, Predicate, Query, Source, Write
    from pgguard.sql.statement import Name
    from pgguard.tenancy.catalogue import Table
    from pgguard.tenancy.model import Model

Output = tuple[str, int | None]

OUTER = "the outer join"
STAR = "*"
"""Stands for result columns that are not known."""
_INTEGERS = frozenset({"int2", "int4", "int8"})


class GiveUpError(Exception):
    """The statement is not understood, with the reason."""


class SourceWalker:
    """Reads FROM, and knows what names mean."""

    __slots__ = (
        "condition",
        "depth",
        "drawn",
        "environments",
        "homes",
        "hopeful",
        "model",
        "occurrences",
        "origins",
        "outer_side",
        "queries",
        "recursions",
        "several",
        "variant",
        "view",
        "written_in",
    )

    def __init__(self, model: Model, *, hopeful: bool = False, variant: int = 0) -> None:
        self.model = model
        self.hopeful = hopeful
        self.variant = variant
        self.environments: list[Environment] = []
        self.occurrences: list[Occurrence] = []
        self.homes: list[Environment] = []
        """By term: where it was made."""
        self.origins: list[tuple[Occurrence, str] | None] = []
        """By term: the column that it is."""
        self.drawn: set[int] = set()
        """Terms that were compared with what may change from row to row."""
        self.recursions: list[Recursion] = []
        self.queries = 0
        self.depth = 0
        self.condition = ""
        self.several = False
        self.outer_side = ""
        self.view: tuple[Table, str] | None = None
        self.written_in = Environment(-1, None)
        """Where what the last write returns is known."""

    def query(
        self,
        query: Query,
        env: Environment,
        outer: Scope | None,
        tables: Tables | None,
        *,
        alone: bool = False,
    ) -> list[Output]:
        raise NotImplementedError

    def recursive(self, known: Known, env: Environment) -> list[Output]:
        raise NotImplementedError

    def assume(self, said: Predicate, env: Environment, scope: Scope) -> None:
        raise NotImplementedError

    def aside(self, queries: tuple[Query, ...], env: Environment, scope: Scope) -> None:
        raise NotImplementedError

    def write(
        self, write: Write, env: Environment, outer: Scope | None, tables: Tables | None
    ) -> list[Output]:
        raise NotImplementedError

    def give_up(self, why: str) -> NoReturn:
        raise GiveUpError(why)

    def child(self, parent: Environment | None) -> Environment:
        env = Environment(len(self.environments), parent)
        self.environments.append(env)
        return env

    def fresh(self, env: Environment, origin: tuple[Occurrence, str] | None = None) -> int:
        self.homes.append(env)
        self.origins.append(origin)
        return len(self.homes) - 1

    def term(self, occurrence: Occurrence, column: str) -> int:
        """A column of an occurrence, by its name in the catalogue."""
        term = occurrence.terms.get(column)
        if term is None:
            term = self.fresh(occurrence.env, (occurrence, column))
            occurrence.terms[column] = term
        return term

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
            outputs = self.query(source.query, env, outer, scope.tables)
            return [_item(source.alias, source.columns, outputs)]
        assert isinstance(source, Rows)
        self.aside(source.queries, env, scope)
        names = None if source.free else list(source.columns)
        return [Item(source.alias, names, dict.fromkeys(source.columns))]

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
            owner = self.view[0] if self.view is not None else None
            setting = rowsecurity.setting(self.model, table, use, through=owner)
            if setting is not None:
                for term in one.tenant:
                    env.given.append((term, setting))
        return one

    def item_of(self, one: Occurrence, source: Relation) -> Item:
        """The item of a table, its columns perhaps under other names."""
        names = [column.name for column in one.table.columns]
        for place, alias in enumerate(source.columns[: len(names)]):
            one.renamed[names[place]] = alias
            names[place] = alias
        item = Item(source.alias or source.name.name, names, None, one)
        if not source.alias:
            item.schema = one.table.schema
        return item

    def _view(self, source: Relation, table: Table, env: Environment) -> Item:
        query = self.model.view(table)
        if query is None:
            self.give_up(f"the definition of view {table.shown} is not understood")
        called = source.alias or source.name.name
        before, count = self.view, len(self.occurrences)
        saved = self.condition, self.several
        self.view = (table, f"{before[1]}.{called}" if before else called)
        outputs = self.query(query, env, None, None)
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
            outputs = self.query(common.query, env, known.outer, known.sees)
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

    def _shown(self, item: Item) -> list[str]:
        return [name for name in item.names or [] if name not in item.hidden]

    def _first(self, items: list[Item], name: str) -> int | None:
        for item in sorted(items, key=lambda one: not one.bare):
            if name in (item.names or ()):
                return self.of_item(item, name)
        return None

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

    def through(
        self,
        outputs: list[Output],
        inner: Environment,
        env: Environment,
        passing: set[int],
        *,
        nullable: bool,
    ) -> list[Output]:
        """Result columns as they are seen from behind a barrier; `passing` = which are the same."""
        link = Link(inner, env, nullable=nullable)
        env.links.append(link)
        found: list[Output] = []
        for name, term in outputs:
            if term is None:
                found.append((name, None))
            elif term in passing:
                link.pairs[term] = term
                found.append((name, term))
            else:
                found.append((name, self.seen(term, link, env)))
        return found

    def seen(self, term: int, link: Link, env: Environment) -> int:
        """A term of a child as its parent sees it."""
        known = link.pairs.get(term)
        if known is not None:
            return known
        origin = self.origins[term]
        if origin is None or origin[1] == "":
            outside = self.fresh(env)
            link.pairs[term] = outside
            return outside
        base, column = origin
        one = link.twins.get(base)
        if one is None:
            one = Occurrence(base.table, base.role, base.alias, env, base=base)
            link.twins[base] = one
            self.occurrences.append(one)
            for inner in base.tenant:
                at = self.origins[inner]
                name = at[1] if at is not None else ""
                outside = self.fresh(env, (one, name))
                one.tenant.append(outside)
                link.pairs[inner] = outside
                if name:
                    one.terms[name] = outside
        if column not in one.terms:
            one.terms[column] = self.fresh(env, (one, column))
        link.pairs[term] = one.terms[column]
        return one.terms[column]

    def of_item(self, item: Item, name: str) -> int | None:
        """The term of a column of an item."""
        if isinstance(item, View):
            term = self.of_item(item.inner, name)
            return None if term is None else self.seen(term, item.link, item.link.target)
        if item.occurrence is None:
            return (item.terms or {}).get(name)
        names = item.names or []
        try:
            place = names.index(name)
        except ValueError:
            return None
        return self.term(item.occurrence, item.occurrence.table.columns[place].name)

    def column(
        self, item: Expression, scope: Scope | None, *, any_cast: bool = False
    ) -> int | None:
        """The term of a reference, or None if it is none that can be told."""
        if not isinstance(item, Column):
            return None
        *qualifier, name = item.names
        of = tuple(qualifier)
        while scope is not None:
            fits = [one for one in scope.items if one.answers(of)]
            for one in fits:
                if one.names is not None and name in one.names:
                    # Merged columns stand first.
                    return self._cast(self.of_item(one, name), item.cast, any_cast=any_cast)
            if any(one.names is None for one in fits) or (of and fits):
                return None
            scope = scope.outer
        return None

    def _cast(self, term: int | None, cast: str, *, any_cast: bool) -> int | None:
        if term is None or not cast or any_cast:
            return term
        origin = self.origins[term]
        column = origin[0].table.column(origin[1]) if origin is not None else None
        kind = column.type if column is not None else ""
        same = kind in _INTEGERS if cast == "integer" else kind == cast
        return term if same else None

    def star(self, names: tuple[str, ...], scope: Scope) -> list[Output]:
        """All columns of what is named, or of everything in FROM."""
        found: list[Output] = []
        for item in scope.items:
            if not item.answers(names) or (item.bare and names):
                continue
            if item.names is None:
                found.append((STAR, None))
                continue
            shown = item.names if names else self._shown(item)
            found += [(name, self.of_item(item, name)) for name in shown]
        return found or [(STAR, None)]

    def working_rows(self, recursion: Recursion) -> None:
        """The rows that a recursive query adds to, if they are rows of one table."""
        twins: dict[Occurrence, Occurrence] = {}
        for column in recursion.columns:
            starts = [self.origins[term] for term in column.bases if term is not None]
            added = self.origins[column.added] if column.added is not None else None
            if not starts or len(starts) != len(column.bases) or added is None:
                continue
            first = starts[0]
            if first is None or not first[1] or not added[1]:
                continue
            tables = {(o[0].table.key, o[1]) for o in starts if o} | {
                (added[0].table.key, added[1])
            }
            if len(tables) != 1:
                continue
            base, name = first
            one = twins.get(base)
            if one is None:
                one = Occurrence(base.table, base.role, base.alias, recursion.step, base=base)
                twins[base] = one
                self.occurrences.append(one)
                one.tenant = [self.fresh(recursion.step, (one, "")) for _ in base.tenant]
            one.terms[name] = column.work
            self.origins[column.work] = (one, name)
            if base.role is not None and name in base.role.columns and base.role.kind != "owned":
                one.tenant[base.role.columns.index(name)] = column.work


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
