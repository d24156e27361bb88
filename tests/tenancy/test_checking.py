"""Statements that nobody runs: each gets an answer, with its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pgguard.findings import Relation, Verdict
from pgguard.tenancy.checking import Checker, Item, Source, worse_than_scoped
from pgguard.tenancy.policy import Allow, Policy, PolicySettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgguard.tenancy.checking import Checked
    from pgguard.tenancy.judge import Judge

UNSCOPED = "SELECT * FROM bookings AS b WHERE b.status = 'x'"


@pytest.fixture
def check(judge_of: Callable[[str], Judge]) -> Callable[..., Checked]:
    """The answer to a statement that stands alone in its file."""

    def answer(sql: str, *allow: Allow, **more: Any) -> Checked:
        policy = Policy(PolicySettings(allow=allow))
        item = Item(Source("a.sql", sql), sql, 0, **more)
        return Checker(judge_of("booking"), policy).check(item)

    return answer


def test_a_source_knows_lines_and_columns() -> None:
    source = Source("a.sql", "é\nab\n\nc")
    places = [source.place(offset) for offset in range(len(source.text) + 1)]
    assert places == [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 1), (4, 1), (4, 2)]


def test_a_finding_stands_where_its_table_does(check: Callable[..., Checked]) -> None:
    checked = check(f"-- é\n{UNSCOPED}")
    assert checked.is_finding
    assert (checked.verdict, checked.code) == (Verdict.unscoped, "PGG101")
    assert checked.place == (2, 1 + UNSCOPED.index("bookings"))


def test_a_position_is_that_of_the_text_and_not_of_one_of_its_shape(
    judge_of: Callable[[str], Judge],
) -> None:
    checker = Checker(judge_of("booking"), Policy())
    for literal in ("'x'", "'a longer one'"):
        sql = f"SELECT {literal} FROM bookings"
        checked = checker.check(Item(Source("a", sql), sql, 0))
        assert checked.position == sql.index("bookings")


def test_what_is_scoped_is_no_finding(check: Callable[..., Checked]) -> None:
    checked = check("SELECT * FROM bookings WHERE tenant_id = $1")
    assert (checked.verdict, checked.code, checked.is_finding) == (Verdict.scoped, "", False)


def test_an_input_that_is_wrong_is_unknown_and_says_why(check: Callable[..., Checked]) -> None:
    checked = check("", problem="the line is not JSON")
    assert (checked.verdict, checked.code) == (Verdict.unknown, "PGG901")
    assert checked.why == "the line is not JSON"
    assert check("SELECT '\ud800'").code == "PGG901"


@pytest.mark.parametrize(
    ("comment", "reason"),
    [
        ("-- pgguard:ignore PGG101 read by operators only", "read by operators only"),
        ("/* pgguard:ignore PGG102, PGG101: a report */", "a report"),
        ("-- pgguard:ignore PGG101", ""),
        ("-- pgguard:ignore PGG102 another", ""),
    ],
)
def test_a_comment_with_a_reason_ignores_a_code(
    check: Callable[..., Checked], comment: str, reason: str
) -> None:
    checked = check(f"{UNSCOPED} {comment}")
    assert checked.allowed == reason
    assert checked.is_finding == (not reason)


def test_a_comment_in_a_literal_ignores_nothing(check: Callable[..., Checked]) -> None:
    assert check("SELECT '-- pgguard:ignore PGG101 x' FROM bookings").is_finding


def test_an_exception_of_the_settings_holds_here_too(check: Callable[..., Checked]) -> None:
    assert check(UNSCOPED, Allow("why", client="a.*")).allowed == "why"
    assert check(UNSCOPED, Allow("why", client="b.*")).is_finding


def test_relations_are_named_once_in_order() -> None:
    levels = {"b": "unscoped", "a": "by_id", "c": "scoped"}
    relations = [Relation(name, "", level, "") for name, level in levels.items()]
    assert worse_than_scoped([*relations, *relations]) == ["a", "b"]
