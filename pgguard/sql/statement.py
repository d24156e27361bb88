"""One SQL text with everything that is known of it, and the plain facts that were read from it.

Laws: `Facts` and what it is made of are plain and picklable, and say nothing about any database:
which table belongs to tenants is `tenancy`'s business. A `Statement` is shared by all texts that
the cache holds to be alike; only `tenancy.judge` writes its verdict. Offsets are bytes of the
UTF-8 text; names are as Postgres reads them, folded and without quotes.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pgguard.sql import shape
from pgguard.sql.literals import number_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgguard.findings import Relation
    from pgguard.sql.assignments import Assignment
    from pgguard.sql.definitions import Definitions
    from pgguard.sql.literals import Opening
    from pgguard.sql.session_effects import Effect, Kind

PENDING: Final = -1
"""A statement's verdict before it was judged."""

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Name(NamedTuple):
    """A relation or function as it was written; `schema` is empty if none was."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


class Constant(NamedTuple):
    """One value that does not depend on a row (M2 of tenancy.md).

    `kind` is `parameter` (value = its number), `literal` (its text), `null`, `setting` (the
    setting's name), `expression`, `array` (all elements of one array; value = JSON list of the
    different elements if it is a literal), `more` (further constants that are not listed), and in
    values to be written also `default` and `opaque` (not a constant). `functions` are those whose
    volatility decides. `place` keeps apart what literals in different places say: a set of
    constants must have the same size in every text of a shape, whatever the literals are.
    """

    kind: str
    value: str = ""
    functions: tuple[Name, ...] = ()
    place: int = 0

    def same(self, other: Constant) -> bool:
        """Whether both are one value, wherever they stand."""
        return self[:3] == other[:3]


NULL: Final = Constant("null")
MAYBE: Final = Constant("null", "maybe")
"""NULL, if the constant beside it is."""
DEFAULT: Final = Constant("default")
OPAQUE: Final = Constant("opaque")
MORE: Final = Constant("more")


class Write(NamedTuple):
    """A relation whose rows a statement may change.

    `actions` are letters of `i` (INSERT), `u` (UPDATE), `d` (DELETE); `columns` those that UPDATE
    sets, None if they are not known.
    """

    name: Name
    actions: str
    columns: tuple[str, ...] | None


@dataclass(slots=True)
class Part:
    """The facts of one statement of the text.

    `kind`: `read`, `insert`, `update`, `delete`, `merge`, `truncate`, `copy_to`, `copy_from`,
    `none` (whatever it names, no tenant data: DDL, SET, BEGIN …) or `opaque` (cannot be known).
    """

    kind: str
    relations: tuple[Name, ...] = ()
    """Every relation named anywhere, CTE names taken out."""
    functions: tuple[Name, ...] = ()
    table_functions: bool = False
    """A function stands in FROM."""
    operators: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    """Names behind a dot: columns, or functions of the row."""
    types: tuple[str, ...] = ()
    """Named by casts."""
    writes: tuple[Write, ...] = ()
    words: tuple[str, ...] = ()
    """References without a qualifier: columns, and whole rows by their alias."""
    stars: tuple[str, ...] = ()
    """What stars stand for: an alias, or everything (empty)."""
    renames: bool = False
    """Columns have other names than those of their tables."""
    stale: bool = False
    """An earlier statement of the text has changed the schema."""
    obstacle: str = ""
    """Why there is no plan; empty if there is one."""
    plan: Any = None
    """What it says: one of `plan.nodes`."""
    depends: bool = False
    """Some condition depends on the values of an execution alone."""
    nulls: tuple[int, ...] = ()
    """Parameters by whose being NULL or not some condition says one thing or another."""
    parameters: int = 0
    """The highest `$n`."""
    cascade: bool = False


class TenantValue(NamedTuple):
    """One tenant that a statement names."""

    constants: frozenset[Constant]
    """What it may be. The `place` of a literal is where it begins, and its number among those of
    the text once `Statement.number` has been called."""
    type: str
    """The tenant column's, as pg_type names it."""
    relation: int
    """Index into the statement's `relations`; -1 = an occurrence that is not listed there."""
    use: str
    """What is done there: `read`, `insert`, `update`, `delete`, `merge`; `create` = it becomes a
    tenant itself."""


class KeyValue(NamedTuple):
    """A key by which a statement chooses rows without naming their tenant, or that it inserts."""

    table: tuple[str, str]
    """Schema and name, as the catalogue spells them, of the table whose row it names."""
    columns: tuple[str, ...]
    constants: tuple[frozenset[Constant], ...]
    """One set per column."""
    types: tuple[str, ...]
    relation: int
    """As in `TenantValue`."""
    use: str
    """`insert` = the rows that it creates, whose tenant is the `TenantValue` of the same relation
    and use; else what is done to the rows that the key chooses."""


def _numbered(constants: frozenset[Constant], text: bytes) -> frozenset[Constant]:
    return frozenset(
        one._replace(place=number_of(text, one.place)) if one.kind == "literal" else one
        for one in constants
    )


@dataclass(slots=True)
class Facts:
    """What a text says."""

    parts: tuple[Part, ...] = ()
    effects: int = 0
    session: tuple[Effect, ...] = ()
    """What it leaves behind in its session, as far as the text says."""
    unread: str = ""
    """Why the text was not read; empty if it was."""
    rejected: bool = False
    """It was not because of a syntax error, for which Postgres will reject it, too."""
    by_value: bool = False
    """The facts depend on the values of literals: not to be shared by shape."""
    created: tuple[Name, ...] = ()
    """Temporary tables that the text creates."""
    shadowing: tuple[Name, ...] = ()
    """Temporary views that it creates: they take the name from whatever else has it."""
    roles: tuple[str, ...] = ()
    """Roles that it switches to; empty name = one that is not known."""
    forgotten: bool = False
    """Of the parts only their number is left: read the text again."""
    defined: Definitions | None = None
    """What its DDL makes and changes; None if it has none."""
    armed: tuple[Name, ...] = ()
    """Views that it creates, and tables that it gives rules or triggers."""


