"""How guards on one Postgres tell each other what they hold, and share without a word more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgguard.pool.neighbours import (
    FLOOR,
    KEPT_FOR,
    LIMIT,
    Announcement,
    Neighbours,
    announced,
    fair,
    host_name,
    read,
)

HERE = Announcement(1, "here", 6433)
SMALL = st.integers(0, 60)


def test_an_announcement_reads_as_it_was_written() -> None:
    said = Announcement(4711, "build-7.example", 6433, held=12, limit=24, waiting=5)
    assert said.text() == "pgguard/4711@build-7.example:6433 12/24+5"
    assert read(said.text()) == said
    assert said.describe() == "another pgguard at build-7.example:6433 (pid 4711) holds 12 of 24"


def test_an_announcement_fits_into_an_application_name() -> None:
    said = Announcement(9999999, host_name("h" * 80), 65535, 10**9, 10**9, 10**9)
    assert len(said.text()) <= 63
    assert read(said.text()) is not None


def test_a_host_name_holds_nothing_that_could_end_a_literal() -> None:
    assert host_name("it's a\\hÖst") == "it-s-a-h-st"
    assert host_name("") == "localhost"


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        "psql",
        "pgguard/1",
        "pgguard/20261125-1",
        "pgguard/1@h:1 1/2",
        "pgguard/1@h:1 1/2+3 ",
        "pgguard/1@h:1 -1/2+3",
        "pgguard/1@h:1 1/2+999999",
        "pgguard/١@h:1 1/2+3",  # noqa: RUF001  digits, but not ours
        "pgguard/1@h'--:1 1/2+3",
    ],
)
def test_nonsense_is_no_announcement(name: str | None) -> None:
    assert read(name) is None


def test_a_guard_does_not_take_itself_for_another() -> None:
    names = [HERE.text(), Announcement(2, "here", 6433).text()]
    assert list(announced(names, HERE.key)) == [(2, "here", 6433)]


def test_who_forges_many_names_is_not_listened_to_for_ever() -> None:
    names = [Announcement(number, "h", 1).text() for number in range(100)]
    assert len(announced(names, HERE.key)) == LIMIT


@given(slots=SMALL, demands=st.lists(SMALL, min_size=1, max_size=5))
def test_shares_use_all_and_are_max_min_fair(slots: int, demands: list[int]) -> None:
    keys = [(number, "h", 1) for number in range(len(demands))]
    shares = fair(slots, dict(zip(keys, demands, strict=True)))
    assert sum(shares.values()) == slots
    for one, wanted in zip(keys, demands, strict=True):
        if shares[one] < wanted:
            # Who lacks something has at most one less than whoever has most.
            assert all(shares[one] >= shares[other] - 1 for other in keys)


class Guard:
    """One of several that look at each other in turn."""

    def __init__(self, number: int) -> None:
        self.key = (number, "h", 1)
        self.neighbours = Neighbours()
        self.held = self.limit = self.wanted = 0

    def announcement(self) -> Announcement:
        return Announcement(
            *self.key, self.held, max(self.limit, self.held), max(0, self.wanted - self.held)
        )

    def look(self, guards: list[Guard], slots: int, now: float, *, locked: bool = True) -> None:
        seen = {guard.key: guard.announcement() for guard in guards if guard is not self}
        self.neighbours.look(seen, now)
        self.limit = self.neighbours.limit(self.announcement(), slots, locked=locked)

    def move(self) -> None:
        """Sessions take what they may, and leave what is above the limit."""
        self.held = min(self.wanted, self.limit)


@given(
    slots=st.integers(6, 40),
    wanted=st.lists(st.integers(0, 50), min_size=2, max_size=3),
    turns=st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), max_size=40),
)
def test_limits_never_exceed_what_is_there_and_come_to_rest_fairly(
    slots: int, wanted: list[int], turns: list[tuple[int, bool, bool]]
) -> None:
    guards = [Guard(number) for number in range(len(wanted))]
    guards[0].limit = slots
    guards[0].held = guards[0].wanted = min(slots, wanted[0])
    for number, moves, locked in turns:
        guard = guards[number % len(guards)]
        guard.wanted = wanted[number % len(guards)]
        guard.look(guards, slots, 0.0, locked=locked)
        if moves:
            guard.move()
        # One each is out of its margin.
        assert sum(max(g.limit, g.held) for g in guards) <= slots + len(guards)
    for _ in range(8):
        for guard, want in zip(guards, wanted, strict=True):
            guard.wanted = want
            guard.look(guards, slots, 0.0)
            guard.move()
    resting = [guard.limit for guard in guards]
    shares = fair(slots, {g.key: max(g.wanted, FLOOR) for g in guards})
    for guard in guards:
        assert guard.limit >= min(guard.wanted, shares[guard.key] - 1)
        assert guard.limit >= min(FLOOR, shares[guard.key])
    for guard in guards:
        guard.look(guards, slots, 0.0)
    assert [guard.limit for guard in guards] == resting
    assert sum(resting) <= slots


def test_a_guard_that_has_left_is_counted_a_little_longer() -> None:
    neighbours = Neighbours()
    other = Announcement(2, "h", 1, held=3, limit=5)
    assert neighbours.look({other.key: other}, 0.0) == [other]
    assert neighbours.look({}, KEPT_FOR) == []
    assert neighbours.known == [other]
    neighbours.look({}, KEPT_FOR + 0.1)
    assert not neighbours
    assert list(neighbours.ever) == [other.key]
    assert neighbours.limit(HERE, 11, locked=False) == 11


def test_strangers_are_counted_at_once_alone_and_steadily_beside_others() -> None:
    neighbours = Neighbours()
    assert [neighbours.slots(97, n, 3) for n in (0, 5)] == [94, 89]
    other = Announcement(2, "h", 1, held=10, limit=20)
    neighbours.look({other.key: other}, 0.0)
    readings = [neighbours.slots(97, n, 3) for n in (12, 10, 15, 10, 11, 16, 16, 17, 9)]
    assert readings == [89, 89, 89, 89, 89, 89, 89, 85, 85]


def test_what_a_guard_claims_counts_no_more_than_there_is() -> None:
    neighbours = Neighbours()
    other = Announcement(2, "h", 1, held=0, limit=99_999, waiting=99_999)
    neighbours.look({other.key: other}, 0.0)
    assert neighbours.slots(97, 0, 3) == 91
    busy = Announcement(*HERE.key, held=10, limit=91, waiting=80)
    assert neighbours.limit(busy, 91, locked=True) >= 45
