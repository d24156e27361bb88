"""What environments know, what children inherit, and what goes out of them."""

from __future__ import annotations

import pytest

from pgguard.sql.statement import MAYBE, NULL, Constant
from pgguard.tenancy.environment import Environment, Link, alternatives, learn

A, B, C, D = range(4)
X, Y, Z = (Constant("literal", text) for text in "xyz")
XY = frozenset({X, Y})


def environment(parent: Environment | None = None) -> Environment:
    return Environment(0 if parent is None else parent.number + 1, parent)


def test_equal_terms_share_constants_and_others_do_not() -> None:
    env = environment()
    env.equal, env.given = [(A, B), (B, C)], [(C, XY)]
    env.absorb()
    assert env.constants(A) == env.constants(B) == XY
    assert env.constants(D) is None


def test_what_is_known_is_not_new() -> None:
    env = environment()
    assert (env.merge(A, B), env.merge(B, A)) == (True, False)
    assert (env.give(A, XY), env.give(B, XY)) == (True, False)
    assert (env.harden(A), env.harden(B)) == (True, False)


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        ({X, Y, Z}, {X, Y}, {X, Y}),
        ({X}, {X, Y}, {X}),
        ({X, NULL}, {X}, {X}),
    ],
)
def test_constants_of_two_conditions_narrow_each_other(
    first: set[Constant], second: set[Constant], left: set[Constant]
) -> None:
    for merged_late in (False, True):
        env = environment()
        if not merged_late:
            env.merge(A, B)
        env.give(A, frozenset(first))
        env.give(B, frozenset(second))
        env.merge(A, B)
        assert env.constants(A) == env.constants(B) == frozenset(left)


@pytest.mark.parametrize("harden_first", [True, False])
def test_a_term_that_is_not_null_is_no_null_constant(harden_first: bool) -> None:
    env = environment()
    if harden_first:
        env.harden(A)
    env.give(A, frozenset({X, NULL, MAYBE}))
    env.harden(A)
    assert env.constants(A) == frozenset({X})
    assert not env.is_false()


@pytest.mark.parametrize("harden_first", [True, False])
def test_a_term_that_is_null_and_not_null_is_no_row(harden_first: bool) -> None:
    env = environment()
    if harden_first:
        env.harden(A)
    env.give(A, frozenset({NULL}))
    env.harden(A)
    assert env.is_false()


def test_a_child_knows_what_its_parent_knows_and_gives_nothing_back() -> None:
    parent = environment()
    child, sibling = environment(parent), environment(parent)
    parent.give(A, XY)
    child.merge(A, B)
    child.give(B, frozenset({X}))
    child.harden(C)
    assert child.constants(A) == child.constants(B) == frozenset({X})
    for other in (parent, sibling):
        assert other.constants(A) == XY
        assert other.constants(B) is None
        assert not other.is_solid(C)


def test_no_row_of_a_parent_is_no_row_of_a_child_but_not_the_reverse() -> None:
    parent = environment()
    child = environment(parent)
    child.false = True
    assert (parent.is_false(), child.is_false()) == (False, True)
    child.false, parent.false = False, True
    assert child.is_false()


def test_a_reset_forgets_what_followed_but_not_what_is_impossible() -> None:
    env = environment()
    env.merge(A, B)
    env.give(A, frozenset())
    env.harden(A)
    env.reset()
    assert (env.find(A), env.find(B), env.constants(A), env.is_solid(A)) == (A, B, None, False)
    assert not env.is_false()
    env.impossible = True
    env.reset()
    assert env.is_false()


def test_what_dissolves_holds_in_its_parent() -> None:
    parent = environment()
    child = environment(parent)
    inner = environment(child)
    parent.equal, child.equal, child.given, child.strict = [(A, B)], [(B, C)], [(C, XY)], [B]
    parent.absorb()
    assert parent.constants(A) is None
    child.dissolve(parent)
    parent.absorb()
    assert parent.constants(A) == XY
    assert parent.is_solid(A)
    assert child.place() is inner.above() is parent
    assert inner.chain() == [parent, inner]


@pytest.mark.parametrize(
    ("nullable", "false", "held", "solid"),
    [
        (False, False, {X}, True),
        (True, False, {X, MAYBE}, False),
        (True, True, {NULL}, False),
        (False, True, None, True),
    ],
)
def test_a_link_lets_constants_out(
    nullable: bool, false: bool, held: set[Constant] | None, solid: bool
) -> None:
    parent = environment()
    child = environment(parent)
    child.merge(A, B)
    child.give(A, frozenset({X}))
    child.harden(A)
    child.false = false
    link = Link(child, parent, nullable=nullable)
    link.pairs = {A: C, B: D}
    facts = list(link.facts())
    assert [(theirs, twin) for theirs, twin, *_ in facts] == [(C, C), (D, C)]
    assert [(one[2], one[3]) for one in facts] == [(held, solid)] * 2


def test_branches_without_rows_and_those_hoped_away_are_dropped() -> None:
    parent = environment()
    plain, hoped, dead = (environment(parent) for _ in range(3))
    hoped.conditional, dead.false = True, True
    assert alternatives([plain, hoped, dead], hopeful=False) == [plain, hoped]
    assert alternatives([plain, hoped, dead], hopeful=True) == [plain]
    assert alternatives([hoped, dead], hopeful=True) == [hoped]
    assert alternatives([dead], hopeful=False) is None


def branches() -> tuple[Environment, Environment, Environment]:
    parent = environment()
    return parent, environment(parent), environment(parent)


def test_of_or_holds_what_every_branch_says() -> None:
    parent, one, other = branches()
    for branch, constant in ((one, X), (other, Y)):
        branch.merge(A, B)
        branch.give(A, frozenset({constant}))
        branch.harden(A)
    assert learn(parent, [one, other], [A, B])
    assert parent.constants(A) == XY
    assert parent.find(A) == parent.find(B)
    assert parent.is_solid(A)
    assert not learn(parent, [one, other], [A, B])


def test_of_or_holds_nothing_that_one_branch_alone_says() -> None:
    parent, one, other = branches()
    one.merge(A, B)
    one.give(A, frozenset({X}))
    one.harden(A)
    other.merge(B, C)
    assert not learn(parent, [one, other], [A, B, C])
    assert parent.constants(A) is None
    assert len({parent.find(term) for term in (A, B, C)}) == 3
    assert not parent.is_solid(A)


def test_a_long_way_to_a_representative_is_shortened_and_leads_to_the_same() -> None:
    env = environment()
    for term in range(50):
        assert env.merge(term + 1, term)
    root = env.find(0)
    assert len({env.find(term) for term in range(51)}) == 1
    assert env.up[0] == root
    inner = environment(env)
    assert inner.merge(0, 60)
    assert inner.find(60) == inner.find(0) == inner.find(50)
