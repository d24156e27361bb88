"""Makes the tables anew in the database of DATABASE_URL, with five tenants and their data."""

from __future__ import annotations

import os
from datetime import date, timedelta

from models import AddOn, Base, Booking, BookingAddOn, Package, Tenant
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session

TENANTS = 5
FIRST_DAY = date(2027, 6, 1)
DAYS = 12


def main() -> None:
    url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for number in range(1, TENANTS + 1):
            add_tenant(session, number)
        session.commit()
    engine.dispose()


def add_tenant(session: Session, number: int) -> None:
    tenant = Tenant(slug=f"tenant-{number}", name=f"Studio {number}")
    session.add(tenant)
    session.flush()
    packages = [
        Package(tenant_id=tenant.id, title=f"{title} {number}", price=price)
        for title, price in (("Portrait", 120), ("Wedding", 900), ("Product", 300))
    ]
    add_ons = [
        AddOn(tenant_id=tenant.id, title=f"{title} {number}", price=price)
        for title, price in (("Album", 80), ("Drone", 150))
    ]
    session.add_all([*packages, *add_ons])
    session.flush()
    for day in range(DAYS):
        expired = day >= DAYS - 2
        booking = Booking(
            tenant_id=tenant.id,
            package_id=packages[day % 3].id,
            guest=f"Guest {day + 1}",
            day=FIRST_DAY + timedelta(days=day),
            status="expired" if expired else "confirmed",
        )
        session.add(booking)
        session.flush()
        if not expired:
            session.add(BookingAddOn(booking_id=booking.id, add_on_id=add_ons[day % 2].id))


if __name__ == "__main__":
    main()
