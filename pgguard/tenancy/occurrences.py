"""Uses of tables in one statement, their columns as terms, and what names mean where.

Laws: a term is a number; one that stands for a column belongs to one occurrence; an occurrence with
a `base` is the same rows as seen from outside of a barrier or of an outer join, and is not judged
itself; a name that cannot be told is no term, which says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgguard.findings import Verdict

if TYPE_CHECKING:
    from pgguard.sql.plan.nodes import Common
    from pgguard.sql.statement import KeyValue
    from pgguard.tenancy.catalogue import Column, Table
    from pgguard.tenancy.environment import Constants, Environment, Link
    from pgguard.tenancy.model import Role


@dataclass(slots=True, eq=False)
class Occurrence:
    """One use of a table."""

    table: Table
    role: Role | None
    alias: str
    env: Environment
    position: int = 0
    use: str = "read"
    base: Occurrence | None = None
    inside: str = ""
    """The view that it stands in, as it is called here."""
    terms: dict[str, int] = field(default_factory=dict)
    tenant: list[int] = field(default_factory=list)
    """One for each candidate: its tenant column, or what is equal to its owner's."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Columns that have another name here."""
    condition: str = ""
    """The WHERE that a condition would be added to."""
    outer: str = ""
    """Whose ON a condition belongs into: that of an outer join, or of MERGE."""
    named: bool = False
    """Columns need its name in front of them."""
    level: Verdict = Verdict.unscoped
    why: str = ""
    cure: str = ""
    ambiguous: bool = False
    settled: bool = False
    """What it hangs on does not matter any more."""
    values: Constants | None = None
    key: KeyValue | None = None

    def column(self, name: str) -> Column | None:
        return self.table.column(name)

    def real(self) -> Occurrence:
        """The occurrence that is judged."""
        one = self
        while one.base is not None:
            one = one.base
        return one


class Item:
    """Something in FROM under the name that its columns go by; `names` None = not known."""

    __slots__ = ("alias", "bare", "hidden", "names", "occurrence", "plain", "schema", "terms")

    def __init__(
        self,
        alias: str,
        names: list[str] | None,
        terms: dict[str, int | None] | None = None,
        occurrence: Occurrence | None = None,
    ) -> None:
        self.alias = alias
        self.names = names
        self.terms = terms
        self.occurrence = occurrence
        self.schema = ""
        self.hidden: set[str] = set()
        """Columns that USING has merged with others: they have no place in `*`."""
        self.plain = False
        """It is a table whose columns go by their own names."""
        self.bare = False
        """It holds merged columns, which have no qualifier."""

    def answers(self, qualifier: tuple[str, ...]) -> bool:
        if not qualifier:
            return True
        if self.bare or self.alias != qualifier[-1]:
            return False
        return len(qualifier) == 1 or self.schema in {"", qualifier[-2]}


class View(Item):
    """An item as it is seen from outside: every term goes through the link."""

    __slots__ = ("inner", "link")

    def __init__(self, inner: Item, link: Link) -> None:
        super().__init__(inner.alias, inner.names, None, None)
        self.inner, self.link = inner, link
        self.schema, self.hidden, self.bare = inner.schema, inner.hidden, inner.bare


@dataclass(slots=True, eq=False)
class Known:
    """A common table expression that a name may mean."""

    common: Common
    outer: Scope | None
    sees: Tables | None
    """The others that its body sees."""
    recursive: bool = False
    work: Item | None = None
    """While its recursive arm is read: the rows that it adds to."""
    returned: tuple[Environment, list[tuple[str, int | None]]] | None = None
    """Of a write: where it was made, and what it returns."""


@dataclass(slots=True, eq=False)
class Tables:
    """Common table expressions by name, and those further out."""

    names: dict[str, Known]
    outer: Tables | None

    def find(self, name: str) -> Known | None:
        at: Tables | None = self
        while at is not None:
            if name in at.names:
                return at.names[name]
            at = at.outer
        return None


@dataclass(slots=True, eq=False)
class Scope:
    """What names mean in one query."""

    items: list[Item]
    outer: Scope | None
    tables: Tables | None


@dataclass(slots=True, eq=False)
class Carried:
    """One column of a recursive query."""

    output: int
    bases: list[int | None]
    added: int | None
    work: int
    done: bool = False


@dataclass(slots=True, eq=False)
class Recursion:
    """What a recursive query starts from and what it adds."""

    inner: Environment
    bases: list[Environment]
    step: Environment
    columns: list[Carried] = field(default_factory=list)
