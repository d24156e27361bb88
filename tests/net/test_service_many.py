"""Look-ups in many databases one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core_fakes import World

from pgguard.net import service
from pgguard.net.dialer import Address
from pgguard.net.service import AT_ONCE, Services

if TYPE_CHECKING:
    import pytest


class FakeConnection:
    """Answers nothing to anything."""

    version = "16.1"
    method = None
    used_at = 0.0

    def __init__(self, database: str, open_ones: set[str]) -> None:
        self._database, self._open_ones = database, open_ones
        self.pid = 1
        self.may_pass_over = False
        open_ones.add(database)

    async def query(self, _sql: str, _values: object) -> list[list[str | None]]:
        return []

    async def close(self) -> None:
        self._open_ones.discard(self._database)


async def test_connections_to_many_databases_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    open_ones: set[str] = set()
    peak = 0

    async def fake(_address: Address, parameters: dict[str, str], _hub: Any) -> FakeConnection:
        nonlocal peak
        connection = FakeConnection(parameters["database"], open_ones)
        peak = max(peak, len(open_ones))
        return connection

    monkeypatch.setattr(service, "open_connection", fake)
    services = Services(World().hub, Address("localhost", 1), "postgres", "test")
    for number in range(10):
        await services.query(f"test_{number}", "select 1")
    assert peak == AT_ONCE
    assert open_ones == {"test_8", "test_9"}
    await services.query("test_9", "select 1")
    assert open_ones == {"test_8", "test_9"}
