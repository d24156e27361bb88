"""A session that left while it waited."""

from __future__ import annotations

from pgguard.diagnose.rules.pgg309_client_gave_up import SHORTEST, find
from pgguard.events import SessionClosed, TicketAbandoned


def test_who_left_after_a_wait_is_a_finding():
    [finding] = find([TicketAbandoned(9.0, 4, "a", 5.04)])
    assert (finding.code, finding.client, finding.first_seen) == ("PGG309", "a", 9.0)
    assert finding.evidence == ["session 4 left after it had waited 5.0 s"]
    assert finding.confidence == "likely"


def test_who_left_at_once_was_not_driven_away():
    assert list(find([TicketAbandoned(9.0, 4, "a", SHORTEST / 2)])) == []


def test_other_events_are_none():
    assert list(find([SessionClosed(9.0, 4, "a", "Terminate")])) == []
