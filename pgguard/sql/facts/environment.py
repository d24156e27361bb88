"""Facts that hold together: equal columns and the constants that they may be.

Laws: an environment says only what holds for every row that satisfies its condition, so leaving
something out is always sound; `None` stands for a condition that no row satisfies; everything is
linear in the number of facts, and a set of constants never holds more than `MOST`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgguard.sql.statement import MORE, OPAQUE, Constant, Known, Name, Term

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST: Final = 64

Constants = frozenset[Constant]


@dataclass(slots=True)
class Environment:
    """Classes of equal terms, each with its possible constants (None = not known)."""

    groups: tuple[tuple[frozenset[Term], Constants | None], ...] = ()
    conditional: bool = False
    """Whether the condition also asks for values that no row has a part in (`$1 IS NULL`)."""


NOTHING: Final = Environment()
CONDITIONAL: Final = Environment((), conditional=True)


def bounded(constants: Iterable[Constant]) -> Constants:
    """A set of constants, with `MORE` in place of plain ones beyond `MOST`.

    NULL and one for each way of not being constant are always kept: beyond `MOST` functions it is
    `OPAQUE`, which is none.
    """
    kept: dict[Constant, None] = {}
    functions: set[tuple[Name, ...]] = set()
    for constant in constants:
        if len(kept) < MOST or constant in kept:
            kept[constant] = None
        elif constant.functions and len(functions) < MOST:
            if constant.functions not in functions:
                kept[constant] = None
        else:
            kept[OPAQUE if constant.functions else constant if _telling(constant) else MORE] = None
        functions.add(constant.functions)
    return frozenset(kept)


def both(environments: Iterable[Environment | None]) -> Environment | None:
    """AND: what holds if all of them hold."""
    classes = _Classes()
    conditional = False
    for environment in environments:
        if environment is None:
            return None
        conditional = conditional or environment.conditional
        for terms, constants in environment.groups:
            classes.add(terms, constants)
    return Environment(classes.groups(), conditional)


def either(environments: list[Environment | None], *, hopeful: bool) -> Environment | None:
    """OR: what holds in every branch that some row can satisfy.

    `hopeful` leaves out branches that depend on values, if another one is left.
    """
    live = [environment for environment in environments if environment is not None]
    if not live:
        return None
    if hopeful:
        live = [branch for branch in live if not branch.conditional] or live
    conditional = all(branch.conditional for branch in live)
    if len(live) == 1:
        return live[0]
    if any(not branch.groups for branch in live):
        return Environment((), conditional)
    groups = [*_common_constants(live), *_common_equalities(live)]
    merged = both([Environment(((terms, constants),)) for terms, constants in groups])
    return Environment(merged.groups if merged else (), conditional)


def known(environment: Environment | None) -> Known:
    """The environment as plain facts."""
    if environment is None:
        return Known(impossible=True)
    constants = {
        one: values for terms, values in environment.groups if values is not None for one in terms
    }
    equal = tuple(terms for terms, _ in environment.groups if len(terms) > 1)
    return Known(constants, equal)


class _Classes:
    """Terms in disjoint classes: a forest in which equal terms have one root."""

    __slots__ = ("constants", "parents")

    def __init__(self) -> None:
        self.parents: dict[Term, Term] = {}
        self.constants: dict[Term, Constants | None] = {}
        """By root."""

    def add(self, terms: frozenset[Term], constants: Constants | None) -> None:
        roots = {self._root(one) for one in terms}
        top = roots.pop()
        for root in roots:
            self.parents[root] = top
            constants = _narrower(self.constants.pop(root), constants)
        self.constants[top] = _narrower(self.constants[top], constants)

    def groups(self) -> tuple[tuple[frozenset[Term], Constants | None], ...]:
        members: dict[Term, list[Term]] = {}
        for one in list(self.parents):
            members.setdefault(self._root(one), []).append(one)
        return tuple((frozenset(terms), self.constants[root]) for root, terms in members.items())

    def _root(self, one: Term) -> Term:
        parents = self.parents
        if one not in parents:
            parents[one] = one
            self.constants[one] = None
            return one
        while (above := parents[one]) != one:
            parents[one] = one = parents[above]
        return one


def _telling(constant: Constant) -> bool:
    return bool(constant.functions) or constant.kind in {"null", "default", "opaque"}


def _narrower(one: Constants | None, other: Constants | None) -> Constants | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other, key=_vagueness)


def _vagueness(constants: Constants) -> tuple[bool, int]:
    """Functions last: they may turn out to be volatile."""
    return any(constant.functions for constant in constants), len(constants)


def _common_constants(live: list[Environment]) -> list[tuple[frozenset[Term], Constants | None]]:
    collected: dict[Term, dict[Constant, None]] = {
        one: dict.fromkeys(values)
        for terms, values in live[0].groups
        if values is not None
        for one in terms
    }
    for branch in live[1:]:
        here = {
            one: values for terms, values in branch.groups if values is not None for one in terms
        }
        for one in list(collected):
            values = here.get(one)
            if values is None:
                del collected[one]
            else:
                here_kept = collected[one]
                room = len(here_kept) <= MOST
                here_kept.update((v, None) for v in values if room or _telling(v))
        if not collected:
            break
    return [(frozenset({one}), bounded(values)) for one, values in collected.items()]


def _common_equalities(live: list[Environment]) -> list[tuple[frozenset[Term], Constants | None]]:
    partition: dict[Term, int] = {}
    for number, branch in enumerate(live):
        here = {
            one: place
            for place, (terms, _) in enumerate(branch.groups)
            if len(terms) > 1
            for one in terms
        }
        if number == 0:
            partition = here
        else:
            numbers: dict[tuple[int, int], int] = {}
            partition = {
                one: numbers.setdefault((place, here[one]), len(numbers))
                for one, place in partition.items()
                if one in here
            }
        if not partition:
            return []
    classes: dict[int, set[Term]] = {}
    for one, place in partition.items():
        classes.setdefault(place, set()).add(one)
    return [(frozenset(terms), None) for terms in classes.values() if len(terms) > 1]
