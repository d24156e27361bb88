"""Overrides by glob, and what a client may lower."""

from __future__ import annotations

from pgguard.pool.limits import AdmissionSettings, ClientLimits, Override


def test_every_override_that_matches_counts_and_of_one_limit_the_last() -> None:
    settings = AdmissionSettings(
        defaults=ClientLimits(10, 20.0),
        overrides=(
            Override("tests/*", connection_limit=5, max_waiting=7),
            Override("tests/slow_*", connection_limit=2, pool_timeout=60.0),
            Override("other", max_sessions=1),
        ),
    )
    assert settings.limits_for("tests/slow_a.py") == ClientLimits(2, 60.0, 7, None)
    assert settings.limits_for("tests/a.py") == ClientLimits(5, 20.0, 7, None)
    assert settings.limits_for("app") == ClientLimits(10, 20.0)


def test_globs_keep_case() -> None:
    settings = AdmissionSettings(overrides=(Override("App", connection_limit=1),))
    assert settings.limits_for("app").connection_limit == 10
    assert settings.limits_for("App").connection_limit == 1


def test_lowering_only_ever_lowers() -> None:
    limits = ClientLimits(10, 20.0, 3, 4)
    assert limits.lowered(5, 7.5) == ClientLimits(5, 7.5, 3, 4)
    assert limits.lowered(11, 21.0) == limits
    assert limits.lowered(0, 0.0) == limits
    assert limits.lowered(-1, -2.0) == limits
    assert limits.lowered(None, None) == limits
