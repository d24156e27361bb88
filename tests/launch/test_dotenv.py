"""Lines of `.env` files, and what a loader makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgguard.launch.dotenv import Line, read_dotenv

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=plain", "plain"),
        ("export A=exported", "exported"),
        ("  A = spaced  ", "spaced"),
        ("A=", ""),
        ("A= # nothing", ""),
        ("A=value # comment", "value"),
        ("A=pass#word", "pass#word"),
        ("A='it is # all'", "it is # all"),
        ("A='raw \\n ${B}'", "raw \\n ${B}"),
        ('A="two\\nlines"', "two\nlines"),
        ('A="a \\"quote\\""  # comment', 'a "quote"'),
        ('A="over\ntwo"', "over\ntwo"),
        ('A=`it\'s "both"`', 'it\'s "both"'),
        ("A=1\nA=2", "2"),
        ("A=windows\r\nB=1\r\n", "windows"),
        ("\ufeffA=marked", "marked"),
        ("A=postgres://u:p%40w@h:5432/db?x=1#frag", "postgres://u:p%40w@h:5432/db?x=1#frag"),
        ("HOST=file\nA=postgres://${HOST}:${PORT}/db", "postgres://file:7/db"),
        ('A="pa$$word ${MISSING}"', "pa$$word "),
        ("PORT=8\nA=${PORT}", "7"),
        ("# A=no\nnonsense\n=B\nA=yes", "yes"),
    ],
)
def test_a_value_is_read_as_loaders_read_it(tmp_path: Path, text: str, value: str) -> None:
    file = tmp_path / ".env"
    file.write_bytes(text.encode())
    assert read_dotenv(file, {"PORT": "7"})["A"].value == value


def test_lines_are_counted_from_one_also_after_values_over_several_lines(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text('# first\nA="one\ntwo"\n\n  B=3\n')
    assert read_dotenv(file, {}) == {"A": Line("one\ntwo", 2), "B": Line("3", 5)}


def test_a_commented_assignment_is_none(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("#A=1\n # B=2\n")
    assert read_dotenv(file, {}) == {}


def test_a_missing_or_unreadable_file_is_empty(tmp_path: Path) -> None:
    assert read_dotenv(tmp_path / ".env", {}) == {}
    assert read_dotenv(tmp_path, {}) == {}


def test_bytes_that_are_no_utf8_survive(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"A=caf\xe9\n")
    assert read_dotenv(file, {})["A"].value.encode("utf-8", "surrogateescape") == b"caf\xe9"
