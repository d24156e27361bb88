"""Sessions that wait for verdicts: released by database, at the latest after a while."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from core_fakes import Clock

from pgguard.core.holds import PATIENCE, Holds


@dataclass(eq=False)
class Waiting:
    holds: Holds
    database: str = "shop"
    server: object = field(default_factory=object)
    stays: bool = False
    told: list[bool] = field(default_factory=list)

    def verdicts_came(self, *, final: bool) -> None:
        self.told.append(final)
        if self.stays:
            self.holds.add(cast("Any", self))


def waiting(holds: Holds, **values: Any) -> Waiting:
    one = Waiting(holds, **values)
    holds.add(cast("Any", one))
    return one


def test_who_waits_for_a_database_is_released_with_it() -> None:
    holds = Holds(Clock())
    shop, other = waiting(holds), waiting(holds, database="other")
    holds.release("shop", final=False)
    assert (shop.told, other.told, len(holds)) == ([False], [], 1)


def test_nobody_waits_for_ever_and_waiting_on_does_not_begin_anew() -> None:
    clock = Clock()
    holds = Holds(clock)
    one = waiting(holds, stays=True)
    clock.now += PATIENCE - 1
    holds.release("shop", final=False)
    holds.tick(clock())
    assert one.told == [False]
    clock.now += 2
    holds.tick(clock())
    assert one.told == [False, True]


def test_who_has_left_is_not_told() -> None:
    holds = Holds(Clock())
    one = waiting(holds, server=None)
    holds.release("shop", final=True)
    assert (one.told, len(holds)) == ([], 0)
