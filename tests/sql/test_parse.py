"""The parser's adapter: trees, or reasons."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgguard.sql.parse import Unparsed, parse


def test_statements_come_one_by_one() -> None:
    tree = parse("SELECT 1; ; BEGIN")
    assert isinstance(tree, list)
    assert [next(iter(entry["stmt"])) for entry in tree] == ["SelectStmt", "TransactionStmt"]


@pytest.mark.parametrize("text", ["", ";", " -- nothing\n"])
def test_an_empty_text_has_no_statement(text: str) -> None:
    assert parse(text) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("SELECT 'secret", "unterminated quoted string"),
        ("SELECT FROM WHERE secret", "syntax error"),
        ("SELECT 1\0; SELECT 2", "NUL"),
        ("SELECT '\ud800'", "decoded"),
        ("SELECT 1" + " - 1" * 40_000, "stack depth limit exceeded"),
        ("SELECT " + "(" * 50_000 + "1" + ")" * 50_000, "memory exhausted"),
        ("SELECT " + "(SELECT " * 2400 + "1" + ")" * 2400, "nested too deeply"),
    ],
)
def test_what_cannot_be_read_has_a_reason_without_a_piece_of_the_text(
    text: str, reason: str
) -> None:
    tree = parse(text)
    assert isinstance(tree, Unparsed)
    assert reason in tree.reason
    assert "secret" not in tree.reason


def test_a_text_over_the_limit_is_not_parsed() -> None:
    assert isinstance(parse("SELECT 1", 7), Unparsed)
    assert isinstance(parse("SELECT 1", 8), list)


@given(text=st.text(max_size=100))
def test_no_text_raises(text: str) -> None:
    assert isinstance(parse(text), (list, Unparsed))


def test_pglast_is_imported_only_when_something_is_parsed() -> None:
    code = "import sys, pgguard.tenancy.judge; print('pglast' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
