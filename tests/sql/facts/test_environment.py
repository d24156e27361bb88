"""Sets of constants that stay small."""

from __future__ import annotations

from pgguard.sql.facts.environment import MOST, bounded, narrower
from pgguard.sql.statement import MORE, NULL, Constant, Name

CALLED = Constant("expression", "", (Name("", "f"),))


def test_a_constant_with_functions_gives_way_to_a_plain_one() -> None:
    plain, called = frozenset({Constant("literal", "x")}), frozenset({CALLED})
    assert narrower(called, plain) == narrower(plain, called) == plain
    assert narrower(None, called) == called
    assert narrower(plain, None) == plain
    assert narrower(None, None) is None


def test_a_large_set_is_cut_but_keeps_what_may_be_no_constant() -> None:
    many = [Constant("literal", str(n)) for n in range(10 * MOST)]
    kept = bounded([*many, CALLED, NULL])
    assert {MORE, CALLED, NULL} <= kept
    assert len(kept) == MOST + 3
