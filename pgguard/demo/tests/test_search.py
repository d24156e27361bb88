"""Finding a guest."""

from __future__ import annotations

from datetime import date

import bookings

TENANT = 2


def test_the_search_opens_for_everybody_at_once(visit):
    assert visit(bookings.occupancy_with, TENANT, "confirmed") == [10] * 20


def test_a_guest_is_found_by_name(connection):
    assert bookings.find(connection, TENANT, "Guest 3") == [date(2027, 6, 3)]


def test_nobody_is_found_where_nobody_is(connection):
    assert bookings.find(connection, TENANT, "Nobody") == []
