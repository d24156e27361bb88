"""Bookings of a tenant."""

from datetime import date

from models import Booking
from sqlalchemy import Connection, delete, func, insert, select, update

WORK = 0.5
"""Seconds that a big statement of the real application takes."""


def book(connection: Connection, tenant_id: int, package_id: int, guest: str, day: date) -> int:
    """Id of a new booking."""
    statement = insert(Booking).values(
        tenant_id=tenant_id, package_id=package_id, guest=guest, day=day, status="confirmed"
    )
    return connection.scalar(statement.returning(Booking.id))


def guests(connection: Connection, tenant_id: int, day: date) -> list[str]:
    """Who comes on a day."""
    statement = (
        select(Booking.guest)
        .where(Booking.tenant_id == tenant_id, Booking.day == day)
        .order_by(Booking.guest)
    )
    return list(connection.scalars(statement))


def find(connection: Connection, tenant_id: int, guest: str) -> list[date]:
    """Days on which a guest comes."""
    statement = (
        select(Booking.day)
        .where(Booking.tenant_id == tenant_id, Booking.guest == guest)
        .order_by(Booking.day)
    )
    return list(connection.scalars(statement))


def cancel(connection: Connection, tenant_id: int, booking_id: int) -> int:
    """How many bookings were cancelled."""
    statement = (
        update(Booking)
        .where(Booking.tenant_id == tenant_id, Booking.id == booking_id)
        .values(status="cancelled")
    )
    return connection.execute(statement).rowcount


def remove_cancelled(connection: Connection, tenant_id: int) -> int:
    """How many cancelled bookings of the tenant were removed."""
    statement = delete(Booking).where(Booking.tenant_id == tenant_id, Booking.status == "cancelled")
    return connection.execute(statement).rowcount


def remove_expired(connection: Connection) -> int:
    """How many expired offers were removed.

    PLANTED: the tenant is missing, so one tenant's clean-up empties every tenant's list.
    """
    statement = delete(Booking).where(Booking.status == "expired")
    return connection.execute(statement).rowcount


def occupancy(connection: Connection, tenant_id: int) -> int:
    """How many bookings there are on all days: takes its time."""
    return _count(connection, Booking.tenant_id == tenant_id)


def occupancy_with(connection: Connection, tenant_id: int, status: str) -> int:
    """How many bookings are in a state: takes its time."""
    return _count(connection, Booking.tenant_id == tenant_id, Booking.status == status)


def occupancy_from(connection: Connection, tenant_id: int, first: date) -> int:
    """How many bookings there are from a day on: takes its time."""
    return _count(connection, Booking.tenant_id == tenant_id, Booking.day >= first)


def _count(connection: Connection, *conditions: object) -> int:
    statement = select(func.count(Booking.id), func.pg_sleep(WORK)).where(*conditions)
    return connection.execute(statement).one()[0]
