"""The table of moves of a server, every cell of it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pgguard.errors import InternalError
from pgguard.pool.servers import MOVES, ServerState, move


@dataclass
class FakeServer:
    state: ServerState

    def __repr__(self) -> str:
        return "server 7"


@pytest.mark.parametrize("state", ServerState, ids=lambda state: state.name)
def test_every_legal_move_is_made_and_every_other_is_an_internal_error(state: ServerState) -> None:
    for to in ServerState:
        server = FakeServer(state)
        if to in MOVES[state]:
            move(server, to)
            assert server.state is to
        else:
            with pytest.raises(InternalError) as caught:
                move(server, to)
            assert str(caught.value) == f"server 7 cannot move from {state.name} to {to.name}"
            assert server.state is state


def test_every_server_can_be_lost_and_none_comes_back() -> None:
    for state in ServerState:
        assert (ServerState.CLOSED in MOVES[state]) == (state is not ServerState.CLOSED)
    assert not MOVES[ServerState.CLOSED]


def test_a_closing_server_only_ends() -> None:
    assert MOVES[ServerState.CLOSING] == {ServerState.CLOSED}


def test_every_state_is_reached_from_connecting() -> None:
    reached = {ServerState.CONNECTING}
    while more := {to for state in reached for to in MOVES[state]} - reached:
        reached |= more
    assert reached == set(ServerState)
