"""Spare servers: whose they may become, which goes first, and what a pool knows of statements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgguard.core import pools as module
from pgguard.core.pools import Parsed, Pool, Pools
from pgguard.wire import backend

if TYPE_CHECKING:
    import pytest


@dataclass(eq=False)
class FakeSession:
    client: str
    pool: Pool
    parameters: dict[str, str] = field(default_factory=dict)
    dotted: set[str] = field(default_factory=set)


@dataclass(eq=False)
class FakeServer:
    pool: Pool
    client: str
    last_session: FakeSession | None = None
    dotted: set[str] = field(default_factory=set)
    rested: float = 0.0


def pooled(*servers: tuple[str, float]) -> tuple[Any, Pool, list[Any]]:
    """Pools with one pool, in which the servers of these clients were put in turn."""
    pools = Pools()
    session: Any = FakeSession("", Pool(()), {"user": "app"})
    pool = pools.of(session)
    spare: list[Any] = [FakeServer(pool, client, rested=rested) for client, rested in servers]
    for server in spare:
        pools.put(server)
    return pools, pool, spare


def test_startup_settings_make_a_pool_and_the_application_name_does_not() -> None:
    pools, pool, _ = pooled()
    more: Any = FakeSession("", pool, {"application_name": "a.py", "user": "app"})
    other: Any = FakeSession("", pool, {"user": "app", "search_path": "x"})
    assert pools.of(more) is pool
    assert pools.of(other) is not pool


def test_a_server_goes_to_its_session_then_to_its_client_then_to_anybody() -> None:
    pools, pool, (first, second, third) = pooled(("a", 1), ("a", 2), ("b", 3))
    session: Any = FakeSession("a", pool)
    first.last_session = session
    taken = [pools.take(session, at_cap=False) for _ in range(4)]
    assert taken == [first, second, third, None]


def test_at_its_cap_a_client_takes_none_of_another_one() -> None:
    pools, pool, _ = pooled(("b", 1))
    session: Any = FakeSession("a", pool)
    assert pools.take(session, at_cap=True) is None
    assert pools.take(session, at_cap=False) is not None


def test_the_one_let_go_last_is_lent_first() -> None:
    pools, pool, (_, second) = pooled(("a", 1), ("a", 2))
    session: Any = FakeSession("a", pool)
    assert pools.take(session, at_cap=False) is second


def test_a_setting_with_a_dot_is_seen_by_nobody_who_has_not_made_it() -> None:
    pools, pool, (server,) = pooled(("a", 1))
    server.dotted = {"app.tenant"}
    stranger: Any = FakeSession("b", pool)
    neighbour: Any = FakeSession("a", pool)
    maker: Any = FakeSession("a", pool, dotted={"app.tenant", "app.user"})
    assert pools.take(stranger, at_cap=False) is None
    assert pools.take(neighbour, at_cap=False) is None
    assert pools.take(maker, at_cap=False) is server


def test_the_oldest_goes_first_of_all_or_of_one_client() -> None:
    pools, _, (first, second, third) = pooled(("a", 3), ("b", 1), ("b", 2))
    assert pools.take_oldest("a") is first
    assert pools.take_oldest() is second
    assert pools.remove(third)
    assert not pools.remove(third)
    assert pools.take_oldest() is None


BODY = b"SELECT $1\0\0\0"
PARSED = Parsed((23,), b"rows", 5)


def test_what_was_parsed_is_recalled_under_the_same_settings_in_the_same_epoch() -> None:
    pool = Pool(())
    pool.learn(BODY, {"search_path": b"SET search_path = a"}, PARSED)
    assert pool.recall(BODY, {"search_path": b"SET search_path = a"}, 5) == PARSED
    assert pool.recall(BODY, {"search_path": b"SET search_path = b"}, 5) is None
    assert pool.recall(BODY, {}, 5) is None
    assert pool.recall(BODY, {"search_path": b"SET search_path = a"}, 6) is None


def test_what_is_recalled_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    monkeypatch.setattr(module, "LONGEST", 20)
    pool = Pool(())
    for body in (b"one", b"two", b"one", b"three", b"x" * 21):
        pool.learn(body, {}, PARSED)
    known = [body for body in (b"one", b"two", b"three", b"x" * 21) if pool.recall(body, {}, 5)]
    assert known == [b"one", b"three"]


def test_all_sessions_of_one_name_are_told_the_same() -> None:
    pool = Pool(())
    pool.knows({"server_version": "18", "application_name": "first"})
    parameters, said = pool.told_to("a.py")
    assert parameters == {"server_version": "18", "application_name": "a.py"}
    assert said == b"".join(backend.parameter_status(*one) for one in parameters.items())
    assert pool.told_to("a.py")[0] is parameters
    pool.knows({"server_version": "19"})
    assert pool.told_to("a.py")[0] == {"server_version": "19", "application_name": "a.py"}
