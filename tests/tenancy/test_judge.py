"""The door of tenancy/: look-ups, verdicts, versions, and everything that must not raise."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import pytest
from conditions import conditions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgguard.counters import ProcessCounters
from pgguard.findings import CODES, Verdict
from pgguard.sql import effects
from pgguard.sql.cache import SHAPED
from pgguard.sql.facts.reading import read
from pgguard.sql.statement import PENDING, Constant, Facts, Statement
from pgguard.tenancy import judge as module
from pgguard.tenancy.catalogue import Catalogue, Column, Table
from pgguard.tenancy.judge import Judge
from pgguard.tenancy.model import Model, TenancySettings

if TYPE_CHECKING:
    from collections.abc import Callable

ITEMS = Table("public", "items", columns=[Column("tenant_id", "text"), Column("n", "int4")])
CATALOGUE = Catalogue(
    tables={ITEMS.key: ITEMS, ("public", "plain"): Table("public", "plain")},
    builtins=frozenset({"count", "now"}),
)


def fresh(*, catalogue: Catalogue | None = CATALOGUE, **options: int) -> Judge:
    judge = Judge(TenancySettings(**options), ProcessCounters())  # type: ignore[arg-type]
    if catalogue is not None:
        judge.set_catalogue(catalogue)
    return judge


def judged(judge: Judge, sql: str | bytes) -> Statement:
    statement = judge.statement(sql if isinstance(sql, bytes) else sql.encode())
    if statement.version != judge.version:
        judge.judge(statement)
    return statement


def level(judge: Judge, sql: str) -> str:
    return Verdict(judged(judge, sql).verdict).name


def test_a_statement_is_pending_until_it_is_judged() -> None:
    judge = fresh()
    statement = judge.statement(b"SELECT * FROM items")
    assert statement.verdict == PENDING
    assert statement.version != judge.version
    judge.judge(statement)
    assert statement.verdict == Verdict.unscoped
    assert statement.version == judge.version
    assert judge.statement(b"SELECT * FROM items") is statement


def test_a_finding_s_matter_is_on_the_statement() -> None:
    statement = judged(fresh(), "SELECT 'é', * FROM items AS i WHERE n = 1")
    assert (statement.code, statement.position) == ("PGG101", 20)
    assert statement.remedy == "Tie every tenant table of the statement to one tenant."
    (relation,) = statement.relations
    assert relation.to_dict() == {
        "name": "items",
        "alias": "i",
        "level": "unscoped",
        "why": "the condition does not fix tenant_id",
        "fix": "add AND i.tenant_id = $1",
    }


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT * FROM items", "PGG101"),
        ("SELECT * FROM items WHERE tenant_id IN ('a', 'b')", "PGG102"),
        ("COPY items FROM STDIN", "PGG106"),
        ("SELECT FROM FROM", "PGG901"),
        ("SELECT * FROM items WHERE tenant_id = $1", ""),
        ("SELECT 1", ""),
    ],
)
def test_every_verdict_worth_a_finding_has_a_code(sql: str, code: str) -> None:
    statement = judged(fresh(), sql)
    assert statement.code == code
    assert not code or code in CODES
    assert bool(statement.remedy) is bool(code)


def test_texts_that_differ_in_literals_share_a_verdict_and_an_object() -> None:
    judge = fresh()
    first = judged(judge, "SELECT * FROM items WHERE n = 1")
    assert judge.statement(b"SELECT * FROM items WHERE n = 2") is first


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tenant_id IN ('a', 'a')", "tenant_id IN ('a', 'b')"),
        ("1 = 0", "1 = 1"),
        ("tenant_id = 'a' OR 'x' = 'y'", "tenant_id = 'a' OR 'x' = 'x'"),
    ],
)
def test_texts_whose_literals_decide_share_nothing(one: str, other: str) -> None:
    for first, second in ((one, other), (other, one)):
        judge = fresh()
        levels = [level(judge, f"SELECT * FROM items WHERE {text}") for text in (first, second)]
        alone = [level(fresh(), f"SELECT * FROM items WHERE {text}") for text in (first, second)]
        assert levels == alone
        assert levels[0] != levels[1]


@pytest.mark.parametrize(
    "arms",
    [
        "CREATE TEMP VIEW mine AS SELECT * FROM items",
        "CREATE RULE r AS ON INSERT TO mine DO ALSO DELETE FROM items",
        "CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION f()",
    ],
)
def test_a_temporary_name_that_may_stand_for_more_is_unknown_for_good(arms: str) -> None:
    judge = fresh()
    assert level(judge, "CREATE TEMP TABLE mine (a int)") == "no_tenant_data"
    assert level(judge, "INSERT INTO mine SELECT * FROM mine") == "no_tenant_data"
    assert level(judge, arms) == "no_tenant_data"
    assert level(judge, "INSERT INTO mine SELECT * FROM mine") == "unknown"
    assert level(judge, "CREATE TEMP TABLE mine (b int)") == "no_tenant_data"
    assert level(judge, "INSERT INTO mine SELECT * FROM mine") == "unknown"


def test_numbers_of_every_kind_share_a_shape_and_no_verdict() -> None:
    judge = fresh()
    for condition, expected in (
        ("1 = 1.0", "unscoped"),
        ("1 = 2", "scoped"),
        ("1 = 1", "unscoped"),
    ):
        assert level(judge, f"SELECT * FROM items WHERE {condition}") == expected


@pytest.mark.parametrize(("on", "off"), [("'on'", "'off'"), ("1", "0")])
def test_whether_explain_runs_a_statement_is_told_by_a_literal(on: str, off: str) -> None:
    judge = fresh()
    for value, expected in ((off, "no_tenant_data"), (on, "unscoped"), (off, "no_tenant_data")):
        assert level(judge, f"EXPLAIN (ANALYZE {value}) DELETE FROM items") == expected


def test_texts_that_cannot_be_read_share_nothing() -> None:
    judge = fresh()
    broken = judged(judge, "SELECT a b c 1 FROM")
    assert judge.statement(b"SELECT a b c 2 FROM") is not broken


@pytest.mark.parametrize("size", [0, 10_000])
def test_a_new_catalogue_makes_verdicts_old_and_needs_no_second_parse_of_a_long_text(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    judge = fresh()
    statement = judged(judge, "SELECT * FROM plain" + " " * size)
    assert statement.verdict == Verdict.no_tenant_data
    plain = dataclasses.replace(ITEMS, name="plain")
    judge.set_catalogue(dataclasses.replace(CATALOGUE, tables={plain.key: plain}))
    assert statement.version != judge.version
    if size:
        monkeypatch.setattr(module, "read", None)
    judge.judge(statement)
    assert statement.verdict == Verdict.unscoped


@pytest.mark.parametrize("size", [module._KEPT - 100, module._KEPT, SHAPED, 2 * SHAPED])
def test_a_text_of_any_length_is_judged_again_as_the_whole_of_it(size: int) -> None:
    judge = fresh(catalogue=None)
    statement = judged(judge, f"SELECT '{'x' * size}' FROM items")
    for _ in range(2):
        judge.set_catalogue(CATALOGUE)
        judge.judge(statement)
        assert Verdict(statement.verdict) is Verdict.unscoped, statement.why
        judge.set_catalogue(dataclasses.replace(CATALOGUE, search_path=("public", "other")))
        judge.judge(statement)
        assert Verdict(statement.verdict) is Verdict.unscoped, statement.why


def test_the_same_catalogue_again_leaves_verdicts_as_they_are() -> None:
    judge = fresh()
    version = judge.version
    judge.set_catalogue(dataclasses.replace(CATALOGUE))
    assert judge.version == version


def test_a_shared_verdict_that_comes_to_depend_on_literals_is_shared_no_more() -> None:
    judge = fresh(catalogue=Catalogue(tables={("public", "t"): Table("public", "t")}))
    first = judged(judge, "SELECT * FROM t WHERE tenant_id IN ('a', 'a')")
    assert judge.statement(b"SELECT * FROM t WHERE tenant_id IN ('a', 'b')") is first
    table = dataclasses.replace(ITEMS, name="t")
    judge.set_catalogue(Catalogue(tables={table.key: table}))
    judge.judge(first)
    assert level(judge, "SELECT * FROM t WHERE tenant_id IN ('a', 'b')") == "cross_tenant"
    assert first.verdict == Verdict.scoped or first.verdict == Verdict.cross_tenant


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM items", "unknown"),
        ("SELECT now()", "unknown"),
        ("SELECT 1", "no_tenant_data"),
        ("BEGIN", "no_tenant_data"),
        ("CREATE TABLE x ()", "no_tenant_data"),
        ("SELECT FROM FROM", "unknown"),
    ],
)
def test_before_the_catalogue_was_read_nothing_is_guessed(sql: str, expected: str) -> None:
    judge = fresh(catalogue=None)
    statement = judged(judge, sql)
    assert Verdict(statement.verdict).name == expected
    judge.set_catalogue(CATALOGUE)
    assert statement.version != judge.version


def test_a_relation_that_is_not_known_is_asked_for_once() -> None:
    judge = fresh()
    statement = judged(judge, "SELECT * FROM fresh_table")
    assert statement.verdict == Verdict.unknown
    assert judge.unknown_relation
    judge.set_catalogue(CATALOGUE)
    assert not judge.unknown_relation
    assert statement.version != judge.version
    judge.judge(statement)
    assert statement.verdict == Verdict.unknown
    assert not judge.unknown_relation
    judged(judge, "SELECT * FROM another_table")
    assert judge.unknown_relation


def test_a_relation_that_has_come_into_being_is_judged() -> None:
    judge = fresh()
    statement = judged(judge, "SELECT * FROM orders")
    table = dataclasses.replace(ITEMS, name="orders")
    judge.set_catalogue(dataclasses.replace(CATALOGUE, tables={table.key: table}))
    judge.judge(statement)
    assert statement.verdict == Verdict.unscoped


def test_a_model_that_was_made_elsewhere_is_taken_if_it_is_of_the_same_settings() -> None:
    judge = fresh(catalogue=None)
    model = Model(CATALOGUE, judge.settings)
    judge.set_catalogue(CATALOGUE, model)
    assert judge.model is model
    judge = fresh(catalogue=None)
    judge.set_catalogue(CATALOGUE, Model(CATALOGUE, TenancySettings(columns=("org_id",))))
    assert judge.model is not None
    assert judge.model.settings is judge.settings


def test_a_temporary_table_whose_creation_was_seen_is_no_tenant_s() -> None:
    judge = fresh()
    assert level(judge, "SELECT * FROM mine") == "unknown"
    judge.set_catalogue(CATALOGUE)
    assert level(judge, "SELECT * FROM mine") == "unknown"
    assert level(judge, "CREATE TEMP TABLE mine AS SELECT 1") == "no_tenant_data"
    assert level(judge, "SELECT * FROM mine") == "no_tenant_data"
    assert level(judge, "CREATE TEMP TABLE items (n int)") == "no_tenant_data"
    assert level(judge, "SELECT * FROM items") == "unscoped"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("CREATE TABLE x ()", True),
        ("BEGIN; ALTER TABLE items ADD COLUMN x int; COMMIT", True),
        ("CREATE TEMP TABLE x ()", False),
        ("DELETE FROM items", False),
        ("DO 'BEGIN END'", True),
    ],
)
def test_ddl_asks_for_the_catalogue_again(sql: str, expected: bool) -> None:
    judge = fresh()
    assert judge.model_changed_by(judged(judge, sql)) is expected


def test_an_unreadable_text_is_not_parsed_and_not_mixed_up_with_readable_ones() -> None:
    judge = fresh()
    text = b"SELECT * FROM items WHERE tenant_id = 'a\\' OR n = 1 --'"
    statement = judge.statement(text, readable=False)
    assert (statement.verdict, statement.code) == (Verdict.unknown, "PGG901")
    assert statement.effects == effects.ANY
    assert statement.version == judge.version
    assert judge.statement(text, readable=False) is statement
    assert judge.statement(text) is not statement
    judge.set_catalogue(Catalogue())
    judge.judge(statement)
    assert (statement.verdict, statement.version) == (Verdict.unknown, judge.version)
    assert "n = 1" not in statement.masked


LARGE = b"SELECT * FROM items WHERE n IN (" + b"1," * SHAPED + b"1)"


def test_a_large_text_is_left_to_the_worker_whose_facts_are_as_good() -> None:
    judge = fresh()
    statement = judge.statement(LARGE)
    assert judge.wants_worker(statement)
    judge.judge_facts(statement, read(LARGE))
    assert statement.verdict == Verdict.unscoped
    assert len(statement.text) < SHAPED
    assert not judge.wants_worker(statement)
    assert judge.statement(LARGE) is statement
    assert not judge.wants_worker(judge.statement(b"SELECT 1"))


def test_a_worker_that_gave_up_leaves_the_statement_unknown() -> None:
    judge = fresh()
    statement = judge.statement(LARGE)
    judge.judge_facts(statement, None)
    assert (statement.verdict, statement.code) == (Verdict.unknown, "PGG901")
    assert "too long" in statement.why
    judge.set_catalogue(Catalogue())
    judge.judge(statement)
    assert statement.verdict == Verdict.unknown


def test_a_text_over_the_limit_is_not_read_anywhere() -> None:
    judge = fresh(max_statement=SHAPED * 2 - 1)
    statement = judge.statement(LARGE)
    assert not judge.wants_worker(statement)
    judge.judge(statement)
    assert (statement.verdict, statement.code) == (Verdict.unknown, "PGG901")
    assert "tenancy.max_statement" in statement.why


def test_a_fault_of_ours_is_counted_and_the_statement_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> Facts:
        raise KeyError("stmt")

    judge = fresh()
    monkeypatch.setattr(module, "read", broken)
    statement = judged(judge, "SELECT * FROM items")
    assert (statement.verdict, statement.code) == (Verdict.unknown, "PGG901")
    assert judge.counters.internal_errors == 1
    monkeypatch.setattr(module, "judge_facts", broken)
    judge.judge_facts(judge.statement(b"SELECT 2"), read(b"SELECT 2"))
    assert judge.counters.internal_errors == 2


def test_ambiguities_of_the_model_are_findings() -> None:
    assert fresh(catalogue=None).model_findings() == []
    both = Table("public", "both", columns=[Column("tenant_id", "t"), Column("tenantId", "t")])
    (finding,) = fresh(catalogue=Catalogue(tables={both.key: both})).model_findings()
    assert (finding.code, finding.relations[0].name) == ("PGG110", "both")
    assert "tenant_id, tenantId" in finding.title
    assert "tenancy.columns" in finding.relations[0].fix


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.binary(max_size=100), st.text(max_size=100).map(lambda t: t.encode())))
def test_judge_never_raises_on_any_bytes(text: bytes) -> None:
    judge = fresh()
    for readable in (True, False):
        statement = judge.statement(text, readable)
        judge.judge(statement)
        assert statement.verdict in range(7)
        assert len(statement.fingerprint) == 16
        assert isinstance(statement.masked, str)
    assert judge.counters.internal_errors == 0


JUMBLE = """
SELECT * FROM items plain WHERE tenant_id = $1 'a' 1 AND OR NOT ( ) , NULL IS IN ANY CASE WHEN
THEN ELSE END UPDATE SET DELETE INSERT INTO VALUES DEFAULT ON CONFLICT DO RETURNING i i.n n AS
GROUP BY HAVING count(*) WITH x ; COALESCE ::text ARRAY[1] LIMIT BETWEEN true EXISTS UNION
"""


@settings(max_examples=600, deadline=None)
@given(words=st.lists(st.sampled_from(JUMBLE.split()), min_size=3, max_size=14))
def test_no_jumble_of_words_is_a_fault_of_ours(words: list[str]) -> None:
    judge = fresh()
    judged(judge, " ".join(words))
    assert judge.counters.internal_errors == 0


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(condition=conditions, others=st.lists(st.sampled_from(["t1", "t2"]), min_size=8))
def test_a_text_has_the_verdict_that_it_would_have_had_alone(
    condition: str, others: list[str]
) -> None:
    literals = iter(others)
    twin = re.sub("'t[12]'", lambda _: f"'{next(literals, 't1')}'", condition)
    judge = rows_judge()
    for text in (condition, twin):
        sql = f"SELECT * FROM r WHERE {text}"
        assert level(judge, sql) == level(rows_judge(), sql)


def rows_judge() -> Judge:
    columns = [Column(name, "text") for name in ("id", "tenant_id", "other", "flag")]
    table = Table("public", "r", columns=columns)
    return fresh(catalogue=Catalogue(tables={table.key: table}, builtins=frozenset({"lower"})))


@pytest.mark.parametrize("schema", ["booking", "prisma"])
def test_a_real_catalogue_is_ready_for_use(schema: str, judge_of: Callable[[str], Judge]) -> None:
    judge = judge_of(schema)
    assert level(judge, "SELECT count(*), now() FROM pg_class") == "no_tenant_data"


def test_a_temporary_view_takes_the_name_from_its_table() -> None:
    judge = fresh()
    sql = "SELECT * FROM items WHERE tenant_id = 1"
    assert level(judge, sql) == "scoped"
    judged(judge, "CREATE TEMP VIEW items AS SELECT 1 AS tenant_id, note FROM plain")
    assert level(judge, sql) == "unknown"
    assert level(judge, "SELECT * FROM public.items WHERE tenant_id = 1") == "scoped"


def test_a_statement_over_hundreds_of_tables_is_given_up_and_does_not_hold_the_loop_up() -> None:
    many = judged(fresh(), "SELECT 1 FROM " + ", ".join(["items"] * 1000))
    assert (many.verdict, many.why) == (
        Verdict.unknown,
        "it uses too many tables to be proved",
    )
    few = judged(fresh(), "SELECT 1 FROM " + ", ".join(f"items AS i{n}" for n in range(40)))
    assert few.verdict == Verdict.unscoped


OPTIONAL = "SELECT n FROM items WHERE tenant_id = COALESCE($1, tenant_id)"


def shown(judge: Judge, sql: str, *nulls: int) -> Statement:
    return judge.given(judged(judge, sql), frozenset(nulls))


def test_a_parameter_that_is_null_or_not_decides() -> None:
    judge = fresh()
    statement = judged(judge, OPTIONAL)
    assert (statement.verdict, statement.nulls) == (Verdict.unknown, (1,))
    own, all_of_them = shown(judge, OPTIONAL), shown(judge, OPTIONAL, 1)
    assert (own.verdict, own.fingerprint) == (Verdict.scoped, statement.fingerprint)
    assert [one.constants for one in own.tenants] == [frozenset({Constant("parameter", "1")})]
    assert (all_of_them.verdict, all_of_them.code) == (Verdict.unscoped, "PGG101")
    (relation,) = all_of_them.relations
    assert relation.why == "where $1 is NULL, the condition does not fix tenant_id"
    assert all_of_them.why == relation.why
    assert (shown(judge, OPTIONAL), shown(judge, OPTIONAL, 1)) == (own, all_of_them)


@pytest.mark.parametrize(
    ("sql", "levels"),
    [
        ("SELECT n FROM items WHERE $1 IS NULL OR tenant_id = $1", "scoped unscoped"),
        ("SELECT n FROM items WHERE $1 IS NULL OR tenant_id = $2", "scoped unscoped"),
        ("SELECT n FROM items WHERE tenant_id = COALESCE($1, 'x', tenant_id)", "scoped scoped"),
        (OPTIONAL + " OR $2 = 'x'", "unknown unscoped"),
        (OPTIONAL + " AND ($2 IS NULL OR n = $2)", "scoped unscoped"),
        ("WITH s AS (" + OPTIONAL + ") SELECT count(*) FROM s", "scoped unscoped"),
        ("DELETE FROM items WHERE $1 IS NULL OR tenant_id = $1", "scoped unscoped"),
        ("PREPARE p (text) AS " + OPTIONAL, "scoped unscoped"),
    ],
)
def test_what_is_given_is_judged_by_what_is_null(sql: str, levels: str) -> None:
    judge = fresh()
    found = [Verdict(shown(judge, sql, *nulls).verdict).name for nulls in ((), (1,))]
    assert " ".join(found) == levels


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT n FROM items WHERE tenant_id = $1 AND ($2 IS NULL OR n = $2)",
        "SELECT n FROM items WHERE $1 IS NULL OR n = $1",
        "SELECT n FROM items WHERE $1 = 'x' OR tenant_id = $2",
    ],
)
def test_where_null_decides_nothing_no_execution_is_looked_at_for_it(sql: str) -> None:
    judge = fresh()
    statement = judged(judge, sql)
    assert statement.nulls == ()


def test_what_is_judged_by_its_executions_is_not_shared_by_shape() -> None:
    judge = fresh()
    one, other = (
        judged(judge, f"SELECT n FROM items WHERE tenant_id = COALESCE($1, '{word}', tenant_id)")
        for word in "xy"
    )
    assert one is not other
    for statement, word in ((one, "x"), (other, "y")):
        (tenant,) = judge.given(statement, frozenset({1})).tenants
        assert [constant.value for constant in tenant.constants] == [word]


def test_a_new_catalogue_forgets_what_executions_showed() -> None:
    judge = fresh()
    statement = judged(judge, OPTIONAL)
    before = judge.given(statement, frozenset())
    judge.set_catalogue(Catalogue())
    assert judge.given(statement, frozenset()) is statement
    judge.set_catalogue(CATALOGUE)
    judge.judge(statement)
    assert judge.given(statement, frozenset()) is not before


def test_a_fault_of_ours_proves_nothing_of_an_execution(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = fresh()
    statement = judged(judge, OPTIONAL)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "judge_facts", fail)
    assert judge.given(statement, frozenset()) is statement
    assert judge.counters.internal_errors == 1


def test_what_is_hoped_for_one_pair_of_literals_is_not_said_of_another() -> None:
    text = "SELECT * FROM r WHERE ((true) IS NOT FALSE OR tenant_id = '{}' OR tenant_id = '{}')"
    judge = rows_judge()
    assert level(judge, text.format("t1", "t1")) == level(rows_judge(), text.format("t1", "t1"))
    assert level(judge, text.format("t1", "t2")) == level(rows_judge(), text.format("t1", "t2"))
