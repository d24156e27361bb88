"""Two guards before one Postgres: each knows of the other, and both together fit into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from guard import until

from pgguard.launch.embedded import EmbeddedPostgres
from pgguard.net.limits import MARGIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from guard import RunningGuard

    Start = Callable[..., RunningGuard]

pytestmark = [pytest.mark.slow, pytest.mark.session_mode]

ROOM = 20 - 3


@pytest.fixture
def small() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(max_connections=20) as server:
        yield server


def total(guard: RunningGuard) -> int:
    return guard.guard.hub.admission.total or 0


def test_two_guards_share_what_one_had_and_the_other_gets_it_back(
    small: EmbeddedPostgres, start_guard: Start
) -> None:
    first = start_guard(small.url, limits__connection_limit=20, limits__total_timeout="1s")
    until(lambda: total(first) == ROOM - MARGIN)
    second = start_guard(small.url, limits__connection_limit=20, limits__total_timeout="1s")
    until(lambda: total(first) + total(second) == ROOM - 2 * MARGIN and total(second) >= 5)
    assert total(first) >= 5
    held = [second.connect("busy") for _ in range(total(second))]
    with pytest.raises(psycopg.OperationalError) as refused:
        until(lambda: held.append(second.connect("busy")))
    place = f":{first.guard.listen[1]} (pid "
    assert place in (refused.value.diag.message_detail or str(refused.value))
    assert len(held) <= ROOM - 2 * MARGIN
    (line,) = first.ask(lambda guard: list(guard.neighbours))
    assert f":{second.guard.listen[1]} (pid " in line
    assert second.guard.summary().neighbours
    for connection in held:
        connection.close()
    second.stop()
    until(lambda: total(first) == ROOM - MARGIN, within=20)
    assert first.guard.neighbours == []


def test_who_may_not_connect_to_postgres_stays_below_what_others_announce(
    small: EmbeddedPostgres, start_guard: Start
) -> None:
    with psycopg.connect(small.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")
        connection.execute("CREATE ROLE weak LOGIN PASSWORD 'weak'")
        connection.execute("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
    first = start_guard(small.url)
    until(lambda: total(first) == ROOM - MARGIN)
    url = f"postgresql://weak:weak@{small.host}:{small.port}/shop"
    blind = start_guard(url)
    until(lambda: total(blind))
    assert total(blind) == 1
    assert blind.guard.neighbours
    with blind.connect("x") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        until(lambda: total(first) < ROOM - MARGIN)
