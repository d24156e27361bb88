"""Who tries while Postgres is away, and when it is back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pgguard.core.redials import AT_ONCE, FIRST, FOLLOWERS, LONGEST, Redials, Waiting
from pgguard.errors import ServerUnavailable

DOWN = ServerUnavailable("connection refused")


def waiting(user: str = "app", ticket: Any = "ticket") -> Waiting:
    session: Any = SimpleNamespace(user=user, database="shop")
    return Waiting(session, ticket, DOWN)


def queue(*those: Waiting) -> Redials:
    redials = Redials()
    for one in those:
        redials.add(one, 0.0)
    return redials


def test_one_at_a_time_tries_and_ever_less_often() -> None:
    crowd = [waiting() for _ in range(20)]
    redials = queue(*crowd)
    tries = []
    now = 0.0
    while len(redials) > 10:
        tries += [(round(now, 2), one) for one in redials.due(now)]
        now += 0.25
    assert [one for _, one in tries] == crowd[:10]
    times = [at for at, _ in tries]
    pauses = [round(b - a, 2) for a, b in zip([0.0, *times], times, strict=False)]
    assert pauses[:3] == [FIRST, 2 * FIRST, LONGEST]
    assert set(pauses[3:]) == {LONGEST}


def test_whoever_is_answered_lets_two_others_try_but_not_too_many_at_once() -> None:
    crowd = [waiting() for _ in range(20)]
    redials = queue(*crowd)
    assert redials.answered(0, 1.0) == crowd[:FOLLOWERS]
    assert redials.answered(AT_ONCE - 1, 1.0) == [crowd[2]]
    assert redials.answered(AT_ONCE, 1.0) == []
    assert redials.answered(AT_ONCE + 5, 1.0) == []
    # Should it be a last answer, the next one tries soon.
    assert redials.due(1.0 + FIRST) == [crowd[3]]


def test_who_only_wants_to_know_how_a_user_is_received_tries_together() -> None:
    first, other, same = waiting(ticket=None), waiting("eve", None), waiting(ticket=None)
    redials = queue(first, other, waiting(), same)
    assert redials.due(FIRST) == [first, same]
    assert redials.answered(0, 1.0)[0] is other


def test_who_has_left_the_queue_is_not_in_it() -> None:
    crowd = [waiting() for _ in range(3)]
    redials = queue(*crowd)
    assert redials.take_if(lambda one: one is crowd[1]) == [crowd[1]]
    assert list(redials) == [crowd[0], crowd[2]]
    assert redials.take_if(lambda _: False) == []
    assert len(redials) == 2
