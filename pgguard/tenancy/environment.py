"""Environments: which terms are equal, what constants they may be, which are not NULL.

    environment   the rows that matter in one place of a statement: WHERE and inner joins share one,
                  the nullable side of an outer join, a subquery that gives nothing back, an arm of
                  a set operation and a branch of OR have each a child
    link          what goes out of a child: constants and equalities of chosen terms, and nothing in

Laws: whatever an environment says holds for every row that matters there, so leaving something out
is always sound; a child knows what its parents know, a parent learns from a child by links and
choices alone; solving is repeated until nothing new is learned, each round linear in the facts; a
set of constants never holds more than `MOST`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pgguard.sql.facts.environment import bounded, narrower
from pgguard.sql.statement import MAYBE, NULL, Constant

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pgguard.tenancy.occurrences import Occurrence

Constants = frozenset[Constant]

_NULLS = frozenset({NULL, MAYBE})


class Environment:
    """Facts as they were read, and what follows from them in the current round."""

    __slots__ = (
        "choices",
        "conditional",
        "consts",
        "equal",
        "false",
        "given",
        "home",
        "impossible",
        "line",
        "links",
        "merged_into",
        "number",
        "parent",
        "solid",
        "strict",
        "unless_null",
        "up",
        "when_solid",
    )

    def __init__(self, number: int, parent: Environment | None) -> None:
        self.number = number
        self.parent = parent
        self.merged_into: Environment | None = None
        """This environment has dissolved: its outer join is an inner one."""
        self.equal: list[tuple[int, int]] = []
        self.given: list[tuple[int, Constants]] = []
        self.strict: list[int] = []
        """Terms that are not NULL."""
        self.unless_null: list[tuple[int, int]] = []
        """Equal if neither can be NULL (NOT IN)."""
        self.when_solid: list[tuple[int, int]] = []
        """Equal if the first, a parent's term, is not NULL: group keys of GROUPING SETS."""
        self.links: list[Link] = []
        self.choices: list[list[Environment]] = []
        self.conditional = False
        """It holds only for certain values of an execution."""
        self.impossible = False
        self.home: list[int] = []
        """Terms of its own."""
        self.line: list[Environment] | None = None
        """Its chain, for as long as nothing dissolves."""
        self.up: dict[int, int] = {}
        self.consts: dict[int, Constants] = {}
        self.solid: set[int] = set()
        self.false = False

    def place(self) -> Environment:
        """Where its facts hold now."""
        at = self
        while at.merged_into is not None:
            at = at.merged_into
        return at

    def above(self) -> Environment | None:
        parent = self.parent
        return parent.place() if parent is not None else None

    def chain(self) -> list[Environment]:
        """From the outermost to this one."""
        if self.line is not None:
            return self.line
        found: list[Environment] = []
        at: Environment | None = self.place()
        while at is not None:
            found.append(at)
            at = at.above()
        found.reverse()
        return found

    def find(self, term: int) -> int:
        """The representative of a term's class."""
        for one in self.line or self.chain():
            up = one.up
            if term in up:
                begin, term = term, up[term]
                while term in up:
                    term = up[term]
                # The way is short from now on.
                up[begin] = term
        return term

    def constants(self, term: int) -> Constants | None:
        return self.constants_of(self.find(term))

    def constants_of(self, root: int) -> Constants | None:
        for at in reversed(self.line or self.chain()):
            held = at.consts.get(root)
            if held is not None:
                return held
        return None

    def is_solid(self, term: int) -> bool:
        """Whether the term cannot be NULL."""
        return self.is_solid_root(self.find(term))

    def is_solid_root(self, root: int) -> bool:
        """The same for the representative of a class."""
        for at in self.line or self.chain():  # noqa: SIM110 - it is asked all the time
            if root in at.solid:
                return True
        return False

    def is_false(self) -> bool:
        """Whether no row matters here at all."""
        at: Environment | None = self.place()
        while at is not None:
            if at.false:
                return True
            at = at.above()
        return False

    def reset(self) -> None:
        """Forget what followed."""
        self.up.clear()
        self.consts.clear()
        self.solid.clear()
        self.false = self.impossible

    def merge(self, one: int, other: int) -> bool:
        """Hold two terms for equal; whether that is new."""
        first, second = self.find(one), self.find(other)
        if first == second:
            return False
        ours, theirs = self.constants_of(first), self.constants_of(second)
        solid = self.is_solid_root(first) or self.is_solid_root(second)
        self.up[second] = first
        held = narrower(ours, theirs)
        if held is not None:
            self.consts[first] = held
        if solid:
            self.harden(first, first)
        return True

    def give(self, term: int, constants: Constants) -> bool:
        """Hold a term for one of the constants; whether that says more than before."""
        root = self.find(term)
        before = self.constants_of(root)
        if self.is_solid_root(root):
            constants = constants - _NULLS
        held = narrower(before, constants)
        if held == before or held is None:
            return False
        self.consts[root] = held
        self.false = self.false or not held
        return True

    def harden(self, term: int, root: int = -1) -> bool:
        """Hold a term for not NULL; `root` is its representative, if that is known."""
        root = self.find(term) if root < 0 else root
        if self.is_solid_root(root):
            return False
        self.solid.add(root)
        held = self.constants_of(root)
        if held is not None and held & _NULLS:
            self.consts[root] = held - _NULLS
            self.false = self.false or not self.consts[root]
        return True

    def absorb(self) -> None:
        """Apply the facts as they were read."""
        for one, other in self.equal:
            self.merge(one, other)
        for term in self.strict:
            self.harden(term)
        for term, constants in self.given:
            self.give(term, constants)

    def dissolve(self, into: Environment) -> None:
        """Its facts hold where its parent's do: what was nullable is not."""
        self.merged_into = into
        self.line = None
        into.equal += self.equal
        into.given += self.given
        into.strict += self.strict
        into.unless_null += self.unless_null
        into.when_solid += self.when_solid
        into.links += self.links
        into.choices += self.choices
        into.home += self.home
        into.impossible = into.impossible or self.impossible


