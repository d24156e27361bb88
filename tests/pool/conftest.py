"""What the tests of pool/ share: a stand-in for the session behind a ticket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeHolder:
    """A session that says what it is told to say."""

    def __init__(
        self, text: str = "a session", stuck: float | None = None, *, blocked: bool = False
    ) -> None:
        self.text, self.stuck, self.blocked = text, stuck, blocked
        self.asked = 0

    def stuck_since(self, *, everybody: bool = False) -> float | None:
        self.asked += 1
        return self.stuck

    def is_blocked(self) -> bool:
        return self.blocked

    def describe(self, now: float) -> str:
        return self.text


@pytest.fixture
def holder() -> Callable[..., FakeHolder]:
    return FakeHolder
