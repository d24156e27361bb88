"""SQLAlchemy's ORM on psycopg: `python alchemy.py URL TENANT`, as prisma.mjs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sqlalchemy import (
    ForeignKey,
    create_engine,
    delete,
    exists,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

if TYPE_CHECKING:
    from collections.abc import Callable

URL, TENANT = sys.argv[1:]


class Base(DeclarativeBase):
    pass


class Tenant(Base):
    __tablename__ = "Tenant"
    id: Mapped[str] = mapped_column(primary_key=True)
    slug: Mapped[str]


class Customer(Base):
    __tablename__ = "Customer"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column("tenantId", ForeignKey("Tenant.id"))
    email: Mapped[str]
    name: Mapped[str]
    score: Mapped[int | None]
    bookings: Mapped[list[Booking]] = relationship(back_populates="customer")


class Booking(Base):
    __tablename__ = "Booking"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column("tenantId", ForeignKey("Tenant.id"))
    customer_id: Mapped[str] = mapped_column("customerId", ForeignKey("Customer.id"))
    number: Mapped[int]
    status: Mapped[str]
    total: Mapped[int]
    note: Mapped[str | None]
    customer: Mapped[Customer] = relationship(back_populates="bookings")
    notes: Mapped[list[Note]] = relationship(back_populates="booking")


class Note(Base):
    __tablename__ = "BookingNote"
    id: Mapped[str] = mapped_column(primary_key=True)
    booking_id: Mapped[str] = mapped_column("bookingId", ForeignKey("Booking.id"))
    body: Mapped[str]
    pinned: Mapped[bool]
    booking: Mapped[Booking] = relationship(back_populates="notes")


MINE = Booking.tenant_id == TENANT


def good(db: Session) -> None:
    one = db.scalars(select(Booking).where(MINE).order_by(Booking.id)).first()
    assert one is not None
    db.expire(one)
    assert (one.notes, one.customer) is not None
    for query in (
        select(Booking).where(MINE).options(joinedload(Booking.customer)),
        select(Booking).where(MINE).options(selectinload(Booking.notes)),
        select(Booking).where(MINE, or_(Booking.status == "open", Booking.total > 2)).limit(3),
        select(Booking.status, func.count()).where(MINE).group_by(Booking.status),
        select(Booking).join(Booking.customer).where(MINE, Customer.tenant_id == TENANT),
        select(Note).join(Note.booking).where(MINE),
        select(Customer).where(
            Customer.tenant_id == TENANT, exists().where(Booking.customer_id == Customer.id, MINE)
        ),
        select(Customer).where(Customer.tenant_id == TENANT, Customer.bookings.any()),
        select(Customer.name, func.count(Booking.id))
        .outerjoin(Customer.bookings)
        .where(Customer.tenant_id == TENANT)
        .group_by(Customer.name),
        select(Booking.number, func.rank().over(order_by=Booking.total)).where(MINE),
        select(Booking.id)
        .where(MINE)
        .union(select(Customer.id).where(Customer.tenant_id == TENANT)),
        select(func.count()).select_from(select(Booking).where(MINE).subquery()),
        select(Booking).where(Booking.tenant_id.in_([TENANT])),
        select(Booking).where(
            Booking.customer_id.in_(select(Customer.id).where(Customer.tenant_id == TENANT))
        ),
    ):
        db.execute(query).unique().all()
    recent = select(Booking).where(MINE).order_by(Booking.number).limit(2).cte("recent")
    db.execute(select(recent.c.id, Note.body).join(Note, Note.booking_id == recent.c.id)).all()
    db.add(Customer(id="a-1", tenant_id=TENANT, email="a1", name="A"))
    db.flush()
    new = insert(Customer).values(id="a-2", tenantId=TENANT, email="a1", name="B")
    db.execute(
        new.on_conflict_do_update(
            index_elements=["tenantId", "email"], set_={"name": new.excluded.name}
        )
    )
    db.execute(update(Booking).where(MINE, Booking.status == "void").values(note="x"))
    one.note = "y"
    db.flush()
    db.execute(delete(Customer).where(Customer.tenant_id == TENANT, Customer.id.like("a-%")))
    db.execute(text('SELECT number FROM "Booking" WHERE "tenantId" = :t'), {"t": TENANT})


LEAKS: dict[str, Callable[[Session], object]] = {
    "all rows": lambda db: db.scalars(select(Booking)).all(),
    "another condition": lambda db: db.scalars(select(Booking).where(Booking.total > 1)).all(),
    "count": lambda db: db.scalar(select(func.count()).select_from(Booking)),
    "or": lambda db: db.scalars(select(Booking).where(or_(MINE, Booking.total > 1))).all(),
    "other side of a join": lambda db: db.scalars(
        select(Booking).join(Customer, Customer.score == Booking.total).where(MINE)
    ).all(),
    "outer join": lambda db: db.execute(
        select(Booking.id, Customer.id).outerjoin(
            Customer, (Customer.id == Booking.customer_id) & MINE
        )
    ).all(),
    "exists": lambda db: db.scalars(
        select(Booking).where(MINE, exists().where(Customer.name == Booking.note))
    ).all(),
    "not in": lambda db: db.scalars(
        select(Booking).where(MINE, Booking.total.not_in(select(Customer.score)))
    ).all(),
    "limit": lambda db: db.execute(
        select((top := select(Booking).order_by(Booking.total).limit(3).subquery()).c.id).where(
            top.c.tenantId == TENANT
        )
    ).all(),
    "update": lambda db: db.execute(update(Booking).values(note="z").where(Booking.total > 3)),
    "delete": lambda db: db.execute(delete(Note).where(Note.body == "never")),
    "text": lambda db: db.execute(text('SELECT name FROM "Customer" WHERE score > 1')).all(),
    "union": lambda db: db.execute(
        select(Booking.id).where(MINE).union_all(select(Customer.id))
    ).all(),
}


def run(name: str, act: Callable[[Session], object]) -> None:
    engine = create_engine(
        URL.replace("postgresql:", "postgresql+psycopg:"),
        connect_args={"application_name": f"sqlalchemy {name}"},
    )
    with Session(engine) as db:
        act(db)
        db.rollback()
    engine.dispose()
    print(f"sqlalchemy {name}", flush=True)


run("good", good)
for name, act in LEAKS.items():
    run(name, act)