class Link:
    """Terms of a child as the parent sees them: (the child's, the parent's)."""

    __slots__ = ("join", "nullable", "pairs", "source", "target", "twins")

    def __init__(
        self, source: Environment, target: Environment, *, nullable: bool, join: bool = False
    ) -> None:
        self.join = join
        """It is an outer join's, which dissolves."""
        self.source = source
        self.target = target
        self.nullable = nullable
        """In the parent all of them may be NULL together."""
        self.pairs: dict[int, int] = {}
        self.twins: dict[Occurrence, Occurrence] = {}
        """Occurrences of the child as the parent sees them."""

    def facts(self) -> Iterator[tuple[int, int, Constants | None, bool, int]]:
        """Of each pair: the parent's term, its first twin, its constants, if it is not NULL, and
        its class in the child."""
        source = self.source
        false = source.is_false()
        twins: dict[int, int] = {}
        for ours, theirs in self.pairs.items():
            root = source.find(ours)
            held = source.constants_of(root)
            if false:
                held = frozenset({NULL}) if self.nullable else None
            elif held is not None and self.nullable:
                held = held | {MAYBE}
            twin = twins.setdefault(root, theirs)
            yield theirs, twin, held, not self.nullable and source.is_solid(root), root


def alternatives(branches: Iterable[Environment], *, hopeful: bool) -> list[Environment] | None:
    """The branches of OR that some row can satisfy; None if there is none."""
    live = [branch for branch in branches if not branch.false]
    if not live:
        return None
    if hopeful:
        live = [branch for branch in live if not branch.conditional] or live
    return live


class Learner(Protocol):
    """Where facts are put, which says whether they were new."""

    def merge(self, one: int, other: int) -> bool: ...
    def give(self, term: int, constants: Constants) -> bool: ...
    def harden(self, term: int) -> bool: ...


def learn(env: Learner, live: list[Environment], touched: list[int]) -> bool:
    """Take over what all branches of OR say; whether it was new."""
    new = False
    groups: dict[tuple[int, ...], int] = {}
    for term in touched:
        roots = tuple(branch.find(term) for branch in live)
        twin = groups.setdefault(roots, term)
        if twin != term:
            new = env.merge(term, twin) or new
        together: set[Constant] = set()
        for branch, root in zip(live, roots, strict=True):
            held = branch.constants_of(root)
            if held is None:
                break
            together |= held
        else:
            new = env.give(term, bounded(together)) or new
        if all(branch.is_solid(term) for branch in live):
            new = env.harden(term) or new
    return new
