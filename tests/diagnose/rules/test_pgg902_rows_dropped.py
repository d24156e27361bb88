"""What was not kept."""

from __future__ import annotations

from pgguard.diagnose.rules.pgg902_rows_dropped import find


def test_dropped_rows_are_one_finding_of_no_client():
    [finding] = find(7)
    assert (finding.code, finding.client, finding.count) == ("PGG902", "", 7)
    assert finding.evidence == ["7 dropped"]


def test_nothing_dropped_is_none():
    assert list(find(0)) == []
