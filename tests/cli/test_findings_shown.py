"""Different findings, as the terminal shows them: one snapshot of `pgguard check`."""

from __future__ import annotations

from tests.conformance import findings


def test_the_terminal_shows_what_the_snapshot_has() -> None:
    """Made again by `python -m tests.conformance.findings`."""
    text = findings.shown()
    assert text == findings.SNAPSHOT.read_text("utf-8")
    assert findings.kinds(text) >= findings.LEAST
