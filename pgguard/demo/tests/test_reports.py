"""Figures for the owner of a studio."""

from __future__ import annotations

import bookings
import catalog

TENANT = 3


def test_the_report_opens_for_everybody_at_once(visit):
    assert visit(bookings.occupancy, TENANT) == [12] * 20


def test_the_cheapest_package_is_the_portrait(connection):
    assert catalog.cheapest_package(connection, TENANT) == 120
