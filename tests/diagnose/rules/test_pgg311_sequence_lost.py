"""The value of a sequence, asked for after its server was needed by somebody else."""

from __future__ import annotations

from pgguard.diagnose.rules.pgg311_sequence_lost import find
from pgguard.events import SequenceLost, SessionClosed

WHY = 'client "b" session 5 needed it'


def test_who_asked_too_late_is_a_finding_with_both_statements_and_whoever_needed_the_server():
    [finding] = find([SequenceLost(9.0, 4, "a", "f00", "SELECT lastval()", "INSERT INTO t", WHY)])
    assert (finding.code, finding.client, finding.first_seen) == ("PGG311", "a", 9.0)
    assert (finding.fingerprint, finding.text) == ("f00", "SELECT lastval()")
    assert finding.evidence == [f"session 4, behind INSERT INTO t: {WHY}"]
    assert "RETURNING" in finding.remedy
    assert finding.confidence == "likely"


def test_other_events_are_none():
    assert list(find([SessionClosed(9.0, 4, "a", "Terminate")])) == []
