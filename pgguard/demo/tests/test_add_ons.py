"""What can be booked beside a package."""

from __future__ import annotations

import catalog

TENANT = 5


def test_the_add_ons_open_for_everybody_at_once(visit):
    assert visit(catalog.add_on_index, TENANT) == [230] * 20


def test_add_ons_are_the_tenants_own(connection):
    assert catalog.add_ons(connection, TENANT) == ["Album 5", "Drone 5"]
