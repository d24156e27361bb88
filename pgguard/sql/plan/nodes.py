"""What a statement says, as nested query blocks without any knowledge of a database.

Laws: plain and picklable, of bounded depth and size; names are as Postgres reads them; a predicate
stands for what is known where it is TRUE, so leaving something out is sound, but every subquery
that Postgres may run stands somewhere.

    Query       = Select | SetOperation | Values | Write
    Source      = Relation | Derived | Rows | Join              what stands in FROM
    Expression  = Column | Value | Row | Scalar | Fallback | Other
    Predicate   = All | Either | Equal | Among | Null | Says | Exists | Member | Absent | Hope
                  | IfNull | Never
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pgguard.sql.statement import Constant, Name

Query = Any
Source = Any
Expression = Any
Predicate = Any


class Column(NamedTuple):
    """A reference, seen through casts of the family `cast` that may keep identity (F3)."""

    names: tuple[str, ...]
    cast: str = ""


class Value(NamedTuple):
    """One of some constants."""

    constants: frozenset[Constant]


class Row(NamedTuple):
    items: tuple[Expression, ...]


class Scalar(NamedTuple):
    """A subquery as a value, or as the elements of an array."""

    query: Query


class Fallback(NamedTuple):
    """COALESCE."""

    items: tuple[Expression, ...]


class Other(NamedTuple):
    """An expression of which nothing is known but that it is NULL if one of `strict` is."""

    strict: tuple[Column, ...] = ()
    queries: tuple[Query, ...] = ()


class All(NamedTuple):
    items: tuple[Predicate, ...]


class Either(NamedTuple):
    items: tuple[Predicate, ...]


class Equal(NamedTuple):
    left: Expression
    right: Expression
    null_safe: bool = False


class Among(NamedTuple):
    """left is one of the constants."""

    left: Expression
    constants: frozenset[Constant]


class Null(NamedTuple):
    """The expression is NULL."""

    item: Expression


class Says(NamedTuple):
    """True only where these columns are not NULL; its subqueries say nothing."""

    strict: tuple[Column, ...] = ()
    queries: tuple[Query, ...] = ()


NOTHING = Says()


class Exists(NamedTuple):
    query: Query


class Member(NamedTuple):
    """left IN (query)."""

    left: Expression
    query: Query


class Absent(NamedTuple):
    """left NOT IN (query)."""

    left: Expression
    query: Query


class Hope(NamedTuple):
    """Depends on the values of an execution alone: `held` is what it says if they are as hoped."""

    held: Predicate
    conditional: bool = False
    """It may as well be left out of an OR."""


class IfNull(NamedTuple):
    """What is said if a parameter is NULL, and if it is not; while nobody knows, nothing is."""

    parameter: int
    absent: Predicate
    present: Predicate


class Never(NamedTuple):
    """No row passes."""


class Relation(NamedTuple):
    name: Name
    alias: str
    columns: tuple[str, ...]
    position: int


class Derived(NamedTuple):
    query: Query
    alias: str
    columns: tuple[str, ...]
    lateral: bool


class Rows(NamedTuple):
    """A function in FROM, or what else makes up rows."""

    alias: str
    columns: tuple[str, ...]
    queries: tuple[Query, ...]
    free: bool
    """Its columns are not known here."""
    given: bool
    """Its rows are what the caller gave, not a series that is made up."""
    elements: Constant | None = None
    """They are the elements of this array."""


class Join(NamedTuple):
    kind: str
    """`inner`, `left`, `right`, `full`."""
    left: Source
    right: Source
    on: Predicate
    using: tuple[str, ...]
    natural: bool
    alias: str
    columns: tuple[str, ...]


class Target(NamedTuple):
    """A result column; `star` = all columns of what is named, or of everything."""

    name: str
    value: Expression
    star: bool = False


class Common(NamedTuple):
    """A common table expression."""

    name: str
    columns: tuple[str, ...]
    query: Query
    itself: bool
    """Its name stands in its body."""
    cycles: bool = False
    """SEARCH or CYCLE add columns."""


@dataclass(slots=True)
class Select:
    targets: tuple[Target, ...] = ()
    sources: tuple[Source, ...] = ()
    where: Predicate = NOTHING
    having: Predicate = NOTHING
    groups: tuple[Expression, ...] = ()
    grouped: bool = False
    sets: bool = False
    """GROUPING SETS, ROLLUP or CUBE."""
    aggregated: bool = False
    calls: tuple[Name, ...] = ()
    """Functions in the result and in HAVING that may be aggregates."""
    partitions: tuple[tuple[Expression, ...], ...] = ()
    """PARTITION BY of every window that is used."""
    windowed: bool = False
    over: tuple[str, ...] = ()
    """The result columns that are made by windows, if nothing else here depends on windows."""
    distinct: tuple[Expression, ...] = ()
    """DISTINCT ON."""
    limited: bool = False
    queries: tuple[Query, ...] = ()
    """Subqueries of ORDER BY, LIMIT and the like."""
    common: tuple[Common, ...] = ()
    recursive: bool = False
    condition: str = ""
    """Of WHERE: `` (none), `and` or `or`; a fix has to know."""


@dataclass(slots=True)
class SetOperation:
    operator: str
    """`union`, `except`, `intersect`."""
    arms: tuple[Query, ...]
    limited: bool = False
    queries: tuple[Query, ...] = ()
    common: tuple[Common, ...] = ()
    recursive: bool = False


@dataclass(slots=True)
class Values:
    columns: tuple[Expression, ...]
    """What all rows have in each place."""
    rows: int = 0
    limited: bool = False
    queries: tuple[Query, ...] = ()
    common: tuple[Common, ...] = ()
    recursive: bool = False


class Action(NamedTuple):
    """WHEN … of MERGE."""

    kind: str
    """`insert`, `update`, `delete`, `` (nothing)."""
    when: str
    """`matched`, `missing` (NOT MATCHED BY TARGET), `left_over` (BY SOURCE)."""
    condition: Predicate
    columns: tuple[str, ...] | None
    values: tuple[Expression, ...]
    assigned: tuple[tuple[str, Expression], ...]


class Conflicting(NamedTuple):
    """ON CONFLICT DO UPDATE."""

    columns: tuple[str, ...]
    constraint: str
    where: Predicate
    assigned: tuple[tuple[str, Expression], ...]


@dataclass(slots=True)
class Write:
    kind: str
    """`insert`, `update`, `delete`, `merge`."""
    target: Relation
    sources: tuple[Source, ...] = ()
    where: Predicate = NOTHING
    assigned: tuple[tuple[str, Expression], ...] = ()
    columns: tuple[str, ...] | None = None
    source: Query = None
    conflict: Conflicting | None = None
    actions: tuple[Action, ...] = ()
    returning: tuple[Target, ...] = ()
    queries: tuple[Query, ...] = ()
    common: tuple[Common, ...] = ()
    recursive: bool = False
    condition: str = ""
    cursor: bool = False
    overriding: bool = False
