"""Names and fixes as a user would type them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schemas import SETTINGS

from pgguard.findings import Verdict
from pgguard.sql.facts.reading import read
from pgguard.sql.parse import parse
from pgguard.tenancy.model import Model
from pgguard.tenancy.proof import Outcome, prove
from pgguard.tenancy.wording import column, condition, parameter, quoted, relation

if TYPE_CHECKING:
    from pgguard.tenancy.catalogue import Catalogue

OWNER = (
    "add AND EXISTS (SELECT FROM bookings AS owner "
    "WHERE owner.id = a.booking_id AND owner.tenant_id = $1)"
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tenant_id", "tenant_id"),
        ("tenantId", '"tenantId"'),
        ("user", '"user"'),
        ("order", '"order"'),
        ("a b", '"a b"'),
        ('a"b', '"a""b"'),
        ("1a", '"1a"'),
        ("a1$", "a1$"),
        ("é", '"é"'),
    ],
)
def test_a_name_is_quoted_where_postgres_needs_it(name: str, expected: str) -> None:
    assert quoted(name) == expected


@given(name=st.text(min_size=1, max_size=20).filter(lambda name: "\0" not in name))
def test_a_quoted_name_is_read_as_the_name(name: str) -> None:
    if len(name.encode("utf-8", "replace")) > 63 or any("\ud800" <= c <= "\udfff" for c in name):
        return
    tree = parse(f"SELECT * FROM s.{quoted(name)}")
    assert isinstance(tree, list)
    source = tree[0]["stmt"]["SelectStmt"]["fromClause"][0]["RangeVar"]
    assert source["relname"] == name


def fix(schema: str, sql: str, catalogues: dict[str, Catalogue]) -> str:
    model = Model(catalogues[schema], SETTINGS[schema])
    part = read(sql.encode()).parts[0]
    outcomes = prove(part, model).outcomes
    return condition(outcomes[0], part, model) if outcomes else ""


@pytest.mark.parametrize(
    ("schema", "sql", "expected"),
    [
        ("prisma", 'SELECT FROM "User"', 'add WHERE "tenantId" = $1'),
        ("prisma", 'SELECT FROM "User" b WHERE id = $4', 'add AND b."tenantId" = $5'),
        (
            "prisma",
            'SELECT FROM "User" WHERE a OR b',
            'put the condition in parentheses and add AND "tenantId" = $1',
        ),
        (
            "prisma",
            'SELECT FROM "Transfer"',
            'add WHERE "fromTenant" = $1 AND "toTenant" = $1',
        ),
        ("booking", "SELECT FROM bookings b(x, y)", "add WHERE b.y = $1"),
        (
            "booking",
            "SELECT FROM add_ons a WHERE label = 'x'",
            OWNER,
        ),
        ("booking", "SELECT FROM countries", ""),
        (
            "booking",
            "SELECT FROM packages p LEFT JOIN bookings b ON true WHERE p.tenant_id = $1",
            "add AND b.tenant_id = $2 to the ON of the outer join",
        ),
        ("booking", "SELECT FROM bookings, countries", "add WHERE bookings.tenant_id = $1"),
        ("booking", "SELECT FROM open_bookings o", "add WHERE o.tenant_id = $1"),
    ],
)
def test_the_smallest_condition(
    schema: str, sql: str, expected: str, catalogues: dict[str, Catalogue]
) -> None:
    assert fix(schema, sql, catalogues) == expected


def test_tables_columns_and_parameters(catalogues: dict[str, Catalogue]) -> None:
    tables = catalogues["prisma"].tables
    assert relation(tables["public", "User"]) == '"User"'
    assert relation(tables["other", "secrets"]) == "other.secrets"
    assert column(Outcome(tables["public", "User"], "", Verdict.unscoped, ""), "id") == "id"
    assert parameter(None) == "$1"
