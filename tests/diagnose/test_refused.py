"""From a refusal to its finding."""

from __future__ import annotations

from pgguard.diagnose.refused import refused
from pgguard.events import SessionClosed, SessionRefused

EVENTS = [
    SessionRefused(1.0, 3, "a", "PGG301", "pool_timeout", "no", ["holder"]),
    SessionRefused(2.0, 4, "b", "PGG301", "max_waiting", "full"),
    SessionRefused(3.0, 5, "c", "PGG302", "total", "no"),
    SessionClosed(4.0, 3, "a", "refused"),
]


def test_each_refusal_under_the_code_is_a_finding():
    found = [(f.client, f.first_seen, f.evidence) for f in refused(EVENTS, "PGG301", "close some")]
    assert found == [("a", 1.0, ["no", "holder"]), ("b", 2.0, ["full"])]


def test_a_reason_may_have_a_remedy_of_its_own():
    remedies = {"max_waiting": "start fewer"}
    found = [f.remedy for f in refused(EVENTS, "PGG301", "close some", remedies)]
    assert found == ["close some", "start fewer"]
