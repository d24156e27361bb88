"""Session states: the table of moves, and the places that the states are."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import pytest

from pgguard.core.states import SESSION_MOVES, Places, SessionState
from pgguard.errors import InternalError

LOGIN, WAITING, RELAYED, IDLE, LINKED, CLOSING, CLOSED = SessionState


@dataclass(eq=False)
class FakeSession:
    state: SessionState = LOGIN
    since: float = 0.0


WAYS = {
    LOGIN: (),
    WAITING: (WAITING,),
    RELAYED: (WAITING, RELAYED),
    IDLE: (IDLE,),
    LINKED: (WAITING, LINKED),
    CLOSING: (CLOSING,),
    CLOSED: (CLOSED,),
}
"""How a session gets into each state."""


def in_state(places: Places, state: SessionState) -> FakeSession:
    session = FakeSession()
    places.add(session)
    for step in WAYS[state]:
        places.move(session, step, 1.0)
    return session


@pytest.mark.parametrize(("state", "to"), [*product(SessionState, SessionState)])
def test_a_move_is_made_if_the_table_has_it_and_raises_if_not(
    state: SessionState, to: SessionState
) -> None:
    places = Places()
    session = in_state(places, state)
    if to in SESSION_MOVES[state]:
        places.move(session, to, 5.0)
        assert (session.state, session.since) == (to, 5.0)
    else:
        with pytest.raises(InternalError, match=f"from {state.name} to {to.name}"):
            places.move(session, to, 5.0)
        assert session.state is state


@pytest.mark.parametrize("state", SessionState)
def test_a_session_is_in_the_place_of_its_state_and_in_no_other(state: SessionState) -> None:
    places = Places()
    session = in_state(places, state)
    found = [other for other in SessionState if other is not CLOSED and session in places.of(other)]
    assert found == ([] if state is CLOSED else [state])
    assert len(places) == len([*places]) == (0 if state is CLOSED else 1)


def test_every_state_but_the_last_can_end() -> None:
    assert all(CLOSED in moves for state, moves in SESSION_MOVES.items() if state is not CLOSED)
    assert not SESSION_MOVES[CLOSED]
