"""By which names columns and common table expressions are found."""

from __future__ import annotations

from typing import Any

import pytest
from bookings import MODEL, solved

from pgguard.tenancy.occurrences import Item, Known, Occurrence, Tables


@pytest.mark.parametrize(
    ("qualifier", "answers"),
    [
        ((), True),
        (("b",), True),
        (("public", "b"), True),
        (("other", "b"), False),
        (("bookings",), False),
    ],
)
def test_an_item_answers_to_its_alias_and_schema(qualifier: tuple[str, ...], answers: bool) -> None:
    item = Item("b", ["id"])
    item.schema = "public"
    assert item.answers(qualifier) is answers
    item.bare = True
    assert item.answers(qualifier) is (not qualifier)


def test_the_nearest_common_table_expression_of_a_name_is_meant() -> None:
    common: Any = None
    near, far, only = (Known(common, None, None) for _ in range(3))
    outer = Tables({"a": far, "b": only}, None)
    inner = Tables({"a": near}, outer)
    assert inner.find("a") is near
    assert inner.find("b") is only
    assert outer.find("a") is far
    assert inner.find("c") is None


def test_what_is_judged_is_the_occurrence_at_the_base() -> None:
    built = solved("SELECT FROM bookings b WHERE b.tenant_id = $1").built
    (one,) = built.occurrences
    twin = Occurrence(one.table, one.role, one.alias, one.env, base=one)
    again = Occurrence(one.table, one.role, one.alias, one.env, base=twin)
    assert again.real() is one
    assert one.real() is one


def test_an_occurrence_knows_the_columns_of_its_table() -> None:
    built = solved("SELECT FROM bookings b").built
    (one,) = built.occurrences
    column = one.column("tenant_id")
    assert column is not None
    assert column.not_null
    assert one.column("tenantid") is None
    assert one.table is MODEL.catalogue.tables["public", "bookings"]
