"""Booking a package."""

from __future__ import annotations

from datetime import date

import bookings

TENANT, PACKAGE = 1, 1


def test_the_diary_opens_for_everybody_at_once(visit):
    assert visit(bookings.occupancy_from, TENANT, date(2027, 6, 7)) == [6] * 20


def test_a_booking_is_on_its_day(connection):
    bookings.book(connection, TENANT, PACKAGE, "Ada", date(2027, 8, 1))
    assert bookings.guests(connection, TENANT, date(2027, 8, 1)) == ["Ada"]


def test_another_tenant_does_not_see_it(connection):
    bookings.book(connection, TENANT, PACKAGE, "Ada", date(2027, 8, 1))
    assert bookings.guests(connection, 2, date(2027, 8, 1)) == []
