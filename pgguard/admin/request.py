"""The head of an HTTP request, decoded, and the answer, encoded. No I/O.

As much of RFC 9110 and RFC 9112 as reading a few pages takes. Laws: a head is decoded whole or
refused with a status and a sentence; nothing of it is ever echoed in an answer; a body has a length
or there is none; what could be read in two ways (two lengths, folded lines, Transfer-Encoding) is
refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http import HTTPStatus

HEAD_LIMIT = 16 * 1024
"""Bytes of request line and headers."""
HEADERS_LIMIT = 100
BODY_LIMIT = 64 * 1024

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"

METHODS = ("GET", "HEAD", "POST")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(r"/[!-~]*")
_VERSION = re.compile(r"HTTP/1\.[0-9]")


class BadRequest(Exception):
    """The request cannot be answered; the connection is closed after `status` and `message`."""

    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


@dataclass(slots=True)
class Request:
    method: str
    path: str
    """Without the query."""
    version: str
    headers: dict[str, str]
    """Names in lower case; a repeated header is joined by a comma."""
    length: int = 0
    """Bytes of the body."""

    @property
    def keep_alive(self) -> bool:
        said = self.headers.get("connection", "").lower()
        return "close" not in said and (self.version != "HTTP/1.0" or "keep-alive" in said)


@dataclass(slots=True)
class Answer:
    status: int
    body: bytes
    content_type: str = TEXT
    headers: dict[str, str] = field(default_factory=dict)


def text(status: int, message: str, **headers: str) -> Answer:
    """An answer of one line or several; `headers` are named with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, (message + "\n").encode("utf-8", "replace"), headers=named)


def decode_head(head: bytes) -> Request:
    """Decode everything up to the empty line. Raises BadRequest."""
    lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not _TOKEN.fullmatch(words[0]) or not words[2].startswith("HTTP/"):
        raise BadRequest(400, "this is not a HTTP request line")
    method, target, version = words
    if not _VERSION.fullmatch(version):
        raise BadRequest(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    if not _TARGET.fullmatch(target):
        raise BadRequest(400, "the request target must be a path")
    request = Request(method, target.partition("?")[0], version, _headers(lines[1:]))
    if version != "HTTP/1.0" and "host" not in request.headers:
        raise BadRequest(400, "the Host header is missing")
    request.length = _length(request.headers)
    return request


def _headers(lines: list[str]) -> dict[str, str]:
    if len(lines) > HEADERS_LIMIT:
        raise BadRequest(431, f"more than {HEADERS_LIMIT} headers")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        value = value.strip(" \t")
        if not colon or not _TOKEN.fullmatch(name) or not _is_field_value(value):
            raise BadRequest(400, "malformed header")
        name = name.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _is_field_value(value: str) -> bool:
    return all(character == "\t" or " " <= character != "\x7f" for character in value)


def _length(headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise BadRequest(501, "Transfer-Encoding is not supported: send Content-Length")
    if "expect" in headers:
        raise BadRequest(417, "Expect is not supported")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or len(length) > 18:
        raise BadRequest(400, "malformed Content-Length")
    if int(length) > BODY_LIMIT:
        raise BadRequest(413, f"the body may have {BODY_LIMIT} bytes")
    return int(length)


def encode(answer: Answer, *, keep_alive: bool, with_body: bool = True) -> bytes:
    """The answer as bytes; without its body for HEAD."""
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
        *(f"{name}: {value}" for name, value in answer.headers.items()),
    ]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
    return head + answer.body if with_body else head
