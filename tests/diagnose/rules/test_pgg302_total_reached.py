"""A session refused because of other clients."""

from __future__ import annotations

from pgguard.diagnose.rules.pgg302_total_reached import find
from pgguard.events import SessionClosed, SessionRefused

REFUSED = SessionRefused(
    7.0,
    3,
    "tests/test_a.py",
    "PGG302",
    "total",
    "pgguard: all in use",
    ["session 1", "session 2"],
    20.0,
)


def test_a_refused_session_is_a_finding_that_names_who_held_the_connections():
    [finding] = find([REFUSED])
    assert finding.to_dict() == {
        "code": "PGG302",
        "class": "exhaustion",
        "severity": "error",
        "title": "all server connections are in use",
        "client": "tests/test_a.py",
        "clients": {"tests/test_a.py": 1},
        "test": None,
        "statement": None,
        "relations": [],
        "evidence": ["pgguard: all in use", "session 1", "session 2"],
        "count": 1,
        "first_seen": 7.0,
        "last_seen": 7.0,
        "remedy": finding.remedy,
        "confidence": "certain",
    }
    assert "limits.connection_limit" in finding.remedy


def test_other_refusals_and_events_are_none():
    other = SessionRefused(7.0, 3, "a", "PGG301", "other", "no")
    assert list(find([other, SessionClosed(8.0, 3, "a", "refused")])) == []
