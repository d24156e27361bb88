"""Django's ORM on psycopg: `python django_app.py URL TENANT`, as prisma.mjs."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import django
from django.conf import settings

if TYPE_CHECKING:
    from collections.abc import Callable

URL, TENANT = sys.argv[1:]
_parts = urlsplit(URL)
# The models below are those of an application; reverse relations are only looked for in one.
shop = types.ModuleType("shop")
shop.__path__ = [str(Path(__file__).parent)]
sys.modules["shop"] = shop
settings.configure(
    INSTALLED_APPS=["shop"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _parts.path.lstrip("/"),
            "USER": _parts.username,
            "PASSWORD": _parts.password,
            "HOST": _parts.hostname,
            "PORT": _parts.port,
            "OPTIONS": {},
        }
    },
)
django.setup()

from django.db import connection, models, transaction  # noqa: E402
from django.db.models import Count, Exists, F, Max, OuterRef, Q, Subquery, Window  # noqa: E402
from django.db.models.functions import Rank  # noqa: E402


class Tenant(models.Model):
    id = models.TextField(primary_key=True)
    slug = models.TextField()

    class Meta:
        app_label, managed, db_table = "shop", False, "Tenant"


class Customer(models.Model):
    id = models.TextField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.DO_NOTHING, db_column="tenantId")
    email = models.TextField()
    name = models.TextField()
    score = models.IntegerField(null=True)

    class Meta:
        app_label, managed, db_table = "shop", False, "Customer"


class Booking(models.Model):
    id = models.TextField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.DO_NOTHING, db_column="tenantId")
    customer = models.ForeignKey(Customer, models.DO_NOTHING, db_column="customerId")
    number = models.IntegerField()
    status = models.TextField()
    total = models.IntegerField()
    note = models.TextField(null=True)

    class Meta:
        app_label, managed, db_table = "shop", False, "Booking"


class Note(models.Model):
    id = models.TextField(primary_key=True)
    booking = models.ForeignKey(Booking, models.DO_NOTHING, db_column="bookingId")
    body = models.TextField()
    pinned = models.BooleanField()

    class Meta:
        app_label, managed, db_table = "shop", False, "BookingNote"


def good() -> None:
    mine, ours = Booking.objects.filter(tenant=TENANT), Customer.objects.filter(tenant=TENANT)
    one = mine.order_by("id").first()
    one.customer, list(one.note_set.all()), one.refresh_from_db()
    for query in (
        mine,
        mine.filter(status="open").order_by("-total")[:3],
        mine.filter(Q(total__gt=2) | Q(note__contains="a")),
        mine.exclude(status="void"),
        mine.select_related("customer"),
        mine.prefetch_related("note_set"),
        mine.filter(customer__tenant=TENANT, customer__score__gt=1),
        mine.filter(customer__in=ours),
        mine.exclude(customer__in=ours.filter(score=3)),
        Note.objects.filter(booking__tenant=TENANT),
        Booking.objects.filter(tenant__slug="slug-k-0"),
        ours.annotate(n=Count("booking")),
        ours.filter(Exists(mine.filter(customer=OuterRef("pk")))),
        ours.annotate(
            top=Subquery(
                mine.filter(customer=OuterRef("pk")).order_by("-total").values("total")[:1]
            )
        ),
        mine.annotate(place=Window(Rank(), order_by=F("total").desc())),
        mine.values("status").annotate(n=Count("id"), most=Max("total")),
        mine.values_list("id").union(ours.values_list("id")),
        mine.distinct("status").order_by("status", "id"),
    ):
        list(query)
    mine.count(), mine.exists(), mine.aggregate(Max("total")), mine.in_bulk([one.id])
    mine.filter(status="void").update(note="x", total=F("total") + 1)
    one.note = "y"
    one.save(update_fields=["note"])
    Customer.objects.create(id="d-1", tenant_id=TENANT, email="d1", name="D")
    ours.get_or_create(email="d1", defaults={"id": "d-2", "tenant_id": TENANT, "name": "D"})
    ours.update_or_create(email="d1", defaults={"name": "E"})
    ours.filter(id__startswith="d-").delete()
    with connection.cursor() as cursor:
        cursor.execute('SELECT number FROM "Booking" WHERE "tenantId" = %s', [TENANT])


ALL = Booking.objects
LEAKS: dict[str, Callable[[], object]] = {
    "all rows": lambda: list(ALL.all()),
    "another condition": lambda: list(ALL.filter(status="open")),
    "exclude": lambda: list(ALL.exclude(tenant=TENANT)),
    "or": lambda: list(ALL.filter(Q(tenant=TENANT) | Q(status="open"))),
    "count": ALL.count,
    "exists": lambda: ALL.filter(total__gt=3).exists(),
    "aggregate": lambda: ALL.aggregate(Max("total")),
    "group": lambda: list(ALL.values("status").annotate(n=Count("id"))),
    "subquery": lambda: list(Customer.objects.filter(tenant=TENANT, score__in=ALL.values("total"))),
    "not in": lambda: list(
        ALL.filter(tenant=TENANT).exclude(total__in=Customer.objects.values("score"))
    ),
    "update": lambda: ALL.filter(status="void").update(note="z"),
    "delete": lambda: Note.objects.filter(body="never")._raw_delete("default"),
    "union": lambda: list(
        ALL.filter(tenant=TENANT).values_list("id").union(Customer.objects.values_list("id"))
    ),
    "raw": lambda: list(ALL.raw('SELECT * FROM "Booking" WHERE total > %s', [1])),
}


def run(name: str, act: Callable[[], object]) -> None:
    connection.close()
    connection.settings_dict["OPTIONS"] = {"application_name": f"django {name}"}
    with transaction.atomic():
        act()
        transaction.set_rollback(True)
    connection.close()
    print(f"django {name}", flush=True)


run("good", good)
for name, act in LEAKS.items():
    run(name, act)
