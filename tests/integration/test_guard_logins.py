"""Every login against a real Postgres: by its verifiers, and left to it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from guard import RunningGuard


@pytest.fixture
def role(database: Any) -> Iterator[Callable[[str], str]]:
    """Makes roles with the given clause; they are dropped at the end."""
    made: list[str] = []
    with psycopg.connect(database.url, autocommit=True) as admin:

        def make(clause: str) -> str:
            name = f"role_{uuid.uuid4().hex[:8]}"
            admin.execute(f"CREATE ROLE {name} {clause}")
            made.append(name)
            return name

        yield make
        for name in made:
            admin.execute(f"DROP ROLE {name}")


@pytest.fixture(params=["verifiers", "relayed", "relayed, shared"])
def guard(
    request: pytest.FixtureRequest,
    database: Any,
    role: Callable[[str], str],
    start_guard: Callable[..., RunningGuard],
) -> RunningGuard:
    """One whose service connection may read pg_authid, and one whose may not."""
    url = database.url
    mode = "transparent" if "shared" in request.param else "session"
    if request.param.startswith("relayed"):
        name = role("LOGIN PASSWORD 'ordinary'")
        url = url.replace(f"{database.user}:{database.password}", f"{name}:ordinary")
    return start_guard(url, limits__total=5, pool__mode=mode)


def said(connect: Callable[[], object]) -> tuple[str, ...]:
    """What Postgres says to a login that it refuses; without address and port."""
    with pytest.raises(psycopg.OperationalError) as caught:
        connect()
    return tuple(line.partition("FATAL:")[2] for line in str(caught.value).splitlines())


def test_a_password_lets_in_and_a_wrong_one_does_not(
    guard: RunningGuard, database: Any, role: Callable[[str], str]
) -> None:
    name = role("LOGIN PASSWORD 'secret'")
    with guard.connect(user=name, password="secret") as session:
        assert session.execute("SELECT session_user").fetchone() == (name,)
    there = {"host": database.host, "port": database.port, "dbname": database.name}
    for user, password in ((name, "guess"), ("nobody_at_all", "guess")):
        direct = said(lambda: psycopg.connect(user=user, password=password, **there))  # noqa: B023
        through = said(lambda: guard.connect(user=user, password=password))  # noqa: B023
        assert through == direct
