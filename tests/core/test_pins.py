"""Reasons to keep a server: what brings them and what ends them."""

from __future__ import annotations

import pytest

from pgguard.core.pins import FOR_LIFE, Pins, Reason
from pgguard.sql.facts.reading import read


def pins_after(*texts: str) -> set[Reason]:
    """Texts that are sent and carried out, one after the other."""
    pins = Pins()
    for text in texts:
        effects = read(text.encode()).session
        pins.brought(effects, 1.0, text)
        pins.ended(effects)
    return set(pins.reasons)


BRINGS = {
    "SET ROLE a": Reason.ROLE,
    "CREATE TEMP TABLE a (b int)": Reason.TEMPORARY,
    "SELECT pg_advisory_lock(1)": Reason.LOCK,
    "LISTEN a": Reason.LISTEN,
    "PREPARE a AS SELECT 1": Reason.PREPARE,
    "DECLARE a CURSOR WITH HOLD FOR SELECT 1": Reason.HOLD,
    "SET work_mem FROM CURRENT": Reason.SETTING,
    "LOAD 'a'": Reason.LOAD,
    "SELECT setseed(0.1)": Reason.SEED,
    "SELECT pg_backend_pid()": Reason.PID,
    "DO $$ BEGIN END $$": Reason.FUNCTION,
    "SELECT app.f()": Reason.FUNCTION,
    "not SQL": Reason.UNCLEAR,
}


@pytest.mark.parametrize(("text", "reason"), BRINGS.items())
def test_a_text_brings_its_reason(text: str, reason: Reason) -> None:
    assert pins_after(text) == {reason}


ENDS = {
    "RESET ROLE": "SET ROLE a",
    "SET ROLE NONE": "SET ROLE a",
    "SET SESSION AUTHORIZATION DEFAULT": "SET SESSION AUTHORIZATION a",
    "DISCARD TEMP": "CREATE TEMP TABLE a (b int)",
    "SELECT pg_advisory_unlock_all()": "SELECT pg_advisory_lock(1)",
    "UNLISTEN *": "LISTEN a",
    "UNLISTEN a": "LISTEN a",
    "DEALLOCATE ALL": "PREPARE a AS SELECT 1",
    "DEALLOCATE a": "PREPARE a AS SELECT 1",
    "CLOSE ALL": "DECLARE a CURSOR WITH HOLD FOR SELECT 1",
    "CLOSE a": "DECLARE a CURSOR WITH HOLD FOR SELECT 1",
    "RESET work_mem": "SET work_mem FROM CURRENT",
    "RESET ALL": "SET work_mem FROM CURRENT",
}


@pytest.mark.parametrize(("end", "begin"), ENDS.items())
def test_a_text_ends_its_reason(end: str, begin: str) -> None:
    assert pins_after(begin)
    assert pins_after(begin, end) == set()
    assert pins_after(begin, f"SELECT 1; {end}; SELECT 2") == set()


def test_the_login_stays_another_ones_when_the_role_is_reset() -> None:
    both = ("SET SESSION AUTHORIZATION a", "SET ROLE b")
    assert pins_after(*both, "RESET ROLE") == {Reason.ROLE}
    assert pins_after(*both, "RESET ROLE", "RESET SESSION AUTHORIZATION") == set()
    assert pins_after(*both, "SET SESSION AUTHORIZATION DEFAULT") == set()


def test_one_of_two_names_that_is_gone_leaves_the_other() -> None:
    assert pins_after("LISTEN a", "LISTEN b", "UNLISTEN a") == {Reason.LISTEN}
    assert pins_after("LISTEN a", "LISTEN b", "UNLISTEN a", "UNLISTEN b") == set()


def test_one_unlock_ends_nothing_since_texts_do_not_count_locks() -> None:
    assert pins_after("SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock(1)") == {Reason.LOCK}


def test_what_comes_behind_the_end_in_the_same_text_stays() -> None:
    assert pins_after("LISTEN a", "UNLISTEN *; LISTEN b") == {Reason.LISTEN}
    assert pins_after("LISTEN a", "LISTEN b; UNLISTEN *") == set()


def test_discard_all_ends_what_it_ends_in_postgres() -> None:
    texts = [text for text, reason in BRINGS.items() if reason not in FOR_LIFE]
    left = pins_after(*texts, "LOAD 'a'", "DISCARD ALL")
    assert left == {Reason.LOAD, Reason.FUNCTION, Reason.UNCLEAR}


@pytest.mark.parametrize(
    "batch",
    [
        "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;",
        "SET extra_float_digits = 3",
        "SET application_name = 'x'",
        "SET search_path = 'public'",
        "BEGIN",
        "ROLLBACK",
    ],
)
def test_what_drivers_say_when_they_connect_and_reset_pins_nothing(batch: str) -> None:
    assert pins_after(batch) == set()


def test_what_is_sent_pins_at_once_and_ends_nothing_yet() -> None:
    pins = Pins()
    assert pins.brought(read(b"LISTEN a").session, 7.0, "LISTEN a") == [Reason.LISTEN]
    assert pins.brought(read(b"LISTEN b").session, 8.0, "LISTEN b") == []
    pin = pins.reasons[Reason.LISTEN]
    assert (pin.since, pin.text, pin.names) == (7.0, "LISTEN a", {"a", "b"})
    assert pins.brought(read(b"UNLISTEN *").session, 9.0, "UNLISTEN *") == []
    assert set(pins.reasons) == {Reason.LISTEN}
    assert pins.ended(read(b"UNLISTEN *").session) == [Reason.LISTEN]


def test_what_a_check_found_to_be_nothing_is_gone() -> None:
    pins = Pins()
    pins.brought(read(b"DO $$ BEGIN END $$").session, 1.0, "DO")
    pins.verified(Reason.FUNCTION)
    assert not pins
