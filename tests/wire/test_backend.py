"""What a server sends, honest or not: decoded, survived or refused; and what we say ourselves."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgguard.errors import ProtocolViolation
from pgguard.wire import backend
from pgguard.wire.codes import BACKEND_LIMIT, PROTOCOL_3_0, PROTOCOL_3_2
from pgguard.wire.scan import Framer

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMN = bytes(18)

BODIES: list[tuple[str, Callable[[bytes], Any], bytes, Any]] = [
    ("a parameter", backend.decode_parameter_status, b"a\0b\0", ("a", "b")),
    ("an empty parameter", backend.decode_parameter_status, b"a\0\0", ("a", "")),
    ("another encoding", backend.decode_parameter_status, b"a\0\xe9\0", ("a", "\udce9")),
    ("an empty row", backend.decode_row, b"\0\0", []),
    (
        "a value, NULL and an empty value",
        backend.decode_row,
        b"\0\x03\0\0\0\x02hi\xff\xff\xff\xff\0\0\0\0",
        [b"hi", None, b""],
    ),
    ("no columns", backend.decode_row_description, b"\0\0", []),
    (
        "two columns",
        backend.decode_row_description,
        b"\0\x02a\0" + COLUMN + b"\xe9\0" + COLUMN,
        ["a", "\udce9"],
    ),
    ("a notification", backend.decode_notification, b"\0\0\x01\0ch\0p\0", (256, "ch", "p")),
    ("a tag", backend.decode_command_complete, b"SELECT 1\0", b"SELECT 1"),
    ("a version", backend.decode_negotiate, b"\0\3\0\2\0\0\0\0", (PROTOCOL_3_2, [])),
    ("a bare minor version", backend.decode_negotiate, bytes(8), (PROTOCOL_3_0, [])),
    (
        "options not known",
        backend.decode_negotiate,
        b"\0\3\0\0\0\0\0\2_pq_.a\0_pq_.b\0",
        (PROTOCOL_3_0, ["_pq_.a", "_pq_.b"]),
    ),
]
OTHERS = [backend.decode_fields, backend.decode_key_data]
DECODERS = [*{decoder.__name__: decoder for _, decoder, _, _ in BODIES}.values(), *OTHERS]


@pytest.mark.parametrize(("title", "decode", "body", "expected"), BODIES)
def test_a_whole_body_is_decoded(
    title: str, decode: Callable[[bytes], Any], body: bytes, expected: Any
) -> None:
    assert decode(body) == expected


@pytest.mark.parametrize(("title", "decode", "body", "expected"), BODIES)
def test_a_body_truncated_anywhere_is_a_violation(
    title: str, decode: Callable[[bytes], Any], body: bytes, expected: Any
) -> None:
    for length in range(len(body)):
        with pytest.raises(ProtocolViolation) as caught:
            decode(body[:length])
        assert caught.value.peer == "server"


@pytest.mark.parametrize(("title", "decode", "body", "expected"), BODIES)
@pytest.mark.parametrize("more", [b"x", b"x\0", b"\0x"])
def test_bytes_behind_a_body_are_a_violation(
    title: str, decode: Callable[[bytes], Any], body: bytes, expected: Any, more: bytes
) -> None:
    with pytest.raises(ProtocolViolation):
        decode(body + more)


@pytest.mark.parametrize("decode", DECODERS)
@given(body=st.binary(max_size=60))
def test_random_bodies_are_decoded_or_a_violation(
    decode: Callable[[bytes], Any], body: bytes
) -> None:
    with suppress(ProtocolViolation):
        decode(body)


FIELDS = [
    (b"SERROR\0C42P01\0Mno table\0\0", {"S": "ERROR", "C": "42P01", "M": "no table"}),
    (b"\0", {}),
    (b"", {}),
    (b"M\0\0", {"M": ""}),
    (b"SFATAL\0D\0Mtext\0\0", {"S": "FATAL", "D": "", "M": "text"}),
    (b"Mno terminator at all", {"M": "no terminator at all"}),
    (b"Mtext\0Dno terminator of the list\0", {"M": "text", "D": "no terminator of the list"}),
    (b"Mtext\0\0Hbehind the end\0\0", {"M": "text"}),
    (b"M\xe9\xff\0\0", {"M": "\udce9\udcff"}),
    (b"\xffodd\0\0", {"\xff": "odd"}),
]


@pytest.mark.parametrize(("body", "expected"), FIELDS)
def test_the_fields_of_an_error_are_read_whatever_a_server_leaves_out(
    body: bytes, expected: dict[str, str]
) -> None:
    assert backend.decode_fields(body) == expected


def test_an_error_truncated_anywhere_still_shows_what_is_there() -> None:
    body = FIELDS[0][0]
    for length in range(len(body)):
        for letter, value in backend.decode_fields(body[:length]).items():
            assert FIELDS[0][1][letter].startswith(value)


@given(st.binary(max_size=80))
def test_no_error_of_a_server_raises(body: bytes) -> None:
    assert all(len(letter) == 1 for letter in backend.decode_fields(body))


VALUE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(st.sampled_from("SVCMDHPpqWstcdnFLRX"), VALUE))
def test_every_field_survives_the_way_through(fields: dict[str, str]) -> None:
    data = backend.fields_message(ord("E"), fields)
    [(type_, body)] = Framer(BACKEND_LIMIT, "server").feed(data)
    assert (type_, backend.decode_fields(body)) == (ord("E"), fields)


def test_our_own_error_has_the_fields_that_drivers_look_for() -> None:
    data = backend.error_response(
        severity="FATAL", sqlstate="53300", message="full", detail="3 of 3", hint="wait"
    )
    expected = b"SFATAL\0VFATAL\0C53300\0Mfull\0D3 of 3\0Hwait\0\0"
    assert data == b"E" + (len(expected) + 4).to_bytes(4, "big") + expected


def test_our_own_notice_leaves_out_what_is_empty() -> None:
    data = backend.notice_response(sqlstate="00000", message="waiting")
    assert data[:1] == b"N"
    assert data[5:] == b"SNOTICE\0VNOTICE\0C00000\0Mwaiting\0\0"


def test_a_nul_in_our_own_words_ends_nothing() -> None:
    data = backend.error_response(sqlstate="XX000", message="a\0C00000\0b")
    assert backend.decode_fields(data[5:])["M"] == "aC00000b"
    assert backend.decode_fields(data[5:])["C"] == "XX000"


def test_names_that_are_not_utf_8_go_out_as_they_came_in() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert b"caf\xe9" in backend.error_response(sqlstate="28P01", message=f'user "{name}"')


@pytest.mark.parametrize(
    ("data", "type_", "body"),
    [
        (backend.authentication_ok(), "R", b"\0\0\0\0"),
        (backend.authentication_cleartext(), "R", b"\0\0\0\3"),
        (backend.authentication_md5(b"salt"), "R", b"\0\0\0\5salt"),
        (backend.authentication_sasl([b"A", b"B"]), "R", b"\0\0\0\x0aA\0B\0\0"),
        (backend.authentication_sasl_continue(b"r=x"), "R", b"\0\0\0\x0br=x"),
        (backend.authentication_sasl_final(b"v=x"), "R", b"\0\0\0\x0cv=x"),
        (backend.parameter_status("a", "b"), "S", b"a\0b\0"),
        (backend.backend_key_data(2**32 - 1, b"1234"), "K", b"\xff\xff\xff\xff1234"),
        (backend.ready_for_query(b"I"), "Z", b"I"),
    ],
)
def test_a_message_is_built_as_the_manual_has_it(data: bytes, type_: str, body: bytes) -> None:
    assert Framer(BACKEND_LIMIT, "server").feed(data) == [(ord(type_), body)]


@pytest.mark.parametrize("size", [4, 32, 256])
def test_a_cancel_key_of_any_version_is_read(size: int) -> None:
    secret = b"k" * size
    data = backend.backend_key_data(77, secret)
    assert backend.decode_key_data(data[5:]) == (77, secret)


@pytest.mark.parametrize("size", [0, 3, 4, 7, 261])
def test_a_cancel_key_that_is_too_short_or_too_long_is_refused(size: int) -> None:
    with pytest.raises(ProtocolViolation):
        backend.decode_key_data(bytes(size))


@pytest.mark.parametrize("count", [1, 2**31, 2**32 - 1])
def test_a_count_of_options_that_lies_is_found(count: int) -> None:
    with pytest.raises(ProtocolViolation):
        backend.decode_negotiate(b"\0\3\0\0" + count.to_bytes(4, "big"))


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xfe", b"\x80\0\0\0", b"\x7f\xff\xff\xff"])
def test_the_length_of_a_value_that_lies_is_found(length: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        backend.decode_row(b"\0\x01" + length + b"data")
