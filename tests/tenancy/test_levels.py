"""The level of each occurrence of a statement, beside a near twin whose level is another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bookings import MODEL, solved

from pgguard.sql.statement import Constant
from pgguard.tenancy.levels import Leveller

if TYPE_CHECKING:
    from pgguard.tenancy.inference import Solver


def judged(solver: Solver) -> Leveller:
    levels = Leveller(solver)
    levels.judge()
    return levels


def shown(sql: str) -> str:
    """The levels of a statement's occurrences, in the order of the text."""
    solver = solved(sql)
    judged(solver)
    found = [one for one in solver.built.occurrences if one.base is None and one.role is not None]
    return " ".join(one.level.name for one in sorted(found, key=lambda one: one.position))


B, L, V = "bookings b", "lines l", "visits v"
EITHER = f"SELECT FROM {B}, {V} WHERE (v.booking_id = b.id AND b.tenant_id = $1) OR "


@pytest.mark.parametrize(
    ("sql", "levels"),
    [
        (f"SELECT FROM {B} WHERE tenant_id = $1", "scoped"),
        (f"SELECT FROM {B} WHERE tenant_id > $1", "unscoped"),
        (f"SELECT FROM {B} WHERE id = $1", "by_id"),
        (f"SELECT FROM {B} WHERE note = $1", "unscoped"),
        (f"SELECT FROM {B} WHERE code = $1", "unscoped"),
        (f"SELECT FROM {B} WHERE tenant_id IN ($1, $2)", "scoped"),
        (f"SELECT FROM {B} WHERE tenant_id IN ('x', 'x')", "scoped"),
        (f"SELECT FROM {B} WHERE tenant_id IN ('x', 'y')", "cross_tenant"),
        (f"SELECT FROM {B} WHERE tenant_id = 'x' AND false", "scoped"),
        (f"SELECT FROM {B} WHERE false", "scoped"),
        (f"SELECT FROM {B} WHERE true", "unscoped"),
        ("SELECT FROM tenants WHERE slug = $1", "scoped"),
        ("SELECT FROM tenants WHERE name = $1", "unscoped"),
        (f"SELECT FROM {L} WHERE booking_id = $1", "by_id"),
        (f"SELECT FROM {L} WHERE note = $1", "unscoped"),
        ("SELECT FROM posts WHERE tenant_id IS NULL", "scoped"),
        ("DELETE FROM posts WHERE tenant_id IS NULL", "unscoped"),
        ("DELETE FROM posts WHERE tenant_id = $1", "scoped"),
        ("SELECT FROM words WHERE id = $1", ""),
    ],
)
def test_the_level_of_one_occurrence(sql: str, levels: str) -> None:
    assert shown(sql) == levels


@pytest.mark.parametrize(
    ("sql", "levels"),
    [
        (
            f"SELECT FROM {B} JOIN {L} ON l.booking_id = b.id WHERE b.tenant_id = $1",
            "scoped scoped",
        ),
        (f"SELECT FROM {B} JOIN {L} ON l.note = b.id WHERE b.tenant_id = $1", "scoped unscoped"),
        (f"SELECT FROM {B} JOIN {L} ON l.booking_id = b.id WHERE b.id = $1", "by_id by_id"),
        (f"SELECT FROM {B} JOIN {L} ON l.booking_id = b.note WHERE b.id = $1", "by_id unscoped"),
        (f"SELECT FROM {B} LEFT JOIN {L} ON l.booking_id = b.id WHERE b.id = $1", "by_id by_id"),
        (f"SELECT FROM {B} LEFT JOIN {L} ON l.booking_id = b.id AND l.id = $1", "unscoped by_id"),
        (f"SELECT FROM {B} JOIN {L} ON l.booking_id = b.id AND l.id = $1", "by_id by_id"),
        (
            f"SELECT FROM {B}, bookings c WHERE b.id = $1 AND b.tenant_id = c.tenant_id",
            "by_id by_id",
        ),
        (f"SELECT FROM {B}, bookings c WHERE b.id = $1 AND b.code = c.code", "by_id unscoped"),
        (
            f"SELECT FROM {B} JOIN {V} ON v.booking_id = b.id WHERE b.tenant_id = $1",
            "scoped scoped_fk",
        ),
        (f"SELECT FROM {B} JOIN {V} ON v.note = b.id WHERE b.tenant_id = $1", "scoped unscoped"),
        (
            f"SELECT FROM {B} JOIN {V} ON v.booking_id = b.id WHERE v.tenant_id = $1",
            "scoped_fk scoped",
        ),
        (f"{EITHER} v.tenant_id = $2", "unscoped scoped_fk"),
        (f"{EITHER} v.id = $2", "unscoped by_id"),
        (f"{EITHER} v.note = $2", "unscoped unscoped"),
        (f"SELECT FROM {B}, (SELECT id FROM {L} LIMIT 1) x WHERE x.id = $1", "unscoped unscoped"),
        (f"SELECT FROM {B}, (SELECT id FROM {L}) x WHERE x.id = $1", "unscoped by_id"),
    ],
)
def test_an_occurrence_is_raised_by_what_holds_where_it_stands(sql: str, levels: str) -> None:
    assert shown(sql) == levels


def test_a_level_comes_with_its_reason_its_cure_and_its_key() -> None:
    solver = solved(f"SELECT FROM {B} WHERE id = $1")
    judged(solver)
    (one,) = (one for one in solver.built.occurrences if one.base is None)
    assert (one.why, one.cure) == ("only id chooses the row", "condition")
    assert one.key is not None
    assert one.key.table == ("public", "bookings")
    assert one.key.columns == ("id",)


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        (f"SELECT FROM {B}", "there is no condition on tenant_id"),
        (f"SELECT FROM {B} WHERE note = $1", "the condition does not fix tenant_id"),
        (f"SELECT FROM {B} WHERE tenant_id = $1", "tenant_id is $1"),
        ("SELECT FROM tenants WHERE slug = $1", "slug names one tenant"),
    ],
)
def test_the_reason_names_the_column(sql: str, why: str) -> None:
    solver = solved(sql)
    judged(solver)
    assert [one.why for one in solver.built.occurrences if one.base is None] == [why]


@pytest.mark.parametrize(
    ("constants", "differs", "by_value"),
    [
        ([("literal", "x")], False, False),
        ([("parameter", "1"), ("parameter", "2")], False, False),
        ([("literal", "x"), ("literal", "x")], False, True),
        ([("literal", "x"), ("literal", "y")], True, True),
        ([("array", '["x", "y"]')], True, True),
        ([("array", '["x"]'), ("literal", "x")], False, True),
    ],
)
def test_literals_that_are_compared_are_noted(
    constants: list[tuple[str, str]], differs: bool, by_value: bool
) -> None:
    levels = Leveller(solved("SELECT FROM bookings"))
    column = MODEL.catalogue.tables["public", "bookings"].column("tenant_id")
    values = [Constant(kind, value, place=n) for n, (kind, value) in enumerate(constants)]
    assert levels.differ(values, column) is differs
    assert levels.by_value is by_value
