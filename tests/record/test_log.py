"""Events as lines of the log: one line each, whatever clients call themselves."""

from __future__ import annotations

import logging

import pytest

from pgguard import events
from pgguard.record.log import LogWriter

NASTY = "evil\nname\x1b[31m"

EVENTS = [
    (events.SessionOpened(1.0, 7, NASTY, "app", "db"), "DEBUG", "session 7 of"),
    (events.SessionClosed(1.0, 7, NASTY, "closed by the client"), "DEBUG", "closed by the client"),
    (
        events.LoginFailed(1.0, "10.0.0.9", NASTY, "db", "28P01", f'user "{NASTY}"', "wrong"),
        "WARNING",
        "from 10.0.0.9 refused: 28P01",
    ),
    (events.TicketQueued(1.0, 7, NASTY, 3, "cap"), "DEBUG", "waits at 3 for its cap"),
    (
        events.SessionRefused(1.0, 7, NASTY, "PGG301", "cap", f"pgguard: {NASTY}"),
        "WARNING",
        "refused: pgguard:",
    ),
    (events.SequenceLost(1.0, 7, NASTY, "f00", NASTY, NASTY, NASTY), "WARNING", "too late"),
    (events.ServerRefused(1.0, NASTY, "53300", NASTY, False), "WARNING", "53300"),
    (events.ServerLost(1.0, 7, NASTY, "57P01", NASTY), "WARNING", "lost: 57P01"),
    (events.ClientGone(1.0, 7, NASTY, "select 1", 2.04), "INFO", "still running for 2.0 s"),
    (events.ProtocolBroken(1.0, "10.0.0.9", NASTY, NASTY), "WARNING", "broke the protocol"),
    (events.UpstreamDown(1.0, NASTY), "WARNING", "Postgres is not reachable"),
    (events.UpstreamUp(1.0, "16.1"), "INFO", "Postgres 16.1 answers"),
    (events.SettingsReloaded(1.0, ["limits.total"]), "INFO", "changed: limits.total"),
    (events.SettingsReloaded(1.0, []), "INFO", "changed: nothing"),
]


@pytest.mark.parametrize(
    ("event", "level", "words"), EVENTS, ids=lambda value: type(value).__name__
)
def test_an_event_is_one_line_at_its_level(
    event: events.Event, level: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pgguard")
    LogWriter().on_batch([event])
    (record,) = caplog.records
    assert (record.levelname, record.name) == (level, "pgguard.events")
    line = record.getMessage()
    assert words in line
    assert line.isprintable()
    line.encode("ascii")


def test_events_that_are_for_others_make_no_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pgguard")
    LogWriter().on_batch(
        [events.ServerOpened(1.0, 1, 2, "a", 77), events.CancelForwarded(1.0, 1, "a")]
    )
    assert caplog.records == []


def test_what_is_below_the_level_costs_no_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "pgguard")
    LogWriter().on_batch([event for event, _, _ in EVENTS])
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_no_statement_is_written(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pgguard")
    LogWriter().on_batch([events.ClientGone(1.0, 7, "a", "select secret_word", 2.0)])
    assert "secret_word" not in caplog.text
