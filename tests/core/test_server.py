"""The backend side: what is counted, what is noted, and who has to wait for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from core_fakes import World
from notation import BACKEND, FRONTEND, decode, encode

from pgguard.core.states import SessionState

if TYPE_CHECKING:
    from pgguard.core.server import Server
    from pgguard.core.session import Session


class Pair:
    """A session with its server, spoken to in lines."""

    def __init__(self, **settings: object) -> None:
        self.world = World(**settings)  # type: ignore[arg-type]
        self.session: Session
        self.server: Server
        self.session, self.server = self.world.link()

    def asks(self, *lines: str) -> None:
        self.world.receive(self.session, b"".join(encode(line, FRONTEND) for line in lines))

    def answers(self, *lines: str) -> None:
        self.world.receive(self.server, b"".join(encode(line, BACKEND) for line in lines))

    def runs(self, text: str, *answer: str) -> None:
        self.asks(f'Query "{text}"')
        self.answers(*answer)


@pytest.fixture
def pair() -> Pair:
    return Pair()


@pytest.mark.parametrize(
    ("answers", "commits", "rollbacks"),
    [
        ([("SELECT 1", "I")], 1, 0),
        ([("BEGIN", "T"), ("INSERT 0 1", "T"), ("COMMIT", "I")], 1, 0),
        ([("BEGIN", "T"), ("ROLLBACK", "I")], 0, 1),
        ([("BEGIN", "T"), (None, "E"), ("ROLLBACK", "I")], 0, 1),
        ([("BEGIN", "T"), (None, "E"), ("COMMIT", "I")], 0, 1),
        ([(None, "I")], 0, 1),
        ([("BEGIN", "T")], 0, 0),
        ([("ROLLBACK", "I"), ("SELECT 1", "I")], 2, 0),
    ],
)
def test_transactions_are_counted_by_how_they_end(
    pair: Pair, answers: list[tuple[str | None, str]], commits: int, rollbacks: int
) -> None:
    for tag, status in answers:
        outcome = f'CommandComplete "{tag}"' if tag else 'ErrorResponse ERROR 22012 "no"'
        pair.runs("x", outcome, f"ReadyForQuery {status}")
    counters = pair.world.hub.counters
    autocommits = sum(counters.autocommit_seconds.counts)
    assert counters.transactions["commit"] + autocommits == commits
    assert counters.transactions["rollback"] == rollbacks


def test_a_statement_takes_from_its_request_to_its_answer(pair: Pair) -> None:
    pair.asks('Query "begin"')
    pair.world.wait(1)
    pair.answers("ReadyForQuery T")
    pair.world.wait(5)
    pair.asks('Query "commit"', 'Query "select 1"')
    pair.world.wait(2)
    pair.answers('CommandComplete "COMMIT"', "ReadyForQuery I")
    counters = pair.world.hub.counters
    assert counters.statement_seconds.sum == pytest.approx(3)
    assert counters.idle_in_transaction_seconds.sum == pytest.approx(5)
    assert counters.transaction_seconds.sum == pytest.approx(8)
    pair.world.wait(1)
    pair.answers("ReadyForQuery I")
    assert pair.server.started == pytest.approx(pair.world.clock.now - 1)


def test_errors_are_counted_by_sqlstate_and_bounded(pair: Pair) -> None:
    for sqlstate in ("22012", "22012", "40001"):
        pair.runs("x", f'ErrorResponse ERROR {sqlstate} "no"', "ReadyForQuery I")
    errors = pair.world.hub.counters.errors
    assert errors == {"22012": 2, "40001": 1}
    for number in range(600):
        pair.answers(f'ErrorResponse ERROR {number:05} "no"')
    assert len(errors) == 500


def test_bytes_are_counted_both_ways(pair: Pair) -> None:
    counters = pair.world.hub.counters
    before = counters.received_bytes, counters.sent_bytes
    pair.asks('Query "select 1"')
    pair.answers("ReadyForQuery I")
    assert counters.received_bytes - before[0] == len(encode('Query "select 1"', FRONTEND))
    assert counters.sent_bytes - before[1] == 6


def test_ddl_has_the_catalogue_read_again_when_its_transaction_has_ended(pair: Pair) -> None:
    net = pair.world.net
    net.requests.clear()
    pair.runs("begin", "ReadyForQuery T")
    pair.runs("create table t ()", "ReadyForQuery T")
    assert not net.asked("read_catalogue")
    pair.runs("commit", 'CommandComplete "COMMIT"', "ReadyForQuery I")
    assert net.asked("read_catalogue") == [("read_catalogue", "shop")]


def test_who_does_not_read_is_not_written_to(pair: Pair) -> None:
    outs = pair.world.outs
    pair.session.pause_writing()
    assert not outs[pair.server].reading
    pair.session.resume_writing()
    assert outs[pair.server].reading
    pair.server.pause_writing()
    assert not outs[pair.session].reading
    pair.server.resume_writing()
    assert outs[pair.session].reading


def test_a_client_that_does_not_read_when_it_is_linked_pauses_its_server() -> None:
    world = World()
    session = world.enter()
    session.pause_writing()
    out = world.connect(world.net.dialled[0])
    assert not out.reading


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"Z\0\0\0\4", 90),
        (b"Z\0\0\0\6", 90),
        (b"1\0\0\0\5", 49),
        (b"C\0\0\0\3", 67),
        (b"S\0\0\xff\xff", 83),
        (b"E\xff\xff\xff\xff", 69),
        (b"~\x7f\xff\xff\xff", 126),
        (b"D\0\0\0\0", 68),
    ],
)
def test_an_impossible_length_ends_session_and_server(pair: Pair, head: bytes, kind: int) -> None:
    pair.world.receive(pair.server, encode('DataRow "1"', BACKEND) + head + b"xx")
    sent = pair.world.outs[pair.session].written
    row = encode('DataRow "1"', BACKEND)
    assert sent.startswith(row)
    assert f"invalid message length (message type {kind})" in decode(sent[len(row) :], BACKEND)
    assert pair.session.state is SessionState.CLOSED
    assert not pair.world.hub.servers
    pair.world.end()


def test_what_cannot_be_read_of_a_report_is_passed_on_as_it_came(pair: Pair) -> None:
    strange = [b"S\0\0\0\6ab", b"E\0\0\0\7xyz", b"E\0\0\0\4", b"N\0\0\0\6\xff\0"]
    for message in strange:
        pair.world.receive(pair.server, message)
    assert pair.world.outs[pair.session].written == b"".join(strange)
    assert pair.session.state is SessionState.LINKED


def test_a_server_without_its_session_is_read_to_the_end_and_tells_nobody(pair: Pair) -> None:
    pair.asks('Query "select 1"', "Terminate")
    pair.world.reset(pair.session)
    written = pair.world.outs[pair.session].written
    pair.answers('DataRow "1"', "ReadyForQuery I")
    assert pair.world.outs[pair.session].written == written
    pair.world.end()
