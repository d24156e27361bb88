"""The tables of a small booking application with many tenants.

Every row belongs to a tenant: directly, or (`booking_add_ons`) through its booking.
"""

from datetime import date

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Tenant(Base):
    __tablename__ = "tenants"

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]


class Package(Base):
    __tablename__ = "packages"

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"), index=True)
    title: Mapped[str]
    price: Mapped[int]
    active: Mapped[bool] = mapped_column(default=True)


class AddOn(Base):
    __tablename__ = "add_ons"

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"), index=True)
    title: Mapped[str]
    price: Mapped[int]


class Booking(Base):
    __tablename__ = "bookings"
    __table_args__ = (Index("bookings_by_day", "tenant_id", "day"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"))
    package_id: Mapped[int] = mapped_column(ForeignKey("packages.id"))
    guest: Mapped[str]
    day: Mapped[date]
    status: Mapped[str] = mapped_column(default="confirmed")


class BookingAddOn(Base):
    __tablename__ = "booking_add_ons"

    booking_id: Mapped[int] = mapped_column(ForeignKey("bookings.id"), primary_key=True)
    add_on_id: Mapped[int] = mapped_column(ForeignKey("add_ons.id"), primary_key=True)
    quantity: Mapped[int] = mapped_column(default=1)
