"""A flood of events does not become a flood of lines, and nothing is left out in silence."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pgguard.cli import seldom
from pgguard.cli.seldom import BURST, WINDOW, Seldom

if TYPE_CHECKING:
    import pytest


class Lines:
    """What passes the filter, on a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.filter = Seldom(lambda: self.now)
        self.passed: list[str] = []

    def log(self, text: str, kind: str | None = "a", level: int = logging.WARNING) -> None:
        record = logging.LogRecord("pgguard", level, __file__, 1, "%s", (text,), None, "here")
        if kind is not None:
            record.kind = kind
        if self.filter.filter(record):
            self.passed.append(record.getMessage())


def test_each_kind_has_a_burst_of_its_own() -> None:
    lines = Lines()
    for number in range(10 * BURST):
        lines.log(f"line {number}", "a")
        lines.log(f"line {number}", "b")
    assert len(lines.passed) == 2 * BURST


def test_what_was_left_out_is_said_by_the_next_line() -> None:
    lines = Lines()
    for number in range(BURST + 7):
        lines.log(f"line {number}")
    lines.now = WINDOW
    lines.log("later")
    assert lines.passed[-1] == "later (7 more lines of this kind were left out before)"
    lines.now = 2 * WINDOW
    lines.log("much later")
    assert lines.passed[-1] == "much later"


def test_a_line_without_a_kind_is_of_the_place_that_it_comes_from() -> None:
    lines = Lines()
    for number in range(2 * BURST):
        lines.log(f"line {number}", None)
    assert len(lines.passed) == BURST


def test_debugging_leaves_nothing_out() -> None:
    lines = Lines()
    for number in range(2 * BURST):
        lines.log(f"line {number}", level=logging.DEBUG)
    assert len(lines.passed) == 2 * BURST


def test_kinds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seldom, "KINDS", 10)
    lines = Lines()
    for number in range(100):
        lines.log("x", f"kind {number}")
    assert len(lines.filter._kinds) <= 10
    assert len(lines.passed) == 100
