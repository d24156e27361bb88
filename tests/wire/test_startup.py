"""Packets without type byte: what Postgres accepts, what it refuses, and its words for it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgguard.errors import LoginRefused, ProtocolViolation
from pgguard.wire.backend import decode_negotiate
from pgguard.wire.codes import (
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    SSL_REQUEST,
)
from pgguard.wire.startup import (
    CancelRequest,
    GssRequest,
    SslRequest,
    StartupMessage,
    build_cancel,
    build_request,
    build_startup,
    decode_packet,
    negotiate,
    negotiation,
    split_options,
    unsupported_protocol,
    without_database,
)


def packet(code: int, body: bytes = b"") -> bytes:
    return (8 + len(body)).to_bytes(4, "big") + code.to_bytes(4, "big") + body


STARTUPS = [
    ("only a user", b"user\0me\0\0", {"user": "me"}),
    ("order kept", b"user\0me\0b\x002\0a\x001\0\0", {"user": "me", "b": "2", "a": "1"}),
    ("an empty value", b"user\0me\0database\0\0\0", {"user": "me", "database": ""}),
    ("the last of two counts", b"user\0a\0x\0y\0user\0b\0\0", {"user": "b", "x": "y"}),
    ("bytes that are not UTF-8", b"user\0m\xe9\0\0", {"user": "m\udce9"}),
    ("a protocol option", b"user\0me\0_pq_.x\0on\0\0", {"user": "me", "_pq_.x": "on"}),
]
REQUESTS = [
    (packet(SSL_REQUEST), SslRequest()),
    (packet(GSSENC_REQUEST), GssRequest()),
    (build_request(SSL_REQUEST), SslRequest()),
    (build_request(GSSENC_REQUEST), GssRequest()),
    (build_cancel(7, b"1234"), CancelRequest(7, b"1234")),
    (build_cancel(2**32 - 1, bytes(256)), CancelRequest(2**32 - 1, bytes(256))),
]


@pytest.mark.parametrize(("title", "body", "parameters"), STARTUPS)
def test_a_startup_message_is_read_as_the_server_reads_it(
    title: str, body: bytes, parameters: dict[str, str]
) -> None:
    found = decode_packet(packet(PROTOCOL_3_0, body))
    assert isinstance(found, StartupMessage)
    assert list(found.parameters.items()) == list(parameters.items())
    assert found.protocol == PROTOCOL_3_0


@pytest.mark.parametrize(("title", "body", "parameters"), STARTUPS)
def test_a_truncated_or_extended_startup_message_is_refused(
    title: str, body: bytes, parameters: dict[str, str]
) -> None:
    for length in range(len(body)):
        pairs = body[: max(length - 1, 0)]
        if pairs.endswith(b"\0") and pairs.count(b"\0") % 2 == 0:
            # Whole pairs and one byte, whichever: Postgres does not look at it.
            continue
        with pytest.raises((ProtocolViolation, LoginRefused)):
            decode_packet(packet(PROTOCOL_3_0, body[:length]))
    for more in (b"\0", b"x", b"\0\0", b"x\0"):
        with pytest.raises(ProtocolViolation, match="expected terminator as last byte"):
            decode_packet(packet(PROTOCOL_3_0, body + more))


@pytest.mark.parametrize("last", [b"\0", b"x", b"\xff"])
def test_any_last_byte_passes_for_the_terminator(last: bytes) -> None:
    found = decode_packet(packet(PROTOCOL_3_0, b"user\0me\0" + last))
    assert isinstance(found, StartupMessage)
    assert found.parameters == {"user": "me"}


@pytest.mark.parametrize(("data", "expected"), REQUESTS)
def test_requests_are_told_apart(data: bytes, expected: object) -> None:
    assert decode_packet(data) == expected


@pytest.mark.parametrize(("data", "expected"), REQUESTS)
def test_a_packet_must_be_as_long_as_it_says(data: bytes, expected: object) -> None:
    for cut in range(len(data)):
        with pytest.raises(ProtocolViolation):
            decode_packet(data[:cut])
    with pytest.raises(ProtocolViolation):
        decode_packet(data + b"\0")


def test_the_longest_packet_is_that_of_the_server() -> None:
    value = b"x" * (10_000 - len(b"....user\0\0\0"))
    longest = packet(PROTOCOL_3_0, b"user\0" + value + b"\0\0")
    assert len(longest) == 10_004
    assert isinstance(decode_packet(longest), StartupMessage)
    with pytest.raises(ProtocolViolation, match="invalid length of startup packet"):
        decode_packet(packet(PROTOCOL_3_0, b"user\0x" + value + b"\0\0"))


@pytest.mark.parametrize("code", [SSL_REQUEST, GSSENC_REQUEST])
def test_an_encryption_request_carries_nothing(code: int) -> None:
    with pytest.raises(ProtocolViolation, match="encryption request"):
        decode_packet(packet(code, b"x"))


@pytest.mark.parametrize("size", [0, 257])
def test_a_cancel_key_is_neither_missing_nor_too_long(size: int) -> None:
    with pytest.raises(ProtocolViolation, match="cancel request"):
        decode_packet(build_cancel(1, bytes(size)))


@pytest.mark.parametrize(
    "body", [b"", b"\0\0", b"user\0\0", b"user\0me\0", b"user\0me", b"\0me\0\0", b"a\0b\0\0c\0\0"]
)
def test_a_layout_that_the_server_refuses_is_refused_in_its_words(body: bytes) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        decode_packet(packet(PROTOCOL_3_0, body))
    assert caught.value.message == "invalid startup packet layout: expected terminator as last byte"


@pytest.mark.parametrize("body", [b"\0", b"database\0x\0\0", b"user\0\0\0"])
def test_a_missing_user_is_refused_in_the_servers_words(body: bytes) -> None:
    with pytest.raises(LoginRefused) as caught:
        decode_packet(packet(PROTOCOL_3_0, body))
    assert caught.value.sqlstate == "28000"
    assert caught.value.message == "no PostgreSQL user name specified in startup packet"


@pytest.mark.parametrize(
    ("code", "version"),
    [
        (0x0001_0000, "1.0"),
        (0x0002_0000, "2.0"),
        (0x0004_0001, "4.1"),
        (0, "0.0"),
        (0xFFFF_FFFF, "65535.65535"),
    ],
)
def test_other_major_versions_are_refused_in_the_servers_words(code: int, version: str) -> None:
    with pytest.raises(LoginRefused) as caught:
        decode_packet(packet(code, b"whatever"))
    assert caught.value.sqlstate == "0A000"
    assert caught.value.message == (
        f"unsupported frontend protocol {version}: server supports 3.0 to 3.2"
    )


def test_a_second_encryption_request_is_a_version_that_nobody_speaks() -> None:
    assert "1234.5679" in unsupported_protocol(SSL_REQUEST).message


@pytest.mark.parametrize(
    ("asked", "spoken"),
    [(0x0003_0000, 0x0003_0000), (0x0003_0001, 0x0003_0001), (0x0003_270F, 0x0003_0002)],
)
def test_any_3_x_is_taken_and_at_most_3_2_spoken(asked: int, spoken: int) -> None:
    found = decode_packet(build_startup(asked, {"user": "me"}))
    assert isinstance(found, StartupMessage)
    assert (found.protocol, found.spoken) == (asked, spoken)


@pytest.mark.parametrize(
    ("asked", "options", "answer"),
    [
        (PROTOCOL_3_0, [], None),
        (PROTOCOL_3_2, [], None),
        (0x0003_0003, [], (PROTOCOL_3_2, [])),
        (0x0003_270F, ["_pq_.test"], (PROTOCOL_3_2, ["_pq_.test"])),
        (PROTOCOL_3_0, ["_pq_.a", "_pq_.b"], (PROTOCOL_3_0, ["_pq_.a", "_pq_.b"])),
    ],
)
def test_what_is_not_known_is_negotiated_in_one_message(
    asked: int, options: list[str], answer: tuple[int, list[str]] | None
) -> None:
    parameters = {"user": "me", "search_path": "a"} | dict.fromkeys(options, "on")
    found = negotiation(StartupMessage(asked, parameters))
    if answer is None:
        assert found == b""
    else:
        assert found == negotiate(*answer)
        assert decode_negotiate(found[5:]) == answer


@pytest.mark.parametrize(
    "parameters", [{"": "x"}, {"a\0b": "x"}, {"a": "x\0"}, {"a": "x" * 10_000}]
)
def test_nothing_is_built_that_says_something_else(parameters: dict[str, str]) -> None:
    with pytest.raises(ProtocolViolation):
        build_startup(PROTOCOL_3_0, parameters)


@pytest.mark.parametrize(
    "value", ["database", "true", "T", "on", "1", "yes", "y", "false", "f", "off", "of", "0", "no"]
)
def test_values_of_replication_that_the_server_takes(value: str) -> None:
    parameters = {"user": "me", "replication": value}
    found = decode_packet(build_startup(PROTOCOL_3_0, parameters))
    assert found == StartupMessage(PROTOCOL_3_0, parameters)


@pytest.mark.parametrize(
    ("value", "so"),
    [
        *((value, True) for value in ("true", "T", "on", "ON", "1", "yes", "y", "tr")),
        *((value, False) for value in ("database", "false", "f", "off", "of", "0", "no")),
    ],
)
def test_a_physical_walsender_is_in_no_database(value: str, so: bool) -> None:
    assert without_database({"user": "me", "replication": value}) is so
    assert not without_database({"user": "me"})


@pytest.mark.parametrize("value", ["", "o", "Database", "2", "trues"])
def test_other_values_are_refused_in_its_words_before_anything_else(value: str) -> None:
    whole = build_startup(PROTOCOL_3_0, {"user": "me", "replication": value})
    cut = packet(PROTOCOL_3_0, whole[8:-1])
    for data in (whole, cut):
        with pytest.raises(LoginRefused) as caught:
            decode_packet(data)
        assert caught.value.sqlstate == "22023"
        assert caught.value.message == f'invalid value for parameter "replication": "{value}"'


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(TEXT.filter(lambda name: name not in ("", "replication")), TEXT, max_size=6))
def test_what_is_built_is_read_back(parameters: dict[str, str]) -> None:
    parameters["user"] = "me"
    found = decode_packet(build_startup(PROTOCOL_3_2, parameters))
    assert found == StartupMessage(PROTOCOL_3_2, parameters)


@given(st.binary(max_size=60))
def test_random_packets_are_decoded_or_refused(body: bytes) -> None:
    for data in (body, packet(PROTOCOL_3_0, body), packet(CANCEL_REQUEST, body)):
        with suppress(ProtocolViolation, LoginRefused):
            decode_packet(data)


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", []),
        ("  ", []),
        ("-c a=b", [("a", "b")]),
        ("-ca=b", [("a", "b")]),
        ("--a=b", [("a", "b")]),
        ("  -c  a=b\t--c.d=e\n", [("a", "b"), ("c.d", "e")]),
        ("--work-mem=1 -c search-path=x-y", [("work_mem", "1"), ("search_path", "x-y")]),
        ("-c a=", [("a", "")]),
        ("-c a=b=c", [("a", "b=c")]),
        ("-c a=b -c a=c", [("a", "b"), ("a", "c")]),
        (r"-c a=b\ c", [("a", "b c")]),
        (r"-c a=b\\c", [("a", r"b\c")]),
        (r"-c a=\-c\ x=y", [("a", "-c x=y")]),
        ("-c a=b\\", [("a", "b")]),
        ("-c client=café", [("client", "café")]),
        ("-B 16 -c a=b", [("a", "b")]),
        ("-B16 -c a=b", [("a", "b")]),
        ("-B -c a=b", []),
        ("-eS 100 -c a=b", [("a", "b")]),
        ("-Oca=b", [("a", "b")]),
        ("-c", []),
        ("-c a", []),
        ("-c =b", []),
        ("--a", []),
        ("-", []),
        ("word -c a=b", [("a", "b")]),
        ("cx=y -c a=b", [("a", "b")]),
        ("-- --a=b -c a=b", []),
    ],
)
def test_options_are_split_as_the_server_splits_them(
    text: str, settings: list[tuple[str, str]]
) -> None:
    assert split_options(text) == settings


@given(st.text(st.sampled_from("-cBe =\\ab\t"), max_size=30))
def test_no_options_can_break_the_split(text: str) -> None:
    for name, _ in split_options(text):
        assert name


NAME = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=8)


@given(st.lists(st.tuples(NAME, TEXT), max_size=5))
def test_escaped_options_come_out_as_they_went_in(settings: list[tuple[str, str]]) -> None:
    escaped = [
        f"-c {name}=" + "".join("\\" + c if c in " \t\n\v\f\r\\" else c for c in value)
        for name, value in settings
    ]
    assert split_options(" ".join(escaped)) == settings
