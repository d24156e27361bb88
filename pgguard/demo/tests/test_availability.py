"""Which days are free."""

from __future__ import annotations

from datetime import date

import bookings

TENANT = 2


def test_the_calendar_opens_for_everybody_at_once(visit):
    assert visit(bookings.occupancy_from, TENANT, date(2027, 6, 1)) == [12] * 20


def test_a_day_with_a_booking_is_taken(connection):
    assert bookings.guests(connection, TENANT, date(2027, 6, 1)) == ["Guest 1"]


def test_a_day_without_bookings_is_free(connection):
    assert bookings.guests(connection, TENANT, date(2027, 12, 24)) == []
