"""What a session is learned to have left behind, by what it sent and how that was answered."""

from __future__ import annotations

import pytest
from shared import Shared

from pgguard.core.learning import Answered, Sent, learn
from pgguard.core.pins import Reason
from pgguard.core.upkeep import TEMPORARY
from pgguard.sql.session_effects import Effect, Kind

SET = Effect(Kind.SET, "lock_timeout")
TEXT = b"SET lock_timeout = 1"


def sent(*effects: Effect, parameters: bool = False) -> Sent:
    return Sent(effects, TEXT, "SET lock_timeout = ?", parameters)


@pytest.mark.parametrize(
    ("one", "failed", "settings", "reasons"),
    [
        (sent(SET), False, {"lock_timeout": TEXT}, set()),
        (sent(SET), True, {}, set()),
        (sent(SET, parameters=True), False, {}, {Reason.SETTING}),
        (sent(SET, Effect(Kind.SET, "other")), False, {}, {Reason.SETTING}),
        (sent(SET, Effect(Kind.COMMIT, "")), True, {}, {Reason.UNCLEAR}),
        (sent(SET, Effect(Kind.LOCK, "")), True, {}, set()),
    ],
)
def test_a_setting_is_known_by_its_text_or_pins(
    one: Sent, failed: bool, settings: dict[str, bytes], reasons: set[Reason]
) -> None:
    session = Shared().session()
    learn(session, [one], Answered(failed, "I"))
    assert session.tracked.settings == settings
    assert set(session.pins.reasons) == reasons


def test_a_setting_with_two_halves_is_made_again_as_postgres_has_told_both() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    for text, told in (("SQL", "SQL, MDY"), ("DMY", "SQL, DMY")):
        shared.says(session, f"Query \"SET datestyle TO '{text}'\"")
        shared.says(server, 'CommandComplete "SET"', f'ParameterStatus "DateStyle" "{told}"')
        shared.says(server, "ReadyForQuery I")
    made = b"SELECT pg_catalog.set_config('datestyle', 'SQL, DMY', false)"
    assert session.tracked.settings == server.settings == {"datestyle": made}
    shared.says(session, 'Query "RESET datestyle"')
    shared.says(server, 'CommandComplete "RESET"', 'ParameterStatus "DateStyle" "ISO, MDY"')
    shared.says(server, "ReadyForQuery I")
    assert session.tracked.settings == {}
    shared.world.end()


def test_discard_all_is_done_whatever_becomes_of_its_batch() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.says(session, 'Query "SET lock_timeout = 1"')
    shared.done(server, "SET")
    shared.says(session, 'Parse "" "DISCARD ALL"', 'Bind "" ""', 'Execute "" 0')
    shared.says(session, 'Bind "" "gone"', "Sync")
    shared.says(server, "ParseComplete", "BindComplete", 'CommandComplete "DISCARD ALL"')
    shared.says(server, 'ErrorResponse ERROR 26000 "no gone"', "ReadyForQuery I")
    assert session.tracked.settings == server.settings == {}
    assert Reason.UNCLEAR in session.pins.reasons
    shared.world.end()


def test_what_is_made_behind_the_end_of_all_names_in_a_batch_that_fails_stays() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.says(session, 'Parse "old" "SELECT 1"', "Sync")
    shared.says(server, "ParseComplete", "ParameterDescription", "NoData", "ReadyForQuery I")
    assert [name for name, _ in session.names] == [b"old"]
    shared.says(session, 'Parse "" "DISCARD ALL"', 'Bind "" ""', 'Execute "" 0', "Flush")
    shared.says(server, "ParseComplete", "BindComplete", 'CommandComplete "DISCARD ALL"')
    shared.says(session, 'Parse "new" "SELECT 2"', 'Bind "" "gone"', "Sync")
    shared.says(server, "ParseComplete", "ParameterDescription", "NoData")
    shared.says(server, 'ErrorResponse ERROR 26000 "no gone"', "ReadyForQuery I")
    assert [name for name, _ in session.names] == [b"new"]
    shared.world.end()


def test_a_name_that_is_set_behind_a_reset_is_not_taken_away_by_the_one_it_began_with() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.says(session, 'Query "DISCARD ALL"', "Query \"SET application_name = 'own'\"")
    shared.done(server, "DISCARD ALL")
    assert shared.heard(server)[-1].startswith("Query \"SET application_name = 'own'")
    shared.done(server, "SET")
    assert shared.heard(server) == []
    shared.world.end()


