"""Terms and what names mean: the ground on which plans are read.

Laws: a term belongs to the environment in which it was made; what a parent sees of a child's term
is another one, joined by a link; a reference is resolved as Postgres does, and one that cannot be
told is no term.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from pgguard.sql.plan.nodes import Column
from pgguard.tenancy.environment import Environment, Link
from pgguard.tenancy.occurrences import Item, Occurrence, Recursion, Scope, View

if TYPE_CHECKING:
    from pgguard.sql.plan.nodes import Expression
    from pgguard.sql.statement import Part
    from pgguard.tenancy.catalogue import Table
    from pgguard.tenancy.model import Model

Output = tuple[str, int | None]

OUTER = "the outer join"
STAR = "*"
"""Stands for result columns that are not known."""
_INTEGERS = frozenset({"int2", "int4", "int8"})


class GiveUpError(Exception):
    """The statement is not understood, with the reason."""


class Terms:
    """Everything that one reading of a statement makes."""

    __slots__ = (
        "condition",
        "depth",
        "drawn",
        "environments",
        "homes",
        "hopeful",
        "model",
        "nulls",
        "occurrences",
        "origins",
        "outer_side",
        "queries",
        "recursions",
        "said",
        "several",
        "tables",
        "users",
        "variant",
        "view",
        "views",
        "whole",
        "written_in",
    )

    def __init__(
        self,
        model: Model,
        *,
        hopeful: bool = False,
        variant: int = 0,
        users: frozenset[str] = frozenset(),
        nulls: frozenset[int] | None = None,
    ) -> None:
        self.users = users
        """The roles that may run the statement."""
        self.model = model
        self.hopeful = hopeful
        self.nulls = nulls
        """The parameters that are NULL, while all others are not; None = it is not known."""
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
        self.said: Part | None = None
        """The text that is being read: of the statement, or of a view."""
        self.whole: dict[frozenset[int], int] = {}
        """By two terms that a FULL JOIN equates, as they are seen outside: either of them."""
        self.queries = 0
        self.tables = 0
        self.depth = 0
        self.condition = ""
        self.several = False
        self.outer_side = ""
        self.view: tuple[Table, str] | None = None
        self.views: list[Table] = []
        """The views that are being read, outermost first."""
        self.written_in = Environment(-1, None)
        """Where what the last write returns is known."""

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

    def _shown(self, item: Item) -> list[str]:
        return [name for name in item.names or [] if name not in item.hidden]

    def _first(self, items: list[Item], name: str) -> int | None:
        for item in sorted(items, key=lambda one: not one.bare):
            if name in (item.names or ()):
                return self.of_item(item, name)
        return None

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
        if item.plain:
            return self.term(item.occurrence, name) if name in names else None
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
        of, name = item.names[:-1], item.names[-1]
        while scope is not None:
            fits = False
            for one in scope.items:
                if of and not one.answers(of):
                    continue
                if one.names is None:
                    fits = True
                elif name in one.names:
                    # Merged columns stand first.
                    term = self.of_item(one, name)
                    return self._cast(term, item.cast, any_cast=any_cast) if item.cast else term
                fits = fits or bool(of)
            if fits:
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
