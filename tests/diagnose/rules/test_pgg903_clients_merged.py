"""Clients that lost their name."""

from __future__ import annotations

from pgguard.diagnose.rules.pgg903_clients_merged import find
from pgguard.events import ClientsMerged, SessionClosed


def test_a_client_that_is_counted_as_other_is_a_finding():
    [finding] = find([ClientsMerged(9.0, "tests/test_z.py"), SessionClosed(9.0, 1, "a", "end")])
    assert (finding.code, finding.client, finding.first_seen) == ("PGG903", "other", 9.0)
    assert finding.evidence == ["tests/test_z.py is counted as other"]
