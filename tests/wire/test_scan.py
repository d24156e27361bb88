"""Framing under every segmentation, and of what is no message at all."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgguard.errors import ProtocolViolation
from pgguard.wire.codes import BACKEND_LIMIT, FRONTEND_LIMIT, LOGIN_LIMIT
from pgguard.wire.scan import Cursor, Framer, StartupFramer, bad_length, message

DIALOGUES = [
    ("one query", [(0x51, b"select 1\0")]),
    ("an empty body", [(0x53, b"")]),
    ("a pipeline", [(0x50, b"s\0select $1\0\0\0"), (0x42, b"\0s\0" + bytes(6)), (0x53, b"")]),
    ("a type that nobody knows", [(0x7E, b"\0\xff"), (0x00, b""), (0xFF, b"x")]),
    ("a body that looks like headers", [(0x64, b"S\0\0\0\x04Q\xff\xff\xff\xff"), (0x63, b"")]),
]
PACKETS = [
    ("the shortest", b"\0\0\0\x08\x04\xd2\x16\x2f"),
    ("a startup", b"\0\0\0\x11\0\x03\0\0user\0me\0\0"),
]

Found = tuple[list[tuple[int, bytes]], bool, bytes]


def whole(messages: list[tuple[int, bytes]]) -> bytes:
    return b"".join(message(type_, body) for type_, body in messages)


def run(framer: Framer, pieces: list[bytes]) -> Found:
    """All messages, whether it came to a violation, and what was left."""
    found: list[tuple[int, bytes]] = []
    try:
        for piece in [*pieces, b""]:
            found += framer.feed(piece)
    except ProtocolViolation:
        return found, True, b""
    return found, False, framer.rest


def splits(data: bytes) -> list[list[bytes]]:
    cuts = [[data[:at], data[at:]] for at in range(len(data) + 1)]
    return [[data], [bytes((byte,)) for byte in data], *cuts]


@pytest.mark.parametrize(("title", "messages"), DIALOGUES)
def test_any_segmentation_gives_the_same_messages(
    title: str, messages: list[tuple[int, bytes]]
) -> None:
    for pieces in splits(whole(messages)):
        assert run(Framer(FRONTEND_LIMIT, "session"), pieces) == (messages, False, b"")


@pytest.mark.parametrize(("title", "messages"), DIALOGUES)
def test_a_truncated_dialogue_asks_for_more_and_keeps_what_is_left(
    title: str, messages: list[tuple[int, bytes]]
) -> None:
    data = whole(messages)
    for length in range(len(data)):
        found, violated, rest = run(Framer(FRONTEND_LIMIT, "session"), [data[:length]])
        assert not violated
        assert found == messages[: len(found)]
        assert len(found) < len(messages)
        assert whole(found) + rest == data[:length]


def test_messages_are_taken_one_at_a_time_so_that_framing_may_change_between_them() -> None:
    framer = Framer(FRONTEND_LIMIT, "session")
    framer.push(message(0x70, b"secret\0") + message(0x51, b"select 1\0"))
    assert framer.take() == (0x70, b"secret\0")
    assert framer.rest == message(0x51, b"select 1\0")


@pytest.mark.parametrize("length", [0, 1, 2, 3, 10_001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_bad_length_is_refused_with_its_fifth_byte(length: int) -> None:
    header = b"S" + length.to_bytes(4, "big")
    for pieces in splits(header):
        framer = Framer(FRONTEND_LIMIT, "session")
        found, violated, _ = run(framer, pieces)
        assert (found, violated) == ([], True)
    framer = Framer(FRONTEND_LIMIT, "session")
    assert framer.feed(header[:4]) == []


@pytest.mark.parametrize(("type_", "limit"), [(0x53, 10_000), (0x70, 65_535)])
def test_the_largest_length_is_waited_for(type_: int, limit: int) -> None:
    framer = Framer(LOGIN_LIMIT, "session")
    assert framer.feed(bytes((type_,)) + limit.to_bytes(4, "big")) == []
    assert framer.feed(bytes(limit - 4)) == [(type_, bytes(limit - 4))]


def test_messages_before_a_violation_are_handed_out_first() -> None:
    data = message(0x45, b"SFATAL\0\0") + b"Z\0\0\0\x06"
    for pieces in splits(data):
        found, violated, _ = run(Framer(BACKEND_LIMIT, "server"), pieces)
        assert (found, violated) == ([(0x45, b"SFATAL\0\0")], True)


def test_a_violation_is_not_forgotten() -> None:
    framer = Framer(BACKEND_LIMIT, "server")
    for data in (b"Z\0\0\0\x06", message(0x5A, b"I")):
        with pytest.raises(ProtocolViolation) as caught:
            framer.feed(data)
        assert caught.value.peer == "server"


def test_a_bad_length_names_type_length_and_limit() -> None:
    error = bad_length(0x53, 70_000, 10_000, "session")
    assert str(error) == "invalid message length 70000 of type b'S', expected 4 to 10000"


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_random_bytes_in_pieces_are_what_they_are_whole(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    expected = run(Framer(LOGIN_LIMIT, "session"), [data])
    found, violated, rest = run(Framer(LOGIN_LIMIT, "session"), pieces)
    assert (found, violated, rest) == expected
    assert data.startswith(whole(found) + rest)


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=6), st.data())
def test_messages_of_any_type_survive_any_cuts(
    messages: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    stream = whole(messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    edges = [0, *cuts, len(stream)]
    pieces = [stream[start:stop] for start, stop in pairwise(edges)]
    assert run(Framer(FRONTEND_LIMIT, "session"), pieces) == (messages, False, b"")


@pytest.mark.parametrize(("title", "packet"), PACKETS)
def test_a_packet_is_whole_at_every_split_and_what_follows_stays(title: str, packet: bytes) -> None:
    for pieces in splits(packet):
        framer = StartupFramer()
        assert [found for piece in pieces for found in framer.feed(piece)] == [packet]
        assert framer.rest == b""
    framer = StartupFramer()
    assert framer.feed(packet + packet + b"p") == [packet]
    assert framer.rest == packet + b"p"
    assert framer.feed(b"") == [packet]
    assert framer.rest == b"p"


@pytest.mark.parametrize(("title", "packet"), PACKETS)
def test_a_truncated_packet_asks_for_more(title: str, packet: bytes) -> None:
    for length in range(len(packet)):
        framer = StartupFramer()
        assert framer.feed(packet[:length]) == []
        assert framer.rest == packet[:length]


@pytest.mark.parametrize(
    "start", [b"\0\0\0\x07", b"\0\0\0\0", b"\0\0\x27\x15", b"GET ", b"\x16\3\1\0"]
)
def test_a_packet_of_impossible_length_is_refused_with_its_fourth_byte(start: bytes) -> None:
    framer = StartupFramer()
    assert framer.feed(start[:3]) == []
    with pytest.raises(ProtocolViolation, match="invalid length of startup packet"):
        framer.feed(start[3:])


def test_the_longest_packet_is_waited_for() -> None:
    framer = StartupFramer()
    packet = (10_004).to_bytes(4, "big") + bytes(10_000)
    assert framer.feed(packet[:-1]) == []
    assert framer.feed(packet[-1:]) == [packet]


def test_a_cursor_reads_every_kind_of_field() -> None:
    body = b"\xff\xfe" + b"\xff\xff\xff\xff" + b"\xff\xff\xff\xff" + b"name\0" + b"left"
    cursor = Cursor(body, "server")
    assert (cursor.int16(), cursor.int32(), cursor.uint32()) == (0xFFFE, -1, 0xFFFFFFFF)
    assert (cursor.string(), cursor.rest(), cursor.rest()) == (b"name", b"left", b"")
    cursor.end()


def test_a_cursor_refuses_to_leave_bytes() -> None:
    with pytest.raises(ProtocolViolation, match="1 bytes too many") as caught:
        Cursor(b"x", "server").end()
    assert caught.value.peer == "server"


@pytest.mark.parametrize("length", [-2, -(2**31), 5, 2**31 - 1])
def test_a_cursor_takes_no_value_that_is_not_there(length: int) -> None:
    with pytest.raises(ProtocolViolation):
        Cursor(length.to_bytes(4, "big", signed=True) + b"1234", "session").value()


def test_counts_that_lie_are_found_before_anything_is_made_of_them() -> None:
    with pytest.raises(ProtocolViolation):
        Cursor(b"\xff\xff" + bytes(100), "session").values()
    with pytest.raises(ProtocolViolation):
        Cursor(b"\xff\xff" + bytes(100), "session").int16s()
