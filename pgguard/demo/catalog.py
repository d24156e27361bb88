"""Packages and add-ons of a tenant."""

from __future__ import annotations

from models import AddOn, Package
from sqlalchemy import Connection, func, insert, select, update

WORK = 0.5
"""Seconds that a big statement of the real application takes."""


def packages(connection: Connection, tenant_id: int) -> list[str]:
    """Titles of the tenant's packages that can be booked."""
    statement = (
        select(Package.title)
        .where(Package.tenant_id == tenant_id, Package.active.is_(True))
        .order_by(Package.title)
    )
    return list(connection.scalars(statement))


def featured_packages(connection: Connection) -> list[str]:
    """Titles for the start page.

    PLANTED: the tenant is missing, so the page shows the packages of every tenant.
    """
    statement = select(Package.title).where(Package.active.is_(True)).order_by(Package.price)
    return list(connection.scalars(statement))


def cheapest_package(connection: Connection, tenant_id: int) -> int:
    """Price of the cheapest package."""
    statement = select(func.min(Package.price)).where(Package.tenant_id == tenant_id)
    return connection.scalar(statement)


def add_package(connection: Connection, tenant_id: int, title: str, price: int) -> int:
    """Id of a new package."""
    statement = insert(Package).values(tenant_id=tenant_id, title=title, price=price, active=True)
    return connection.scalar(statement.returning(Package.id))


def retire_package(connection: Connection, tenant_id: int, package_id: int) -> int:
    """How many packages were taken out of the catalogue."""
    statement = (
        update(Package)
        .where(Package.tenant_id == tenant_id, Package.id == package_id)
        .values(active=False)
    )
    return connection.execute(statement).rowcount


def add_ons(connection: Connection, tenant_id: int) -> list[str]:
    """Titles of what can be booked beside a package."""
    statement = select(AddOn.title).where(AddOn.tenant_id == tenant_id).order_by(AddOn.title)
    return list(connection.scalars(statement))


def price_index(connection: Connection, tenant_id: int) -> int:
    """Sum of all prices of the packages: takes its time."""
    statement = select(func.sum(Package.price), func.pg_sleep(WORK)).where(
        Package.tenant_id == tenant_id
    )
    return connection.execute(statement).one()[0]


def add_on_index(connection: Connection, tenant_id: int) -> int:
    """Sum of all prices of the add-ons: takes its time."""
    statement = select(func.sum(AddOn.price), func.pg_sleep(WORK)).where(
        AddOn.tenant_id == tenant_id
    )
    return connection.execute(statement).one()[0]
