"""Which effects a text really may have, by what the catalogue says."""

from __future__ import annotations

import pytest

from pgguard.sql.facts.reading import read
from pgguard.tenancy.catalogue import Catalogue, Column, Function, Table
from pgguard.tenancy.model import Model, TenancySettings
from pgguard.tenancy.suspects import session_effects

CATALOGUE = Catalogue(
    tables={
        ("public", "plain"): Table("public", "plain", columns=[Column("id", "int4")]),
        ("public", "watched"): Table(
            "public", "watched", write_calls={"i": {("public", "volatile_one")}}
        ),
        ("public", "checked"): Table(
            "public", "checked", write_calls={"i": {("public", "stable_one")}}
        ),
        ("public", "ruled"): Table("public", "ruled", rules=True),
        ("public", "foreign"): Table("public", "foreign", kind="f"),
    },
    functions={
        "volatile_one": [Function("public", "v", "plpgsql")],
        "stable_one": [Function("public", "s", "plpgsql")],
        "lower": [Function("mine", "v", "sql")],
    },
    builtins=frozenset({"now", "lower", "set_config", "pg_advisory_lock"}),
)
MODEL = Model(CATALOGUE, TenancySettings())


def found(text: str, model: Model | None = MODEL) -> list[str]:
    return [effect.kind.value for effect in session_effects(read(text.encode()), model)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT now()", []),
        ("SELECT pg_catalog.lower('A')", []),
        ("SELECT stable_one()", []),
        ("SELECT volatile_one()", ["call"]),
        ("SELECT public.volatile_one()", ["call"]),
        ("SELECT unknown_one()", ["call"]),
        ("SELECT lower('A')", ["call"]),
        ("INSERT INTO plain VALUES (1)", []),
        ("INSERT INTO checked VALUES (1)", []),
        ("INSERT INTO watched VALUES (1)", ["call"]),
        ("DELETE FROM watched", []),
        ("INSERT INTO ruled VALUES (1)", ["call"]),
        ('INSERT INTO "foreign" VALUES (1)', ["call"]),
        ("INSERT INTO nowhere VALUES (1)", ["call"]),
        ("WITH x AS (INSERT INTO watched VALUES (1)) SELECT 1", ["call"]),
        ("SELECT pg_advisory_lock(1)", ["lock"]),
        ("BEGIN", []),
        ("COMMIT AND CHAIN", []),
        ("BEGIN; SET a.b = 1; COMMIT", ["begin", "set", "commit"]),
        ("SAVEPOINT a", ["savepoint"]),
        ("nonsense", ["unread"]),
    ],
)
def test_a_text_has_the_effects_that_its_functions_and_tables_may_have(
    text: str, expected: list[str]
) -> None:
    assert found(text) == expected


def test_without_a_catalogue_every_call_and_every_write_is_suspect() -> None:
    assert found("SELECT now()", None) == ["call"]
    assert found("INSERT INTO plain VALUES (1)", None) == ["call"]
    assert found("SELECT 1", None) == []
