"""AND and OR of facts, against a model that tries every assignment."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from pgguard.sql.facts.environment import (
    MOST,
    NOTHING,
    Environment,
    both,
    bounded,
    either,
    known,
)
from pgguard.sql.statement import MORE, NULL, Constant, Name, Term

A, B, C = Term("a"), Term("b"), Term("c")
X, Y, Z = (Constant("literal", name) for name in "xyz")


def fact(term: Term, *values: Constant) -> Environment:
    return Environment(((frozenset({term}), frozenset(values)),))


def equal(*terms: Term) -> Environment:
    return Environment(((frozenset(terms), None),))


leaves = st.one_of(
    st.just(NOTHING),
    st.none(),
    st.builds(fact, st.sampled_from([A, B, C]), st.sampled_from([X, Y, Z])),
    st.builds(fact, st.just(A), st.just(X), st.just(Y)),
    st.sampled_from([equal(A, B), equal(B, C), equal(A, C)]),
)
Formula = Environment | tuple[str, list["Formula"]] | None
formulas: st.SearchStrategy[Formula] = st.recursive(
    leaves,
    lambda inner: st.tuples(
        st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


def evaluate(formula: Formula) -> Environment | None:
    if isinstance(formula, tuple):
        parts = [evaluate(part) for part in formula[1]]
        return both(parts) if formula[0] == "and" else either(parts, hopeful=False)
    return formula


def holds(formula: Formula, row: dict[Term, Constant]) -> bool:
    """Whether a row satisfies the formula itself."""
    if isinstance(formula, tuple):
        test = all if formula[0] == "and" else any
        return test(holds(part, row) for part in formula[1])
    return agrees(formula, row)


def agrees(environment: Environment | None, row: dict[Term, Constant]) -> bool:
    if environment is None:
        return False
    return all(
        len({row[term] for term in terms}) == 1
        and (values is None or all(row[term] in values for term in terms))
        for terms, values in environment.groups
    )


@given(formula=formulas)
def test_what_is_known_holds_for_every_row_that_passes(formula: Formula) -> None:
    environment = evaluate(formula)
    for values in product([X, Y, Z], repeat=3):
        row = dict(zip((A, B, C), values, strict=True))
        if holds(formula, row):
            assert agrees(environment, row)


def test_and_unites_classes_and_keeps_the_narrower_constants() -> None:
    said = known(both([equal(A, B), fact(B, X, Y), fact(A, X)]))
    assert said.constants == {A: frozenset({X}), B: frozenset({X})}
    assert said.equal == (frozenset({A, B}),)


def test_or_unites_constants_and_keeps_common_equalities() -> None:
    one = both([fact(A, X), equal(B, C)])
    other = both([fact(A, Y), equal(A, B), equal(B, C)])
    said = known(either([one, other], hopeful=False))
    assert said.constants == {A: frozenset({X, Y})}
    assert said.equal == (frozenset({B, C}),)


def test_a_branch_that_no_row_satisfies_is_dropped() -> None:
    assert either([None, fact(A, X)], hopeful=False) == fact(A, X)
    assert either([None, None], hopeful=False) is None
    assert both([None, fact(A, X)]) is None
    assert known(None).impossible


def test_a_constant_with_functions_gives_way_to_a_plain_one() -> None:
    called = Constant("expression", "", (Name("", "f"),))
    said = known(both([fact(A, called), fact(A, X)]))
    assert said.constants[A] == frozenset({X})


def test_a_large_set_is_cut_but_keeps_what_may_be_no_constant() -> None:
    called = Constant("expression", "", (Name("", "f"),))
    many = [Constant("literal", str(n)) for n in range(10 * MOST)]
    kept = bounded([*many, called, NULL])
    assert {MORE, called, NULL} <= kept
    assert len(kept) == MOST + 3
    branches: list[Environment | None] = [fact(A, value) for value in many]
    said = known(either([*branches, fact(A, called)], hopeful=False))
    assert {MORE, called} <= said.constants[A]


def test_a_hopeful_reading_drops_what_depends_on_values() -> None:
    switch = Environment((), conditional=True)
    assert either([fact(A, X), switch], hopeful=True) == fact(A, X)
    assert either([fact(A, X), switch], hopeful=False) == NOTHING
    assert either([switch, switch], hopeful=True) == switch
