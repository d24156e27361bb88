"""Letters before a booking."""

from __future__ import annotations

from datetime import date

import bookings

TENANT = 4


def test_the_reminders_open_for_everybody_at_once(visit):
    assert visit(bookings.occupancy_from, TENANT, date(2027, 6, 2)) == [11] * 20


def test_tomorrows_guests_get_a_letter(connection):
    assert bookings.guests(connection, TENANT, date(2027, 6, 2)) == ["Guest 2"]
