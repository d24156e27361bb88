"""Who is suspected, and whether a newer catalogue is waited for."""

from __future__ import annotations

from doubting import KNOWN, is_suspect, runs
from shared import Shared

from pgguard.core.suspecting import suspect


def scene() -> Shared:
    shared = Shared()
    shared.hub.gate.catalogue_read("shop", KNOWN)
    return shared


def test_what_the_catalogue_does_not_know_waits_for_a_newer_one() -> None:
    shared = scene()
    a = shared.session()
    shared.world.net.requests.clear()
    runs(shared, a, "SELECT f()")
    assert is_suspect(a)
    assert a.pins.suspects.unsure < 0
    runs(shared, a, "SELECT unheard()")
    assert a.pins.suspects.unsure == shared.hub.gate.judge("shop").news.moment
    assert ("read_catalogue", "shop") in shared.world.net.requests
    shared.world.end()


def test_of_what_has_no_text_only_a_check_tells() -> None:
    shared = scene()
    a = shared.session()
    runs(shared, a, "SELECT 1")
    suspect(a, "so")
    assert is_suspect(a)
    assert a.unverified
    assert a.pins.suspects.only_checked
    shared.world.end()
