"""What a session is learned to have left behind, by what it sent and how that was answered."""

from __future__ import annotations

import pytest
from shared import Shared

from pgguard.core.learning import Sent, learn
from pgguard.core.pins import Reason
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
    learn(session, [one], failed=failed, status="I")
    assert session.tracked.settings == settings
    assert set(session.pins.reasons) == reasons


def test_in_a_transaction_nothing_is_kept_yet() -> None:
    session = Shared().session()
    learn(session, [sent(SET)], failed=False, status="T")
    assert session.tracked.settings == {}
    session.tracked.commit()
    assert session.tracked.settings == {"lock_timeout": TEXT}


def test_a_name_with_a_dot_is_remembered_even_of_a_transaction() -> None:
    session = Shared().session()
    learn(session, [sent(Effect(Kind.SET_LOCAL, "app.tenant"))], failed=False, status="T")
    assert session.dotted == {"app.tenant"}


def test_whoever_reads_sequences_is_known_as_a_client() -> None:
    session = Shared().session()
    learn(session, [sent(Effect(Kind.SEQUENCE_READ, ""))], failed=False, status="I")
    assert session.client.reads_sequences
