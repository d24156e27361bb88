"""Texts that are made to hold the parser up."""

from __future__ import annotations

import pytest

from pgguard.sql.parse import Unparsed, parse

LONG = 120_000


@pytest.mark.parametrize(
    "text",
    [
        "/*" * (LONG // 2),
        "select " + "+" * LONG,
        "select " + "+-" * (LONG // 2),
        "select */" * 10 + "*/" * (LONG // 2),
        ("select 1 " + "/*+" * 1000) * 20,
    ],
    ids=["comments in comments", "signs", "mixed signs", "ends of comments", "several runs"],
)
def test_runs_that_the_scanner_reads_again_and_again_are_not_read(text: str) -> None:
    assert parse(text) == Unparsed("a run of operators is too long to be read")


@pytest.mark.parametrize(
    "text",
    [
        f"/*{'*' * 4000}*/ select 1",
        f"-- {'=' * LONG}\nselect 1",
        f"/* {'-' * LONG} */ select 1",
        f"select '{'=' * LONG}', '{'-' * LONG}'",
        f"select '{'+' * 4000}'",
        "select 1" + " + 1" * 200,
    ],
    ids=["banner", "line", "block", "in a string", "signs in a string", "a sum"],
)
def test_what_people_write_is_read(text: str) -> None:
    assert not isinstance(parse(text), Unparsed)
