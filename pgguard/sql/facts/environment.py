"""Sets of constants that stay small.

Laws: a set says what a term may be, so a larger one is always sound; none holds much more than
`MOST`, whatever the text says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgguard.sql.statement import MORE, OPAQUE, Constant, Name

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST: Final = 64

Constants = frozenset[Constant]


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


def _telling(constant: Constant) -> bool:
    return bool(constant.functions) or constant.kind in {"null", "default", "opaque"}


def narrower(one: Constants | None, other: Constants | None) -> Constants | None:
    """Of two sets that both hold, the one that says more; None = nothing is known."""
    if one is None or other is None:
        return one if other is None else other
    return min(one, other, key=_vagueness)


def _vagueness(constants: Constants) -> tuple[bool, int]:
    """Functions last: they may turn out to be volatile."""
    return any(constant.functions for constant in constants), len(constants)
