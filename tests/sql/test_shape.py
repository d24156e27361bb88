"""Shapes held against Postgres's own scanner and grammar, and masks that let nothing out."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pglast.parser import ParseError, parse_sql_json

from pgguard.sql.shape import LONGEST_MASK, fingerprint, mask, only_literals_vary, shape

PLACES = {"location", "stmt_len", "stmt_location", "rexpr_list_start", "rexpr_list_end"}
PLACES |= {"list_start", "list_end"}


def structure(text: str) -> Any:
    """The tree without places and without the values of literals; None if it does not parse."""
    try:
        return strip(json.loads(parse_sql_json(text))["stmts"])
    except (ParseError, UnicodeEncodeError):
        return None


def strip(node: Any) -> Any:
    if isinstance(node, list):
        return [strip(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "A_Const" in node:
        value = node["A_Const"]
        return "null" if "isnull" in value else value.get("boolval", "literal")
    return {key: strip(value) for key, value in node.items() if key not in PLACES}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT 1", "SELECT 22"),
        ("SELECT 1.5", "SELECT 2e10"),
        ("SELECT 'a'", "SELECT 'it''s'"),
        ("SELECT ''", "SELECT 'a'"),
        ("SELECT * FROM t WHERE a=-5", "SELECT * FROM t WHERE a=-7"),
        ("SELECT (1,2)", "SELECT (3,4)"),
        ("SELECT $$a$$", "SELECT $$b$$"),
        ("SELECT $x$a$x$", "SELECT $x$b 'c$x$"),
        (r"SELECT E'a\'b'", r"SELECT E'c\\'"),
        ("SELECT 1 -- one", "SELECT 1 -- another's"),
        ("SELECT /* a */ 1", "SELECT /* it's 2 */ 1"),
        ("/*traceparent='00-1'*/ SELECT 1", "/*traceparent='00-2'*/ SELECT 2"),
        ('SELECT x FROM "t"."a 1" WHERE i = 1', 'SELECT x FROM "t"."a 1" WHERE i = 2'),
    ],
)
def test_texts_that_differ_in_literals_share_a_shape(one: str, other: str) -> None:
    assert shape(one.encode()) is not None
    assert shape(one.encode()) == shape(other.encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT 1", "SELECT '1'"),
        ("SELECT 1", "SELECT NULL"),
        ("SELECT true", "SELECT false"),
        ("SELECT 1", "SELECT $1"),
        ("SELECT $1", "SELECT $2"),
        ("SELECT a1", "SELECT a2"),
        ('SELECT "a 1"', 'SELECT "a 2"'),
        ('SELECT T "a"', 'SELECT "T a"'),
        ('SELECT "it\'s"', 'SELECT "it\'s 1"'),
        ("SELECT 1, 2", "SELECT 1"),
        ("SELECT", "SELECT 1"),
        ("SELECT a/**/b", "SELECT ab"),
        ("SELECT 'a' -- x\n 'b'", "SELECT 'a' /* x \n */ 'b'"),
        ("SELECT 1 -- a\r, 2", "SELECT 1 -- a, 2"),
        ("SELECT 0x1F", "SELECT 0x1E"),
        ("SELECT 1_000", "SELECT 1_001"),
        ("SELECT $tag$a$tag$", "SELECT $other$a$other$ , 1"),
        ("SELECT é1", "SELECT é2"),
    ],
)
def test_texts_that_differ_otherwise_do_not(one: str, other: str) -> None:
    assert shape(one.encode()) != shape(other.encode())


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'a",
        'SELECT "a',
        "SELECT $$a",
        r"SELECT E'a\'",
        "SELECT /* a",
        "SELECT /* a /* b */ c */ 1",
        "SELECT U&\"d\\0061t\" UESCAPE '!'",
        "SELECT u&\"d!0061t\" UESCAPE '!'",
        "SELECT 'a' '",
        "SELECT 1\0",
    ],
)
def test_a_text_that_cannot_be_told_apart_safely_has_no_shape(text: str) -> None:
    assert shape(text.encode()) is None


LITERALS = ["1", "22", "1.5", "1e5", ".5", "'a'", "'b'", "''", "'it''s'", "'--'", "'/*'", "'\"'"]
LITERALS += ["E'x'", "E'\\''", "E'\\\\'", "$$x$$", "$$'$$", "$t$ $$ $t$", "B'1'", "N'x'", "'1'"]
WORDS = ["SELECT", "a", "a1", "FROM", "t", "WHERE", "AND", "OR", "NULL", "true", "like", "e", "E"]
WORDS += ['"q"', '"q 1"', '"it\'s"', '"a""b"', "$1", "$2", "::text", "IN", "AS", "é1", "x$1", "u&"]
SIGNS = ["(", ")", ",", ";", "=", "-", "--", "+", "/", "*", "/*", "*/", ".", "<", "\\", "'", '"']
SIGNS += ["$", "$$", "|| ", "\n", "\r", "\t", " ", " ", " ", "/* c */", "/* 'c */", "-- c\n"]
SIGNS += ["-- '\r", "?", ":"]

pieces = st.sampled_from([*LITERALS, *LITERALS, *WORDS, *SIGNS, " ", " "])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, str]:
    """Two texts of the same pieces, but for some that are exchanged."""
    kept = draw(st.lists(pieces, max_size=12))
    one = ["SELECT ", *kept]
    other = [
        draw(st.sampled_from(LITERALS)) if piece in LITERALS and draw(st.booleans()) else piece
        for piece in one
    ]
    if draw(st.integers(0, 3)) == 0 and other:
        place = draw(st.integers(0, len(other) - 1))
        other[place] = draw(pieces)
    return "".join(one), "".join(other)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(pair=pairs())
@example(pair=('SELECT T "a"', 'SELECT "T a"'))
@example(pair=("SELECT like'x'", "SELECT like'y'"))
def test_two_texts_of_one_shape_have_one_structure(pair: tuple[str, str]) -> None:
    one, other = pair
    key = shape(one.encode())
    if key is None or key != shape(other.encode()):
        return
    trees = structure(one), structure(other)
    if None not in trees:
        assert trees[0] == trees[1]


digits = st.sampled_from("0123456789")


@st.composite
def twins(draw: st.DrawFn) -> tuple[str, str]:
    """A text, and the same one with other digits in the same places."""
    numbers = st.sampled_from(["1", "0x1F", "1_0", "1e5", "1.", ".5", "0b1", "$1", "$1$", "1a"])
    kept = draw(st.lists(st.one_of(pieces, numbers, digits), max_size=12))
    one = "".join(["SELECT ", *kept])
    return one, re.sub("[0-9]", lambda _: draw(digits), one)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(pair=twins())
@example(pair=("SELECT a1", "SELECT a2"))
@example(pair=("SELECT $1", "SELECT $2"))
@example(pair=("SELECT 0b1", "SELECT 0b2"))
@example(pair=("SELECT '1' 1.5", "SELECT '2' 2.7"))
@example(pair=("SELECT $1$", "SELECT $2$"))
def test_if_only_literals_vary_texts_with_other_digits_are_of_one_kind(
    pair: tuple[str, str],
) -> None:
    one, other = pair
    key = shape(one.encode())
    if key is None or not only_literals_vary(key):
        return
    assert shape(other.encode()) == key
    trees = structure(one), structure(other)
    if None not in trees:
        assert trees[0] == trees[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1, '2', 3.5e7", True),
        ("SELECT a FROM t", True),
        ("SELECT a1", False),
        ("SELECT $1", False),
        ('SELECT "1"', False),
        ("SELECT 0x1", False),
        ("SELECT 1_000", False),
        ("SELECT 1 -- 1", False),
        (r"SELECT E'\101'", False),
        ("SELECT $$1$$", False),
        ("SELECT $a1$1$a1$", False),
    ],
)
def test_digits_outside_of_plain_literals_are_noticed(text: str, expected: bool) -> None:
    key = shape(text.encode())
    assert key is not None
    assert only_literals_vary(key) is expected


@settings(max_examples=300, deadline=None)
@given(text=st.binary(max_size=60))
def test_any_bytes_have_a_shape_or_none_and_a_mask(text: bytes) -> None:
    shape(text)
    mask(text)
    mask(text, readable=False)


SECRETS = [
    "'secret'",
    "'a''secret'",
    "E'\\'secret'",
    "$$secret$$",
    "$t$secret$t$",
    "4711",
    "1.4711",
]
SECRETS += ["0x4711", "'a\\'secret'", "U&'secret'", "B'4711'", "N'secret'", "1e4711", "4_711"]


@pytest.mark.parametrize("literal", SECRETS)
@pytest.mark.parametrize("readable", [True, False])
def test_no_literal_leaves_through_a_mask(literal: str, readable: bool) -> None:
    for text in (
        f"SELECT * FROM t WHERE a = {literal} AND b = 1",
        f"SELECT {literal}, '",
        f"SELECT /* {literal} */ a -- {literal}",
        f"SELECT 'x', {literal}; SELECT \"",
    ):
        masked = mask(text.encode(), readable=readable)
        assert "secret" not in masked
        assert "4711" not in masked
        assert "4_711" not in masked
        assert masked.startswith("SELECT")


whole = st.sampled_from([*LITERALS, *WORDS, "(", ",", "=", "/* c */", "-- '\r", "\n"])


@settings(max_examples=300, deadline=None)
@given(
    parts=st.lists(st.one_of(whole, st.sampled_from(["'secret'", "$$secret$$"])), max_size=8),
    stray=st.one_of(st.none(), st.integers(0, 8)),
)
def test_no_secret_leaves_even_if_one_quote_too_many_turns_everything_round(
    parts: list[str], stray: int | None
) -> None:
    if stray is not None:
        parts.insert(stray, "'")
    text = " ".join(parts)
    # An identifier that holds the word is no literal.
    if not re.search(r'"[^"]*secret', text):
        assert "secret" not in mask(text.encode())


def test_a_mask_keeps_identifiers_parameters_and_words() -> None:
    text = b"SELECT \"it's 1\".a1, $1 FROM t2 WHERE x = 'y' LIMIT 5 -- z"
    assert mask(text) == "SELECT \"it's 1\".a1, $1 FROM t2 WHERE x = '?' LIMIT ?"


def test_a_mask_is_cut_and_the_cut_hides_a_literal_that_it_opens() -> None:
    text = b"SELECT a" + b" " * (LONGEST_MASK - 12) + b"'secret is long'"
    assert "secret" not in mask(text)
    assert len(mask(b"x " * LONGEST_MASK)) < LONGEST_MASK + 10


def test_a_fingerprint_is_the_same_in_every_run() -> None:
    key = shape(b"SELECT * FROM t WHERE id = 1")
    assert key is not None
    assert fingerprint(key) == "647cd3c3d4a7e0e3"
    assert re.fullmatch(r"[0-9a-f]{16}", fingerprint(b""))


@pytest.mark.parametrize(
    "text",
    [
        b"'" * 100_001,
        b'"' * 100_001,
        b"E'" + b"\\'" * 50_000,
        b"$a$ " * 30_000,
        b"".join(b"$a%d$ " % n for n in range(10_000)),
        b"/*" * 50_000,
        b"/* * " * 20_000,
        b"1." * 50_000,
        b"--" * 50_000,
        b"1e" * 50_000,
        b"\\" + b"''" * 50_000,
    ],
    ids=range(11),
)
def test_no_text_takes_long(text: bytes) -> None:
    from time import thread_time

    start = thread_time()
    shape(text)
    mask(text)
    assert thread_time() - start < 1.0
