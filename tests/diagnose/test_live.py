"""Every rule runs, has a page, and does not care how events are cut into batches."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

from pgguard.diagnose import rules
from pgguard.diagnose.live import RULES, Live
from pgguard.events import (
    ClientsMerged,
    Event,
    SequenceLost,
    ServerRefused,
    SessionClosed,
    SessionOpened,
    SessionRefused,
    TicketAbandoned,
)
from pgguard.findings import CODES

HEADINGS = ["What it does", "Why it is bad", "Example", "Use instead", "References"]
MODULES = [
    importlib.import_module(f"pgguard.diagnose.rules.{found.name}")
    for found in pkgutil.iter_modules(rules.__path__)
]

EVENTS: list[Event] = [
    SessionOpened(1.0, 1, "a", "app", "shop"),
    SessionRefused(2.0, 2, "a", "PGG301", "cap", "no", ["session 1"], 20.0),
    SessionRefused(3.0, 3, "b", "PGG302", "total", "no", ["session 1"], 60.0),
    SessionRefused(4.0, 4, "c", "PGG303", "self_starvation", "no", ["session 1"], 2.0),
    TicketAbandoned(5.0, 5, "d", 5.0),
    ServerRefused(6.0, "e", "53300", "too many clients already", True),
    SequenceLost(6.5, 6, "e", "f00", "SELECT lastval()", "INSERT INTO t", "it was left"),
    ClientsMerged(7.0, "f"),
    SessionClosed(8.0, 1, "a", "Terminate"),
]


def short(finding) -> tuple[str, str, float]:
    return finding.code, finding.client, finding.first_seen


def test_each_event_meets_its_rule():
    assert [short(finding) for finding in Live().on_events(EVENTS)] == [
        ("PGG301", "a", 2.0),
        ("PGG302", "b", 3.0),
        ("PGG303", "c", 4.0),
        ("PGG309", "d", 5.0),
        ("PGG310", "e", 6.0),
        ("PGG311", "e", 6.5),
        ("PGG903", "other", 7.0),
    ]


def test_batches_may_be_cut_anywhere():
    whole = sorted(map(short, Live().on_events(EVENTS)))
    for at in range(len(EVENTS) + 1):
        live = Live()
        parts = [*live.on_events(EVENTS[:at]), *live.on_events(EVENTS[at:])]
        assert sorted(map(short, parts)) == whole


def test_what_was_dropped_is_a_finding_only_if_something_was():
    assert [finding.count for finding in Live().on_dropped(7)] == [7]
    assert list(Live().on_dropped(0)) == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.CODE)
def test_a_rule_has_a_page_with_all_headings(module):
    code = module.CODE
    lines = module.__doc__.splitlines()
    assert lines[0] == f"{code}: {CODES[code].title}."
    assert [line for line in lines[1:] if line and not line.startswith(" ")] == HEADINGS
    assert module.__name__.rpartition(".")[2].startswith(code.lower() + "_")


def test_every_rule_is_run():
    by_event = {rule.__module__ for rule in RULES}
    assert by_event | {"pgguard.diagnose.rules.pgg902_rows_dropped"} == {
        module.__name__ for module in MODULES
    }
