"""What is done about verdicts: grades, modes and exceptions, without a database."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from pgguard.findings import Relation, Verdict
from pgguard.sql import effects
from pgguard.sql.statement import Facts, Statement
from pgguard.tenancy.policy import Action, Allow, Decision, ModeRule, Policy, PolicySettings

if TYPE_CHECKING:
    from collections.abc import Callable

CODES = {
    Verdict.by_id: "PGG104",
    Verdict.unknown: "PGG106",
    Verdict.unscoped: "PGG101",
    Verdict.cross_tenant: "PGG102",
}
BLOCK = {"mode": Action.block}


def judged(
    verdict: Verdict = Verdict.unscoped, *tables: str, text: str = "SELECT 1", **more: Any
) -> Statement:
    """A statement with one relation for each `table` or `table:level`."""
    statement = Statement(text.encode())
    statement.verdict, statement.code, statement.version = verdict, CODES.get(verdict, ""), 1
    statement.facts = Facts()
    statement.relations = tuple(
        Relation(table.partition(":")[0], "", table.partition(":")[2] or verdict.name, "why")
        for table in tables or ("bookings",)
    )
    for name, value in more.items():
        setattr(statement, name, value)
    return statement


def decide(statement: Statement, client: str = "tests/a.py", **settings: Any) -> Decision:
    return Policy(PolicySettings(**settings), date(2026, 6, 1)).decide(statement, client)


@pytest.mark.parametrize("mode", list(Action))
@pytest.mark.parametrize(
    ("verdict", "actions"),
    [
        (Verdict.no_tenant_data, (0, 0, 0)),
        (Verdict.scoped, (0, 0, 0)),
        (Verdict.by_id, (0, 0, 0)),
        (Verdict.unknown, (0, 1, 1)),
        (Verdict.unscoped, (0, 1, 2)),
        (Verdict.cross_tenant, (0, 1, 2)),
    ],
)
def test_the_mode_acts_on_errors_and_warns_of_the_unknown(
    mode: Action, verdict: Verdict, actions: tuple[int, ...]
) -> None:
    assert decide(judged(verdict), mode=mode).action == actions[mode]


def test_what_was_not_read_is_blocked_unless_postgres_rejects_it() -> None:
    statement = judged(Verdict.unknown, code="PGG901", relations=())
    assert decide(statement, **BLOCK).action == Action.block
    statement.facts = Facts(unread="syntax error", rejected=True)
    assert decide(statement, **BLOCK).action == Action.observe


def test_of_the_rules_that_fit_the_last_decides() -> None:
    rules = (
        ModeRule(Action.observe, client="tests/old_*"),
        ModeRule(Action.warn, table="audit_*"),
    )
    assert decide(judged(), rules=rules, **BLOCK).action == Action.block
    assert decide(judged(), "tests/old_a.py", rules=rules, **BLOCK).action == Action.observe
    audit = judged(Verdict.unscoped, "audit_log")
    assert decide(audit, "tests/old_a.py", rules=rules, **BLOCK).action == Action.warn


def test_a_rule_for_one_table_does_not_speak_for_another_of_the_statement() -> None:
    rules = (ModeRule(Action.observe, table="audit_log"),)
    both = judged(Verdict.unscoped, "audit_log", "bookings")
    assert decide(both, rules=rules, **BLOCK).action == Action.block
    other = judged(Verdict.unscoped, "audit_log", "bookings:scoped")
    assert decide(other, rules=rules, **BLOCK).action == Action.observe


def test_only_a_rule_that_names_the_code_blocks_notes_and_the_unknown() -> None:
    for verdict, code in ((Verdict.by_id, "PGG104"), (Verdict.unknown, "PGG106")):
        by_table = (ModeRule(Action.block, table="bookings"),)
        assert decide(judged(verdict), rules=by_table).action < Action.block
        by_code = (ModeRule(Action.block, code=code),)
        assert decide(judged(verdict), rules=by_code).action == Action.block


def test_a_verdict_that_no_relation_bears_concerns_them_all() -> None:
    statement = judged(Verdict.cross_tenant, "bookings:scoped", "add_ons:scoped")
    rules = (ModeRule(Action.observe, table="bookings"),)
    assert decide(statement, rules=rules, **BLOCK).action == Action.block


def test_the_verdict_of_one_execution_counts_more_than_that_of_its_text() -> None:
    policy = Policy(PolicySettings(mode=Action.block))
    statement = judged(Verdict.scoped)
    assert policy.decide(statement, "c").action == Action.observe
    decision = policy.decide(statement, "c", Verdict.cross_tenant)
    assert decision == Decision(Action.block, "cross_tenant", "error")


def test_cleaning_up_is_graded_down_and_stays_blocked() -> None:
    statement = judged(text='DELETE FROM "Booking" WHERE 1=1')
    assert decide(statement, **BLOCK) == Decision(Action.block, "setup", "warning")
    ddl = judged(effects=effects.DDL)
    assert decide(ddl) == Decision(Action.observe, "setup", "warning")


def test_a_client_that_sets_up_is_let_through() -> None:
    setup = ("*migrate*",)
    decision = decide(judged(), "prisma migrate deploy", setup=setup, **BLOCK)
    assert decision == Decision(Action.observe, "setup", "note")
    assert decide(judged(), "tests/a.py", setup=setup, **BLOCK).action == Action.block
    rules = (ModeRule(Action.block, client="prisma*"),)
    assert decide(judged(), "prisma migrate", setup=setup, rules=rules).action == Action.block


ALLOWING: dict[str, Callable[[Statement], Allow]] = {
    "fingerprint": lambda statement: Allow("why", fingerprint=statement.fingerprint),
    "table": lambda _: Allow("why", table="book*"),
    "client": lambda _: Allow("why", client="tests/*"),
    "comment": lambda _: Allow("why", comment="nightly-report"),
}


@pytest.mark.parametrize("by", ALLOWING)
def test_an_entry_allows_by(by: str) -> None:
    statement = judged(text="SELECT * FROM bookings -- pgguard:allow nightly-report")
    policy = Policy(PolicySettings(allow=(ALLOWING[by](statement),), **BLOCK))
    assert policy.unused()
    decision = policy.decide(statement, "tests/a.py")
    assert (decision.action, decision.allowed) == (Action.observe, "why")
    assert not policy.unused()


@pytest.mark.parametrize(
    "entry",
    [
        Allow("why", fingerprint="0" * 16),
        Allow("why", table="add_ons"),
        Allow("why", table="bookings", client="other"),
        Allow("why", comment="another"),
        Allow("why", table="bookings", expires=date(2026, 5, 31)),
    ],
)
def test_an_entry_that_does_not_fit_or_has_expired_allows_nothing(entry: Allow) -> None:
    statement = judged(text="SELECT * FROM bookings -- pgguard:allow nightly-report")
    assert decide(statement, allow=(entry,), **BLOCK).action == Action.block


def test_a_comment_counts_only_where_it_is_one() -> None:
    entry = (Allow("why", comment="x"),)
    for text in ("SELECT 'a /* pgguard:allow x */'", 'SELECT "/* pgguard:allow x */"'):
        assert decide(judged(text=text), allow=entry, **BLOCK).action == Action.block
    unreadable = judged(text="SELECT 1 /* pgguard:allow x */", readable=False)
    assert decide(unreadable, allow=entry, **BLOCK).action == Action.block


def test_every_table_at_fault_has_to_be_allowed() -> None:
    entries = (Allow("one", table="bookings"), Allow("two", table="add_ons"))
    both = judged(Verdict.unscoped, "bookings", "add_ons")
    assert decide(both, allow=entries[:1], **BLOCK).action == Action.block
    assert decide(both, allow=entries, **BLOCK).allowed == "one; two"


def test_an_entry_holds_on_its_last_day_and_not_on_the_next() -> None:
    entry = Allow("why", table="bookings", expires=date(2026, 6, 1))
    policy = Policy(PolicySettings(allow=(entry,), **BLOCK), date(2026, 6, 1))
    statement = judged()
    assert policy.decide(statement, "c").allowed
    assert not policy.expired()
    policy.turn(date(2026, 6, 2))
    assert policy.decide(statement, "c").action == Action.block
    assert policy.expired() == [entry]


def test_an_entry_that_has_expired_is_not_called_unused() -> None:
    entry = Allow("why", table="bookings", expires=date(2020, 1, 1))
    policy = Policy(PolicySettings(allow=(entry,)), date(2026, 6, 1))
    assert (policy.unused(), policy.expired()) == ([], [entry])
    assert entry.shown == 'table = "bookings"'


def test_a_decision_is_made_once_for_each_version_of_the_verdict() -> None:
    policy = Policy(PolicySettings(mode=Action.block))
    statement = judged()
    first = policy.decide(statement, "c")
    statement.relations = ()
    assert policy.decide(statement, "c") is first
    statement.version, statement.verdict = 2, Verdict.scoped
    assert policy.decide(statement, "c").action == Action.observe


def test_new_settings_are_obeyed_at_once_and_forget_no_use() -> None:
    entry = Allow("why", table="bookings")
    policy = Policy(PolicySettings(allow=(entry,)))
    statement = judged()
    policy.decide(statement, "c")
    policy.reconfigure(PolicySettings(mode=Action.block, allow=(Allow("n", table="n"), entry)))
    assert policy.unused() == [Allow("n", table="n")]
    policy.reconfigure(PolicySettings(mode=Action.block))
    assert policy.decide(statement, "c").action == Action.block


def test_entries_of_no_use_are_findings_at_the_end() -> None:
    entries = (
        Allow("an old one", table="a", expires=date(2026, 5, 31)),
        Allow("for operators", client="b"),
        Allow("used", table="bookings"),
    )
    policy = Policy(PolicySettings(allow=entries), date(2026, 6, 1))
    policy.decide(judged(), "c")
    assert [(f.code, f.severity, f.title, f.evidence) for f in policy.findings()] == [
        (
            "PGG109",
            "warning",
            'has allowed nothing since 2026-05-31: table = "a"',
            ["its reason: an old one"],
        ),
        ("PGG109", "note", 'nothing has needed it: client = "b"', ["its reason: for operators"]),
    ]
