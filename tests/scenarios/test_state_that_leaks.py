"""Bug class: a session sees what another one left behind (reliability R18, R26)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from guard import RunningGuard

    Start = Callable[..., RunningGuard]

pytestmark = pytest.mark.slow

LEFT = {
    "a setting": ("SET work_mem = '99MB'", "SELECT current_setting('work_mem') <> '99MB'"),
    "a setting in a SELECT": (
        "SELECT set_config('my.word', 'secret', false)",
        "SELECT coalesce(current_setting('my.word', true), '') = ''",
    ),
    "a role": ("SET ROLE pg_monitor", "SELECT current_user = session_user"),
    "a temporary table": (
        "CREATE TEMP TABLE left_here (a int)",
        "SELECT to_regclass('left_here') IS NULL",
    ),
    "a prepared statement": (
        "PREPARE left_here AS SELECT 1",
        "SELECT count(*) = 0 FROM pg_prepared_statements",
    ),
    "a cursor": (
        "DECLARE left_here CURSOR WITH HOLD FOR SELECT 1",
        "SELECT count(*) = 0 FROM pg_cursors",
    ),
    "an advisory lock": ("SELECT pg_advisory_lock(77)", "SELECT pg_try_advisory_lock(77)"),
    "a channel": ("LISTEN left_here", "SELECT count(*) = 0 FROM pg_listening_channels()"),
}
"""What a session leaves behind, and a question of the next one to which the answer is true."""


def test_a_session_saw_what_another_had_left(start_guard: Start, database: Any) -> None:
    """multigres#1238, #1360, pgcat#152, #186, #549, pgdog#686, #687; PgBouncer, measured."""
    guard = start_guard(database.url, limits__connection_limit=1)
    for what, (leave, ask) in LEFT.items():
        with guard.connect("one") as first:
            first.execute(leave)
        with guard.connect("one") as second:
            assert second.execute(ask).fetchone() == (True,), what
    guard.idle()


def test_a_value_of_a_sequence_was_anothers(start_guard: Start, database: Any) -> None:
    """PgBouncer, measured: who has drawn no value has no last one."""
    guard = start_guard(database.url, limits__connection_limit=1)
    with guard.connect("one") as first:
        first.execute("CREATE SEQUENCE counted")
        assert first.execute("SELECT nextval('counted'), lastval()").fetchone() == (1, 1)
    with (
        guard.connect("one") as second,
        pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState),
    ):
        second.execute("SELECT lastval()")
    guard.idle()


def test_a_random_number_was_foreseen_by_a_neighbour(start_guard: Start, database: Any) -> None:
    """multigres#1324: setseed in one session says nothing about the next one's random()."""
    guard = start_guard(database.url, limits__connection_limit=1)
    seen = []
    for _ in range(2):
        with guard.connect("one") as seeding:
            seeding.execute("SELECT setseed(0.5)")
        with guard.connect("one") as drawing:
            seen.append(drawing.execute("SELECT random()").fetchone())
    assert seen[0] != seen[1]
    guard.idle()


def test_a_set_that_was_rolled_back_was_believed(guard: RunningGuard) -> None:
    """multigres#1138: what ParameterStatus says is what the server has."""
    with guard.connect("one", autocommit=False) as session:
        before = session.info.parameter_status("DateStyle")
        session.execute("SET datestyle = 'German'")
        assert session.info.parameter_status("DateStyle") != before
        session.rollback()
        assert session.info.parameter_status("DateStyle") == before
        assert session.execute("SHOW datestyle").fetchone() == (before,)
    guard.idle()


def test_channels_of_two_databases_were_shared(
    guard: RunningGuard, postgres: Any, database: Any
) -> None:
    """pgdog#1285: the same channel in another database is another channel."""
    with (
        guard.connect("one") as here,
        guard.connect("one", database="postgres") as there,
        guard.connect("one") as speaking,
    ):
        here.execute("LISTEN word")
        there.execute("LISTEN word")
        speaking.execute("NOTIFY word, 'here'")
        assert [said.payload for said in here.notifies(timeout=5, stop_after=1)] == ["here"]
        # Postgres tells of what there is before it is ready again.
        there.execute("SELECT 1")
        assert list(there.notifies(timeout=0)) == []
    guard.idle()
