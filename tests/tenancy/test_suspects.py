"""Which effects a text really may have, by what the catalogue says."""

from __future__ import annotations

import pytest

from pgguard.sql.facts.reading import read
from pgguard.sql.sources import Source
from pgguard.tenancy.catalogue import Catalogue, Column, Function, Table
from pgguard.tenancy.model import Model, TenancySettings
from pgguard.tenancy.news import News
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
        ("public", "emptied"): Table(
            "public", "emptied", write_calls={"t": {("public", "volatile_one")}}
        ),
        ("public", "ruled"): Table("public", "ruled", rules=True),
        ("public", "foreign"): Table("public", "foreign", kind="f"),
        ("public", "shown"): Table("public", "shown", kind="v", calls={("public", "volatile_one")}),
        ("public", "secret"): Table("public", "secret", calls={("public", "pl_one")}),
    },
    functions={
        "said_stable": [Function("public", "s", "sql", changes=True)],
        "seeding": [Function("public", "v", "plpgsql", source=Source(seeds=True))],
        "hiding": [Function("public", "v", "plpgsql", source=Source(hides=True))],
        "marking": [Function("public", "v", "plpgsql", source=Source(frozenset({"app.a"})))],
        "pl_one": [Function("public", "v", "plpython3u")],
        "of_row": [Function("public", "v", "plpgsql")],
        "volatile_one": [Function("public", "v", "plpgsql")],
        "stable_one": [Function("public", "s", "plpgsql")],
        "lower": [Function("mine", "v", "sql")],
    },
    operator_calls={"===": {"volatile_one"}, "~~~": {"stable_one"}},
    type_calls={"guarded": {("public", "volatile_one")}},
    builtins=frozenset({"now", "lower", "set_config", "pg_advisory_lock"}),
)
MODEL = Model(CATALOGUE, TenancySettings())


def found(text: str, model: Model | None = MODEL, news: News | None = None) -> list[str]:
    facts = read(text.encode())
    return [effect.kind.value for effect in session_effects(facts, model, news or News())]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT now()", []),
        ("SELECT pg_catalog.lower('A')", []),
        ("SELECT stable_one()", []),
        ("SELECT volatile_one()", ["call"]),
        ("SELECT public.volatile_one()", ["call"]),
        ("SELECT unknown_one()", ["unknown"]),
        ("SELECT lower('A')", ["call"]),
        ("INSERT INTO plain VALUES (1)", []),
        ("INSERT INTO checked VALUES (1)", []),
        ("INSERT INTO watched VALUES (1)", ["call"]),
        ("DELETE FROM watched", []),
        ("INSERT INTO ruled VALUES (1)", ["call"]),
        ('INSERT INTO "foreign" VALUES (1)', ["call"]),
        ("INSERT INTO nowhere VALUES (1)", ["unknown"]),
        ("SELECT * FROM nowhere", ["unknown"]),
        ("SELECT * FROM pg_class", []),
        ("SELECT * FROM information_schema.tables", []),
        ("TRUNCATE plain", []),
        ("TRUNCATE emptied", ["call"]),
        ("WITH x AS (INSERT INTO watched VALUES (1)) SELECT 1", ["call"]),
        ("SELECT said_stable()", ["call"]),
        ("SELECT seeding()", ["call", "seed"]),
        ("SELECT hiding()", ["call", "snapshot"]),
        ("SELECT marking()", ["call", "may set"]),
        ("SELECT pl_one()", ["call", "snapshot"]),
        ("SELECT 1 === 1", ["call"]),
        ("SELECT 1 ~~~ 1", []),
        ("SELECT 5::guarded", ["call"]),
        ("SELECT plain.of_row FROM plain", ["call"]),
        ("SELECT plain.id FROM plain", []),
        ("SELECT * FROM shown", ["call"]),
        ("SELECT * FROM secret", ["call", "snapshot"]),
        ("DO $$ BEGIN SET app.a = 1; PERFORM setseed(1); END $$", ["code", "seed", "may set"]),
        ("DO $$ BEGIN PERFORM set_config(name, '1', true); END $$", ["code", "snapshot"]),
        ("SELECT pg_advisory_lock(1)", ["lock"]),
        ("BEGIN", []),
        ("COMMIT AND CHAIN", ["commit and chain"]),
        ("COMMIT; BEGIN", ["commit", "begin"]),
        ("BEGIN; SET a.b = 1; COMMIT", ["begin", "set unknown", "commit"]),
        ("SAVEPOINT a", ["savepoint"]),
        ("nonsense", ["unread"]),
    ],
)
def test_a_text_has_the_effects_that_its_functions_and_tables_may_have(
    text: str, expected: list[str]
) -> None:
    assert found(text) == expected


def test_without_a_catalogue_every_call_and_every_write_is_suspect() -> None:
    assert found("SELECT now()", None) == ["unknown"]
    assert found("SELECT pg_catalog.now()", None) == []
    assert found("INSERT INTO plain VALUES (1)", None) == ["unknown"]
    assert found("SELECT * FROM plain", None) == ["unknown"]
    assert found("SELECT 1", None) == []
