"""Heads are decoded whole or refused, and answers are well formed."""

from __future__ import annotations

import pytest

from pgguard.admin.request import (
    BODY_LIMIT,
    HEADERS_LIMIT,
    Answer,
    BadRequest,
    decode_head,
    encode,
    text,
)

GOOD = b"GET /metrics?x=1 HTTP/1.1\r\nHost: localhost\r\nAccept: a\r\naccept: b\r\n\r\n"


def test_a_head_is_decoded():
    request = decode_head(GOOD)
    assert (request.method, request.path, request.version) == ("GET", "/metrics", "HTTP/1.1")
    assert request.headers == {"host": "localhost", "accept": "a, b"}
    assert request.length == 0
    assert request.keep_alive


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET metrics HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\n", 505),
        (b"GET / POSTGRES\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: \xb2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", 417),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (BODY_LIMIT + 1), 413),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * HEADERS_LIMIT + b"\r\n", 431),
    ],
)
def test_what_cannot_be_understood_in_one_way_is_refused(head, status):
    with pytest.raises(BadRequest) as caught:
        decode_head(head)
    assert caught.value.status == status


def test_every_prefix_and_every_damaged_byte_gives_a_request_or_a_refusal():
    damaged = [
        GOOD[:at] + bytes([value]) + GOOD[at + 1 :]
        for at in range(len(GOOD))
        for value in (0, 10, 13, 32, 58, 127, 255)
    ]
    refused = 0
    for head in [GOOD[:at] for at in range(len(GOOD))] + damaged:
        try:
            decode_head(head)
        except BadRequest:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: close\r\n", False),
        ("1.1", "Connection: Upgrade, Close\r\n", False),
        ("1.0", "", False),
        ("1.0", "Connection: Keep-Alive\r\n", True),
    ],
)
def test_a_connection_is_kept_as_the_version_says(version, connection, kept):
    head = f"GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n"
    assert decode_head(head.encode()).keep_alive is kept


def test_the_largest_body_is_taken():
    head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_LIMIT}\r\n\r\n"
    assert decode_head(head.encode()).length == BODY_LIMIT


def test_an_answer_is_encoded():
    answer = text(405, "no", Allow="GET")
    assert encode(answer, keep_alive=False) == (
        b"HTTP/1.1 405 Method Not Allowed\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 3\r\n"
        b"Cache-Control: no-store\r\n"
        b"X-Content-Type-Options: nosniff\r\n"
        b"Connection: close\r\n"
        b"Allow: GET\r\n"
        b"\r\n"
        b"no\n"
    )


def test_without_body_the_length_stays():
    encoded = encode(Answer(200, b"body"), keep_alive=True, with_body=False)
    assert b"Content-Length: 4\r\n" in encoded
    assert encoded.endswith(b"\r\n\r\n")


def test_a_lone_surrogate_in_an_answer_is_replaced():
    assert text(503, "caf\udce9").body == b"caf?\n"
