"""Literals by their number, the same in all texts of a shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgguard.sql.literals import (
    _literals,
    behind,
    finder,
    literal_at,
    number_of,
    opening,
    opens,
)
from pgguard.sql.shape import shape


@pytest.mark.parametrize(
    ("text", "at", "value"),
    [
        (b"SELECT 1 FROM t WHERE x = 'a''b'", b"'a", "a'b"),
        (b'SELECT c1 FROM "t1" WHERE x = -5', b"-5", "-5"),
        (b"SELECT 'x' -- '1'\n FROM t WHERE x = 7", b"7", "7"),
        (b"SELECT 1 FROM t WHERE x = 1.5e3 AND y = $1", b"1.5", "1.5e3"),
    ],
)
def test_a_literal_is_found_by_its_place(text: bytes, at: bytes, value: str) -> None:
    number = number_of(text, text.rindex(at))
    assert literal_at(text, number) == value


def test_texts_of_one_shape_number_their_literals_alike() -> None:
    one = b"SELECT 1 FROM t WHERE a = 'x' AND b = 3"
    other = b"SELECT 22 FROM t WHERE a = 'long'' one' AND b = 4711"
    assert shape(one) == shape(other)
    assert literal_at(other, number_of(one, one.index(b"'x'"))) == "long' one"
    assert literal_at(other, number_of(one, one.index(b"3"))) == "4711"


@pytest.mark.parametrize(
    "text", [b"SELECT E'a' = 'b'", b"SELECT $$a$$, 'b'", b"/* /* ' */ */ SELECT 'b'"]
)
def test_what_might_be_read_otherwise_is_not_read(text: bytes) -> None:
    assert number_of(text, text.rindex(b"'b'")) == -1
    assert literal_at(text, 0) is None


@pytest.mark.parametrize(
    ("text", "number", "other", "found"),
    [
        (
            b"SELECT 1 FROM t WHERE x = 'a' AND y = 2",
            1,
            b"SELECT 7 FROM t WHERE x = 'b''c' AND y = 3",
            b"'b''c'",
        ),
        (b"SELECT 1 FROM t WHERE x = 2", 1, b"SELECT 11 FROM t WHERE x = 1.5e3", b"1.5e3"),
        (b'SELECT "a1" FROM t WHERE x = 2', 0, b'SELECT "a1" FROM t WHERE x = .5', b".5"),
    ],
)
def test_a_literal_is_found_in_texts_of_its_shape(
    text: bytes, number: int, other: bytes, found: bytes
) -> None:
    pattern = finder(text, number)
    assert pattern is not None
    match = pattern.fullmatch(other)
    assert match is not None
    assert match.groups() == (found,)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"SELECT 1", 1),
        (b"SELECT 1 FROM t WHERE x = - 5", 1),
        (b"SELECT E'a' = 'b'", 0),
        (b"SELECT 1 -- one", 0),
        (b"SELECT " + b"1, " * 30 + b"1", 0),
        (b"SELECT 1" + b" " * 3000, 0),
    ],
)
def test_what_is_signed_odd_or_too_long_is_not_found(text: bytes, number: int) -> None:
    assert finder(text, number) is None


def test_another_text_than_one_of_the_shape_is_no_match() -> None:
    pattern = finder(b"SELECT a FROM t WHERE x = 2", 0)
    assert pattern is not None
    assert pattern.fullmatch(b"SELECT a FROM t WHERE x = 2 OR y = 3") is None
    assert pattern.fullmatch(b"SELECT a FROM t WHERE y = 2") is None


TEXTS = [
    (b"SELECT x FROM t WHERE a = 1 AND b = 2", 1),
    (b"SELECT x FROM t WHERE b = 'a''b';", 0),
    (b"INSERT INTO t VALUES (1, 'a', 3, now());", 1),
    (b"INSERT INTO t VALUES ('x', 'y', 2, now());", 2),
    (b"INSERT INTO t VALUES ('x', 'y', 2, now());", 0),
    (b"SELECT 1.5e3, .5 FROM t WHERE b IN ('x') LIMIT 5", 2),
]
LITERALS = st.sampled_from(
    ["1", "2", "22", "1.5", ".5", "2e9", "'a'", "''", "'a''b'", "', 2'", "''', '", "'),('", "'2'"]
)


@pytest.mark.parametrize(("text", "number"), TEXTS)
@given(data=st.data())
def test_what_tells_a_literal_by_few_bytes_tells_no_other_one(
    text: bytes, number: int, data: st.DataObject
) -> None:
    """All texts of the shape, with the literal that the text has and with others."""
    own = literal_at(text, number)
    found = [text[start:end] for start, end in _literals(text)]
    words = [
        data.draw(LITERALS.filter(lambda w, o=one: (w[0] == "'") == (o[:1] == b"'"))).encode()
        for one in found
    ]
    if data.draw(st.booleans()):
        words[number] = found[number]
    other, at = b"", 0
    for (start, end), word in zip(_literals(text), words, strict=True):
        other, at = other + text[at:start] + word, end
    other += text[at:]
    same = words[number] == found[number]
    end = behind(text, number)
    if end is not None:
        assert other.endswith(end[0] + found[number] + end[1]) == same
    way = opening(text, number)
    if way is not None and opens(b"Q...." + other, 5, way):
        assert literal_at(other, number) == own
        assert same
    elif way is not None:
        assert not same or any(b"''" in word for word in words[:number])


def test_the_way_to_a_literal_is_known_where_one_sees_where_numbers_end() -> None:
    assert opening(b"SELECT 1 FROM t WHERE b = 'x' LIMIT 1", 1) is not None
    assert opening(b"SELECT 1+1 FROM t WHERE b = 'x' LIMIT 1", 2) is None
    assert opening(b"SELECT 1 FROM t WHERE b = -2", 1) is None
    assert behind(b"SELECT 1 FROM t WHERE b = 2 LIMIT 1", 1) is None
