"""Bookings that do not take place."""

from __future__ import annotations

from datetime import date

import bookings

TENANT, PACKAGE = 1, 1


def test_the_refunds_open_for_everybody_at_once(visit):
    assert visit(bookings.occupancy_with, TENANT, "cancelled") == [0] * 20


def test_a_cancelled_booking_is_removed(connection):
    number = bookings.book(connection, TENANT, PACKAGE, "Bob", date(2027, 9, 1))
    assert bookings.cancel(connection, TENANT, number) == 1
    assert bookings.remove_cancelled(connection, TENANT) == 1


def test_expired_offers_are_removed(connection):
    assert bookings.remove_expired(connection) >= 2
