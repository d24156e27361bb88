"""Two levels, two generations, and who may share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgguard.counters import ProcessCounters
from pgguard.sql.cache import EXACT, SHAPED, StatementCache
from pgguard.sql.statement import PENDING


def cache(**limits: int) -> StatementCache:
    return StatementCache(ProcessCounters(), **limits)


def test_the_same_bytes_give_the_same_statement() -> None:
    one = cache()
    first = one.get(b"SELECT 1")
    assert first.verdict == PENDING
    assert one.get(bytes(bytearray(b"SELECT 1"))) is first
    assert (one.counters.cache_hits, one.counters.cache_misses) == (1, 1)


def test_the_exact_level_is_one_dictionary_for_life() -> None:
    one = cache(entries=40)
    exact = one.exact
    for number in range(1000):
        one.get(b"SELECT a%d" % number)
    assert one.exact is exact
    assert one.get(b"SELECT a999") is exact[b"SELECT a999"]


def test_texts_share_a_statement_only_after_it_was_shared() -> None:
    one = cache()
    first = one.get(b"SELECT 1")
    assert one.get(b"SELECT 2") is not first
    one.share(first)
    assert one.get(b"SELECT 3") is first
    assert one.get(b"SELECT 3") is first
    assert one.get(b"SELECT 'a'") is not first


def test_texts_that_differ_in_digits_share_once_one_was_found_by_shape() -> None:
    one = cache()
    first = one.get(b"SELECT 10, 'a1'")
    one.share(first)
    assert not one.numbered
    assert one.get(b"SELECT 20, 'a2'") is first
    assert list(one.numbered) == [b"SELECT 00, 'a0'"]
    assert one.get(b"SELECT 34, 'a5'") is first
    assert one.get(b"SELECT 3, 'a5'") is first
    assert b"SELECT 20, 'a2'" not in one.exact


def test_digits_of_names_and_parameters_keep_texts_apart() -> None:
    one = cache()
    for text in (b"SELECT a1, 1", b"SELECT $1, 1", b"SELECT 0x1, 1", b'SELECT "1", 1'):
        first = one.get(text)
        one.share(first)
        assert one.get(text[:-1] + b"2") is first
        assert one.get(text.replace(b"1", b"2", 1)) is not first
    assert not one.numbered


def test_a_statement_that_is_forgotten_is_not_found_by_its_digits_either() -> None:
    one = cache()
    first = one.get(b"SELECT 1")
    one.share(first)
    assert one.get(b"SELECT 2") is first
    one.forget(first)
    assert not one.numbered
    assert one.get(b"SELECT 3") is not first


def test_the_level_of_digits_is_one_dictionary_for_life_and_bounded() -> None:
    one = cache(entries=40)
    numbered = one.numbered
    for number in range(100):
        name = b"SELECT " + bytes([0x61 + number % 26]) * (1 + number // 26)
        one.share(one.get(name + b", 1"))
        one.get(name + b", 2")
        assert len(numbered) <= 5
    assert one.numbered is numbered
    assert one.get(name + b", 3") is one.get(name + b", 1")


def test_texts_too_long_to_be_kept_are_not_looked_up_by_their_digits() -> None:
    one = cache()
    first = one.get(b"SELECT 1" + b" " * EXACT)
    one.share(first)
    assert one.get(b"SELECT 2" + b" " * EXACT) is first
    assert not one.numbered


def test_the_first_to_be_shared_stays_the_one() -> None:
    one = cache()
    first, second = one.get(b"SELECT 1"), one.get(b"SELECT 2")
    one.share(first)
    one.share(second)
    assert one.get(b"SELECT 3") is first


def test_a_forgotten_statement_is_shared_no_more() -> None:
    one = cache()
    first = one.get(b"SELECT 1")
    one.share(first)
    assert one.get(b"SELECT 2") is first
    one.forget(first)
    assert one.get(b"SELECT 2") is not first
    assert one.get(b"SELECT 1") is not first


def test_what_was_never_shared_is_not_forgotten() -> None:
    one = cache()
    first = one.get(b"SELECT 1")
    one.forget(first)
    assert one.get(b"SELECT 1") is first


def test_what_is_in_use_survives_what_is_not() -> None:
    one = cache(entries=200)
    kept = one.get(b"SELECT kept")
    for number in range(2000):
        one.get(b"SELECT a%d" % number)
        assert one.get(b"SELECT kept") is kept
    assert one.get(b"SELECT a0") not in {None, kept}
    assert one.counters.cache_misses == 2002


def test_large_texts_are_found_again_without_their_bytes_as_a_key() -> None:
    one = cache()
    text = b"SELECT " + b"a," * EXACT + b"a"
    statement = one.get(text)
    assert one.get(text) is statement
    assert text not in one.exact


def test_a_text_too_large_for_a_shape_stands_for_itself() -> None:
    one = cache()
    text = b"SELECT " + b"1," * SHAPED + b"1"
    first = one.get(text)
    assert first.shape is None
    one.share(first)
    assert one.get(text.replace(b"1", b"2")) is not first


def test_every_statement_is_listed_once() -> None:
    one = cache()
    first = one.get(b"SELECT 1")
    one.share(first)
    one.get(b"SELECT 2")
    other = one.get(b"SELECT a")
    assert sorted(map(id, one.statements())) == sorted(map(id, [first, other]))


@given(sizes=st.lists(st.integers(1, 3000), max_size=200))
def test_the_cache_is_bounded_in_entries_and_bytes(sizes: list[int]) -> None:
    limit = 64 * 1024
    one = cache(limit=limit, entries=100)
    for number, size in enumerate(sizes):
        one.share(one.get(b"SELECT %d, " % number + b"a" * size))
    levels = (one._exact, one._shapes, one._digests)
    sides = [side for level in levels for side in (level.young, level.old)]
    assert sum(map(len, sides)) <= 100
    assert sum(len(key) for side in sides for key in side) <= limit