class Statement:
    """One SQL text (or all of one shape) with its facts and its verdict.

    `verdict` is `PENDING` or the integer of a `findings.Verdict`, judged against the model
    `version`. `position` counts characters from 1, 0 = not known.
    """

    __slots__ = (
        "_fingerprint",
        "_masked",
        "assigned",
        "border",
        "clean",
        "code",
        "cut",
        "effects",
        "ends",
        "facts",
        "frees",
        "keys",
        "literal",
        "marks",
        "nulls",
        "openings",
        "parameter_types",
        "placed",
        "position",
        "publishes",
        "readable",
        "relations",
        "remedy",
        "session",
        "shape",
        "single",
        "tenants",
        "text",
        "variants",
        "varies",
        "verdict",
        "version",
        "why",
    )

    def __init__(self, text: bytes, key: bytes | None = None, *, readable: bool = True) -> None:
        self.text = text
        self.shape = key
        self.readable = readable
        self.facts: Facts | None = None
        self.cut = False
        """The text is no longer whole: it cannot be read again."""
        self.clean = -1
        """The `version` if that verdict is no worse than `scoped_fk` and nothing follows from the
        statement's effects, so that an execution is only to be counted; else -1."""
        self.verdict = PENDING
        self.version = -1
        self.effects = 0
        self.session: tuple[Effect, ...] = ()
        """What an execution may leave behind in its session, by the catalogue of `version`."""
        self.relations: tuple[Relation, ...] = ()
        self.position = 0
        self.code = ""
        self.remedy = ""
        self.why = ""
        self.tenants: tuple[TenantValue, ...] = ()
        self.keys: tuple[KeyValue, ...] = ()
        self.placed = False
        """Their literals are named by where they begin: nobody has needed their numbers yet."""
        self.parameter_types: tuple[str, ...] = ()
        """By number from $1, the type of the column that each goes with; empty = not known."""
        self.nulls: tuple[int, ...] = ()
        """Parameters that decide the verdict, which is unknown, by being NULL or not: an execution
        is judged by them."""
        self.publishes = False
        """A parameter is the tenant of a new row, and may be NULL: then the row is everybody's."""
        self.varies = False
        """The values of an execution decide whether it names one tenant."""
        self.literal = -1
        """The number of the only literal that names its tenant, if nothing else does and it brings
        no key; else -1. Known once `number` has been called."""
        self.ends: Mapping[str, bytes] = _NOTHING
        """By tenant: what a Query of it ends with if it names that one."""
        self.openings: Mapping[str, Opening] = _NOTHING
        """By tenant: how a text of it begins if it names that one."""
        self.border: Kind | None = None
        """It begins or ends a transaction, and that is all."""
        self.single = 0
        """The only parameter that names its tenant, if nothing else does; else 0."""
        self.marks = False
        """It moves what is remembered of a session: transactions, tenant settings, names."""
        self.frees = False
        """It may free keys: rows that are known by theirs may be somebody else's afterwards."""
        self.assigned: tuple[Assignment, ...] = ()
        """The tenant settings that it makes."""
        self.variants: dict[str, Statement] | None = None
        """The same statement as its values have shown it, by code and reason."""
        self._fingerprint = ""
        self._masked: str | None = None

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits, the same in every run for every text of the shape."""
        if not self._fingerprint:
            self._fingerprint = shape.fingerprint(
                self.shape if self.shape is not None else self.masked.encode()
            )
        return self._fingerprint

    @property
    def masked(self) -> str:
        """The text with its literals taken out, for reports."""
        if self._masked is None:
            self._masked = shape.mask(self.text, readable=self.readable)
        return self._masked

    def names(self, tenants: tuple[TenantValue, ...], keys: tuple[KeyValue, ...]) -> None:
        """Which tenants and keys it names, by a new verdict."""
        self.tenants, self.keys, self.placed = tenants, keys, True
        self.literal = -1
        self.ends = self.openings = _NOTHING

    def number(self) -> None:
        """Name the literals of tenants and keys by their number, by which they are found in any
        text of this shape."""
        if not self.placed:
            return
        self.placed, text = False, self.text
        self.tenants = tuple(
            one._replace(constants=_numbered(one.constants, text)) for one in self.tenants
        )
        self.keys = tuple(
            one._replace(constants=tuple(_numbered(each, text) for each in one.constants))
            for one in self.keys
        )
        numbers = {
            one.place if one.kind == "literal" else -1
            for value in self.tenants
            for one in value.constants
        }
        types = {value.type for value in self.tenants}
        creates = any(value.use == "create" for value in self.tenants)
        simple = len(numbers) == len(types) == 1 and not (creates or self.keys or self.varies)
        self.literal = numbers.pop() if simple else -1

    def shorten(self, size: int) -> None:
        """Keep no more of the text than reports show; it must have been read."""
        if len(self.text) > size and not (self.facts is not None and self.facts.forgotten):
            self.number()
            # Both are made of the whole text, so that they are the same in every run.
            self._masked, self._fingerprint = self.masked, self.fingerprint
            self.cut, self.text = True, self.text[:size]

    def __repr__(self) -> str:
        return f"<Statement {self.fingerprint} verdict={self.verdict}>"
