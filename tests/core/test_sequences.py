"""Who asks too late for the value of a sequence never gets another's, and is told why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from shared import Shared

from pgguard import events
from pgguard.core.sequences import keeps
from pgguard.wire import backend, codes

if TYPE_CHECKING:
    from pgguard.core.shared_server import SharedServer
    from pgguard.core.shared_session import SharedSession

INSERT = "INSERT INTO t (x) VALUES (1)"
MESSAGE = "lastval is not yet defined in this session"


def error(sqlstate: str = "55000", routine: str = "lastval") -> bytes:
    fields = {"S": "ERROR", "V": "ERROR", "C": sqlstate, "M": MESSAGE, "R": routine}
    return backend.fields_message(codes.ERROR_RESPONSE, fields)


def inserted(shared: Shared) -> SharedSession:
    session = shared.session()
    shared.says(session, f'Query "{INSERT}"')
    shared.done(session.shared, "INSERT 0 1")
    session.pins.reasons.clear()
    shared.heard(session)
    return session


def parted(shared: Shared) -> tuple[SharedSession, SharedSession, SharedServer]:
    """One that has inserted and asks now; another one has had its only server in between."""
    session = inserted(shared)
    server = session.shared
    taker = shared.session()
    shared.says(taker, 'Query "SELECT 2"')
    assert shared.heard(server)[-1] == 'Query "DISCARD SEQUENCES"'
    shared.done(server, "DISCARD SEQUENCES")
    shared.done(server)
    shared.says(session, 'Query "SELECT lastval()"')
    assert session.server is server
    return session, taker, server


def told(shared: Shared, session: SharedSession, reply: bytes) -> dict[str, str]:
    """What the session gets of an error, and the fields that it has."""
    shared.world.receive(session.shared, reply)
    return backend.decode_fields(shared.world.outs[session].take()[5:])


@pytest.mark.parametrize("routine", ["lastval", "currval_oid"])
def test_who_asks_too_late_is_told_who_needed_the_server_and_what_to_do(routine: str) -> None:
    shared = Shared(connection_limit=1)
    session, taker, _ = parted(shared)
    fields = told(shared, session, error(routine=routine))
    assert (fields["C"], fields["M"], fields["R"]) == ("55000", MESSAGE, routine)
    who = f'client "a.py" session {taker.id} needed it'
    text = "INSERT INTO t (x) VALUES (?)"
    assert fields["D"] == f"Its server was not there any more since: {text}; {who}."
    assert "RETURNING" in fields["H"]
    assert "PGG311" in fields["H"]
    (event,) = [e for e in shared.hub.events if isinstance(e, events.SequenceLost)]
    assert (event.session, event.client, event.advanced, event.why) == (
        session.id,
        "a.py",
        text,
        who,
    )
    assert event.asked == "SELECT lastval()"
    assert event.fingerprint
    assert session.client.reads_sequences
    shared.world.end()


@pytest.mark.parametrize(
    ("sqlstate", "routine"), [("55000", "ExecPrepare"), ("42P01", "lastval"), ("22000", "x 55000")]
)
def test_other_errors_are_told_as_they_came(sqlstate: str, routine: str) -> None:
    shared = Shared(connection_limit=1)
    session, _, _ = parted(shared)
    assert "D" not in told(shared, session, error(sqlstate, routine))
    assert not [e for e in shared.hub.events if isinstance(e, events.SequenceLost)]
    assert not session.client.reads_sequences
    shared.world.end()


def test_who_has_advanced_nothing_is_told_postgres_own_error() -> None:
    shared = Shared()
    session = shared.session()
    shared.says(session, 'Query "SELECT lastval()"')
    assert "D" not in told(shared, session, error())
    assert session.client.reads_sequences
    shared.world.end()


def test_a_client_that_asks_keeps_its_servers_as_long_as_it_is_not_silent_for_long() -> None:
    shared = Shared(connection_limit=1, self_starvation_after=2.0, notice_after=None)
    session = inserted(shared)
    assert not keeps(session, session.shared)
    session.client.reads_sequences = True
    assert keeps(session, session.shared)
    other = shared.session()
    shared.says(other, 'Query "SELECT 2"')
    shared.world.wait(1.5)
    assert other.server is None
    assert "keeps its server: value of a sequence" in session.describe(shared.world.clock())
    shared.world.wait(1.0)
    assert other.server is not None
    assert not [e for e in shared.hub.events if isinstance(e, events.SessionRefused)]
    shared.world.end()
