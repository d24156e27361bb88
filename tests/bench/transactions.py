"""Processor time of a transaction of pgbench, for `measure.compare`.

A login is no transaction: what the same clients take for a single one each is measured in every
turn, and the floor of that is subtracted.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.bench import measure, peers
from tests.bench.cpu import CLIENTS

if TYPE_CHECKING:
    from collections.abc import Sequence


class Transactions:
    """Turns of one load: `each` transactions of each of `CLIENTS` clients."""

    __slots__ = ("_by_name", "_each", "_load", "_logins", "_pgbench")

    def __init__(
        self, pgbench: list[str], targets: Sequence[peers.Peer], load: Sequence[str], each: int
    ) -> None:
        self._pgbench = pgbench
        self._by_name = {target.name: target for target in targets}
        self._load = ["-n", *load, "-c", str(CLIENTS), "-j", "1", "-t"]
        self._each = each
        self._logins = {target.name: float("inf") for target in targets}

    def take(self, name: str) -> tuple[float, float]:
        """One turn: microseconds of each transaction, and transactions per second."""
        only_login, _ = self._spent(name, 1)
        self._logins[name] = min(self._logins[name], only_login)
        whole, rate = self._spent(name, self._each)
        return (whole - self._logins[name]) / (CLIENTS * (self._each - 1)), rate

    def _spent(self, name: str, count: int) -> tuple[float, float]:
        target = self._by_name[name]
        before = measure.processor_us(target.pid) if target.pid else 0.0
        rate = peers.pgbench(self._pgbench, target.address, [*self._load, str(count)])
        time.sleep(0.03)
        after = measure.processor_us(target.pid) if target.pid else 0.0
        return after - before, rate
