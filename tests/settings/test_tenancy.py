"""Modes and exceptions as they are written."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from pgguard.settings import Settings
from pgguard.tenancy.policy import Action, Allow, ModeRule
from pgguard.wiring import policy_settings


def tenancy(**values: Any) -> Settings:
    return Settings.model_validate({"tenancy": values})


def test_rules_and_exceptions_reach_the_policy() -> None:
    settings = policy_settings(
        tenancy(
            rules=[{"code": "PGG106", "table": "x_*", "mode": "warn"}],
            allow=[
                {"comment": "nightly", "reason": "by operators", "expires": "2027-01-31"},
                {"table": "t", "reason": "r", "expires": date(2027, 1, 1)},
            ],
            setup=["*migrate*"],
        )
    )
    assert settings.rules == (ModeRule(Action.warn, "PGG106", "x_*"),)
    assert settings.allow == (
        Allow("by operators", comment="nightly", expires=date(2027, 1, 31)),
        Allow("r", table="t", expires=date(2027, 1, 1)),
    )
    assert settings.setup == ("*migrate*",)


@pytest.mark.parametrize(
    "values",
    [
        {"rules": [{"code": "PGG301", "mode": "warn"}]},
        {"rules": [{"table": "t"}]},
        {"rules": [{"table": "t", "mode": "refuse"}]},
        {"allow": [{"reason": "of nothing"}]},
        {"allow": [{"table": "t"}]},
        {"allow": [{"table": "t", "reason": "r", "expires": "tomorrow"}]},
        {"allow": [{"table": "t", "reason": "r", "until": "2027-01-01"}]},
    ],
)
def test_entries_that_say_nothing_or_too_much_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        tenancy(**values)