@pytest.mark.parametrize(
    ("made", "ended"),
    [
        ("SET ROLE a", "RESET ROLE"),
        ("SET SESSION AUTHORIZATION a", "SET SESSION AUTHORIZATION DEFAULT"),
        ("LISTEN a", "UNLISTEN *"),
        ("LISTEN a", "UNLISTEN a"),
        ("SET work_mem FROM CURRENT", "RESET work_mem"),
        ("CREATE TEMP TABLE a ()", "DISCARD TEMP"),
    ],
)
@pytest.mark.parametrize(
    ("texts", "stays"),
    [
        (["{0}"], False),
        (["BEGIN", "{0}", "COMMIT"], False),
        (["BEGIN", "{0}", "ROLLBACK"], True),
        (["BEGIN", "{0}", "{1}", "COMMIT"], True),
        (["BEGIN", "SAVEPOINT s", "{0}", "ROLLBACK TO s", "COMMIT"], True),
        (["BEGIN", "{0}", "ROLLBACK AND CHAIN", "COMMIT"], True),
        (["BEGIN; {0}; ROLLBACK"], True),
        (["BEGIN", "{0}", "!", "COMMIT"], True),
    ],
)
def test_what_is_ended_in_a_transaction_ends_with_its_commit(
    made: str, ended: str, texts: list[str], *, stays: bool
) -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.says(session, f'Query "{made}"')
    shared.done(server, "SET")
    reasons = set(session.pins.reasons)
    assert reasons
    status = "I"
    for text in [text.format(ended, made) for text in texts]:
        word = text.split()[0].rstrip(";")
        shared.says(session, f'Query "{text}"')
        if text == "!":
            status = "E"
            shared.says(server, 'ErrorResponse ERROR 42601 "no"', "ReadyForQuery E")
            continue
        over = word == "COMMIT" or text == "ROLLBACK" or ";" in text
        tag = "ROLLBACK" if status == "E" or "ROLLBACK" in text else word
        status = "I" if over else "T" if word == "BEGIN" or status == "T" else status
        shared.done(server, tag, status)
    assert (reasons <= set(session.pins.reasons)) is stays
    shared.world.end()


def test_in_a_transaction_nothing_is_kept_yet() -> None:
    session = Shared().session()
    learn(session, [sent(SET)], Answered(False, "T"))
    assert session.tracked.settings == {}
    session.tracked.commit()
    assert session.tracked.settings == {"lock_timeout": TEXT}


def test_a_name_with_a_dot_is_remembered_even_of_a_transaction() -> None:
    session = Shared().session()
    learn(session, [sent(Effect(Kind.SET_LOCAL, "app.tenant"))], Answered(False, "T"))
    assert session.dotted == {"app.tenant"}


def test_whoever_reads_sequences_is_known_as_a_client() -> None:
    session = Shared().session()
    learn(session, [sent(Effect(Kind.SEQUENCE_READ, ""))], Answered(False, "I"))
    assert session.client.reads_sequences


def test_a_setting_beside_the_ends_of_transactions_is_looked_for() -> None:
    session = Shared().session()
    learn(session, [sent(SET)], Answered(False, "I", controlled=b"COMMIT"))
    assert session.tracked.settings == {}
    assert set(session.pins.reasons) == {Reason.SETTING}


@pytest.mark.parametrize(
    ("kind", "aborted", "settings"),
    [
        (Kind.COMMIT_AND_CHAIN, False, {"lock_timeout": TEXT}),
        (Kind.COMMIT_AND_CHAIN, True, {}),
        (Kind.ROLLBACK_AND_CHAIN, False, {}),
        (Kind.COMMIT, False, {"lock_timeout": TEXT}),
        (Kind.ROLLBACK, False, {}),
    ],
)
def test_a_transaction_may_end_where_another_one_begins(
    kind: Kind, aborted: bool, settings: dict[str, bytes]
) -> None:
    session = Shared().session()
    learn(session, [sent(SET)], Answered(False, "T"))
    learn(session, [sent(Effect(kind))], Answered(False, "T", aborted=aborted))
    assert session.tracked.settings == settings
    assert session.shared.settings == settings


def test_a_name_with_a_dot_that_is_reset_is_there() -> None:
    session = Shared().session()
    learn(session, [sent(Effect(Kind.RESET, "app.tenant"))], Answered(False, "I"))
    assert session.dotted == {"app.tenant"}
    assert not session.tracked.settings


def test_a_name_with_a_dot_in_a_statement_that_failed_is_looked_for() -> None:
    session = Shared().session()
    one = sent(Effect(Kind.SET, "app.tenant"))
    learn(session, [one], Answered(True, "I"))
    assert set(session.pins.reasons) == {Reason.UNCLEAR}
    assert not session.dotted


def test_a_currval_that_failed_teaches_as_well() -> None:
    session = Shared().session()
    learn(session, [sent(Effect(Kind.SEQUENCE_READ))], Answered(True, "I"))
    assert session.client.reads_sequences


def test_who_has_had_temporary_objects_has_a_schema_for_them() -> None:
    session = Shared().session()
    learn(session, [sent(Effect(Kind.TEMPORARY))], Answered(False, "I"))
    assert session.dotted == {TEMPORARY}
