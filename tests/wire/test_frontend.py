"""What a session sends: decoded as Postgres decodes it, built and read back."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgguard.errors import ProtocolViolation
from pgguard.wire import frontend
from pgguard.wire.codes import FRONTEND_LIMIT, PORTAL, STATEMENT
from pgguard.wire.scan import Framer

if TYPE_CHECKING:
    from collections.abc import Callable

BODIES: list[tuple[str, Callable[[bytes], Any], bytes, Any]] = [
    ("a query", frontend.query_text, b"select 1\0", b"select 1"),
    ("an empty query", frontend.query_text, b"\0", b""),
    ("a query in no known encoding", frontend.query_text, b"\xff\x81\0", b"\xff\x81"),
    ("unnamed parse", frontend.decode_parse, b"\0select 1\0\0\0", (b"", b"select 1", ())),
    (
        "parse with types",
        frontend.decode_parse,
        b"s1\0select $1\0\0\x02\0\0\0\x17\xff\xff\xff\xff",
        (b"s1", b"select $1", (23, 0xFFFFFFFF)),
    ),
    ("empty parse", frontend.decode_parse, b"\0\0\0\0", (b"", b"", ())),
    ("execute all", frontend.execute, b"\0\0\0\0\0", (b"", 0)),
    ("execute some", frontend.execute, b"p1\0\0\0\x01\0", (b"p1", 256)),
    ("execute less than none", frontend.execute, b"p1\0\xff\xff\xff\xff", (b"p1", -1)),
    ("describe a statement", frontend.describe_target, b"Ss1\0", (STATEMENT, b"s1")),
    ("describe a portal", frontend.describe_target, b"P\0", (PORTAL, b"")),
    ("close a statement", frontend.close_target, b"S\0", (STATEMENT, b"")),
    ("close a portal", frontend.close_target, b"Pp1\0", (PORTAL, b"p1")),
    ("bind nothing", frontend.decode_bind, bytes(8), (b"", b"", (), [], ())),
    (
        "bind a value, NULL and an empty value",
        frontend.decode_bind,
        b"p\0s\0\0\x01\0\x01\0\x03\0\0\0\x02hi\xff\xff\xff\xff\0\0\0\0\0\x02\0\x01\0\0",
        (b"p", b"s", (1,), [b"hi", None, b""], (1, 0)),
    ),
    ("a password", frontend.decode_password, b"secret\0", b"secret"),
    (
        "SASL with an initial response",
        frontend.decode_sasl_initial,
        b"SCRAM-SHA-256\0\0\0\0\x03n,,",
        (b"SCRAM-SHA-256", b"n,,"),
    ),
    ("SASL without one", frontend.decode_sasl_initial, b"X\0\xff\xff\xff\xff", (b"X", None)),
]
DECODERS = list({decoder.__name__: decoder for _, decoder, _, _ in BODIES}.values())


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
        assert caught.value.peer == "session"


@pytest.mark.parametrize(("title", "decode", "body", "expected"), BODIES)
@pytest.mark.parametrize("more", [b"\0", b"x", b"x\0", bytes(4)])
def test_bytes_behind_a_body_are_a_violation(
    title: str, decode: Callable[[bytes], Any], body: bytes, expected: Any, more: bytes
) -> None:
    with pytest.raises(ProtocolViolation):
        decode(body + more)


@pytest.mark.parametrize("decode", [*DECODERS, frontend.bind_names])
@given(body=st.binary(max_size=40))
def test_random_bodies_are_decoded_or_a_violation(
    decode: Callable[[bytes], Any], body: bytes
) -> None:
    with suppress(ProtocolViolation):
        decode(body)


def test_the_names_of_bind_are_found_without_the_rest() -> None:
    body = b"p1\0s1\0" + b"\xff" * 10
    assert frontend.bind_names(body) == (b"p1", b"s1")
    assert frontend.bind_names(body[:6]) == (b"p1", b"s1")
    for length in range(6):
        with pytest.raises(ProtocolViolation):
            frontend.bind_names(body[:length])


def test_text_behind_a_nul_is_refused() -> None:
    with pytest.raises(ProtocolViolation):
        frontend.query_text(b"select 1\0; drop table t\0")


@pytest.mark.parametrize(
    ("decode", "words"),
    [
        (frontend.describe_target, "invalid DESCRIBE message subtype 88"),
        (frontend.close_target, "invalid CLOSE message subtype 88"),
    ],
)
def test_a_target_of_no_kind_is_refused_in_the_servers_words(
    decode: Callable[[bytes], Any], words: str
) -> None:
    with pytest.raises(ProtocolViolation, match=words):
        decode(b"Xname\0")


def test_bind_wants_no_format_one_or_one_for_each_value() -> None:
    message = frontend.bind_message(b"", b"", [b"a", b"b", b"c"], formats=[0, 1])
    with pytest.raises(ProtocolViolation, match="2 parameter formats but 3 parameters"):
        frontend.decode_bind(message[5:])


def test_the_most_parameters_that_there_can_be_are_bound() -> None:
    values: list[bytes | None] = [None] * 65_535
    message = frontend.bind_message(b"", b"s", values)
    assert frontend.decode_bind(message[5:]) == (b"", b"s", (), values, ())


BUILT = [
    (frontend.query(b"select 1"), ord("Q"), b"select 1\0"),
    (frontend.flush(), ord("H"), b""),
    (frontend.sync(), ord("S"), b""),
    (frontend.terminate(), ord("X"), b""),
    (frontend.copy_data(b"\0\xff"), ord("d"), b"\0\xff"),
    (frontend.copy_done(), ord("c"), b""),
    (frontend.copy_fail(b"no more"), ord("f"), b"no more\0"),
    (frontend.sasl_response(b"c=biws"), ord("p"), b"c=biws"),
    (frontend.describe_message(STATEMENT, b"s1"), ord("D"), b"Ss1\0"),
    (frontend.close_message(PORTAL, b""), ord("C"), b"P\0"),
]


@pytest.mark.parametrize(("data", "type_", "body"), BUILT)
def test_a_message_is_built_as_the_manual_has_it(data: bytes, type_: int, body: bytes) -> None:
    assert Framer(FRONTEND_LIMIT, "session").feed(data) == [(type_, body)]


STRING = st.binary(max_size=20).map(lambda data: data.replace(b"\0", b""))


@given(STRING, STRING, st.lists(st.integers(0, 2**32 - 1), max_size=5), st.integers(0, 2**31 - 1))
def test_the_extended_protocol_is_read_back(
    name: bytes, text: bytes, oids: list[int], rows: int
) -> None:
    parse = frontend.parse_message(name, text, oids)
    assert frontend.decode_parse(parse[5:]) == (name, text, tuple(oids))
    assert frontend.execute(frontend.execute_message(name, rows)[5:]) == (name, rows)
    assert frontend.query_text(frontend.query(text)[5:]) == text
    assert frontend.decode_password(frontend.password(text)[5:]) == text
    sasl = frontend.sasl_initial(name, text)
    assert frontend.decode_sasl_initial(sasl[5:]) == (name, text)


@given(
    STRING,
    STRING,
    st.lists(st.none() | st.binary(max_size=20), max_size=5),
    st.lists(st.sampled_from([0, 1]), max_size=1),
    st.lists(st.sampled_from([0, 1]), max_size=4),
)
def test_bind_is_read_back(
    portal: bytes,
    statement: bytes,
    values: list[bytes | None],
    formats: list[int],
    results: list[int],
) -> None:
    body = frontend.bind_message(portal, statement, values, formats, results)[5:]
    assert frontend.bind_names(body) == (portal, statement)
    expected = (portal, statement, tuple(formats), values, tuple(results))
    assert frontend.decode_bind(body) == expected


def test_no_string_with_a_nul_is_built() -> None:
    for build in (frontend.query, frontend.password, frontend.copy_fail):
        with pytest.raises(ProtocolViolation):
            build(b"a\0b")
