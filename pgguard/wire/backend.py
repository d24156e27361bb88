"""Backend messages: build those that we originate, decode those that we look into.

Laws: a server is believed no more than a session: every inner length is checked, missing fields and
terminators are survived, anything else is ProtocolViolation with peer "server". Text is UTF-8 with
surrogateescape both ways: bytes in another encoding come out as they went in. Manual: "Message
Formats", "Error and Notice Message Fields".
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from pgguard.errors import ProtocolViolation
from pgguard.wire.codes import (
    AUTH_CLEARTEXT,
    AUTH_MD5,
    AUTH_OK,
    AUTH_SASL,
    AUTH_SASL_CONTINUE,
    AUTH_SASL_FINAL,
    AUTHENTICATION,
    BACKEND_KEY_DATA,
    ERROR_RESPONSE,
    MAX_CANCEL_KEY_LENGTH,
    NOTICE_RESPONSE,
    PARAMETER_STATUS,
    PROTOCOL_3_0,
    READY_FOR_QUERY,
)
from pgguard.wire.scan import Cursor
from pgguard.wire.scan import message as message

if TYPE_CHECKING:
    from collections.abc import Iterable

_PEER = "server"
_REST_OF_COLUMN = 18
"""Bytes behind a column's name: table, number, type, size, modifier, format."""


def _encode(text: str) -> bytes:
    return text.replace("\0", "").encode("utf-8", "surrogateescape")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _authentication(code: int, data: bytes = b"") -> bytes:
    return message(AUTHENTICATION, code.to_bytes(4, "big") + data)


_AUTHENTICATION_OK = _authentication(AUTH_OK)


def authentication_ok() -> bytes:
    return _AUTHENTICATION_OK


def authentication_cleartext() -> bytes:
    return _authentication(AUTH_CLEARTEXT)


def authentication_md5(salt: bytes) -> bytes:
    """`salt` has four bytes."""
    return _authentication(AUTH_MD5, salt)


def authentication_sasl(mechanisms: Iterable[bytes]) -> bytes:
    names = b"".join(name + b"\0" for name in mechanisms)
    return _authentication(AUTH_SASL, names + b"\0")


def authentication_sasl_continue(data: bytes) -> bytes:
    return _authentication(AUTH_SASL_CONTINUE, data)


def authentication_sasl_final(data: bytes) -> bytes:
    return _authentication(AUTH_SASL_FINAL, data)


def parameter_status(name: str, value: str) -> bytes:
    return message(PARAMETER_STATUS, _encode(name) + b"\0" + _encode(value) + b"\0")


def backend_key_data(pid: int, secret: bytes) -> bytes:
    """`secret` has four bytes in protocol 3.0, up to 256 in 3.2."""
    return message(BACKEND_KEY_DATA, pid.to_bytes(4, "big") + secret)


def ready_for_query(status: bytes) -> bytes:
    """`status` is b"I", b"T" or b"E"."""
    return message(READY_FOR_QUERY, status)


def error_response(
    *, severity: str = "ERROR", sqlstate: str, message: str, detail: str = "", hint: str = ""
) -> bytes:
    return _report(ERROR_RESPONSE, severity, sqlstate, message, detail, hint)


def notice_response(
    *, severity: str = "NOTICE", sqlstate: str, message: str, detail: str = "", hint: str = ""
) -> bytes:
    return _report(NOTICE_RESPONSE, severity, sqlstate, message, detail, hint)


def _report(type_: int, severity: str, sqlstate: str, text: str, detail: str, hint: str) -> bytes:
    fields = {"S": severity, "V": severity, "C": sqlstate, "M": text, "D": detail, "H": hint}
    return fields_message(type_, {letter: value for letter, value in fields.items() if value})


def fields_message(type_: int, fields: dict[str, str]) -> bytes:
    """ErrorResponse or NoticeResponse of any fields, as `decode_fields` gives them."""
    pieces = [letter.encode("latin-1") + _encode(value) for letter, value in fields.items()]
    return message(type_, b"\0".join([*pieces, b"", b""]))


def decode_fields(body: bytes) -> dict[str, str]:
    """The fields of ErrorResponse and NoticeResponse, letter → value; never raises.

    A server that leaves out fields or terminators is survived: what is there is returned.
    """
    end = body.find(b"\0\0")
    pieces = (body if end < 0 else body[:end]).split(b"\0")
    return {chr(piece[0]): _decode(piece[1:]) for piece in pieces if piece}


@lru_cache(64)
def decode_parameter_status(body: bytes) -> tuple[str, str]:
    """Name and value; remembered, as every login is told the same."""
    cursor = Cursor(body, _PEER)
    name, value = cursor.string(), cursor.string()
    cursor.end()
    return _decode(name), _decode(value)


def decode_key_data(body: bytes) -> tuple[int, bytes]:
    """(pid, secret of 4 to 256 bytes)."""
    if not 8 <= len(body) <= 4 + MAX_CANCEL_KEY_LENGTH:
        raise _invalid("BackendKeyData with a key that is not of 4 to 256 bytes")
    return int.from_bytes(body[:4], "big"), body[4:]


def decode_row(body: bytes) -> list[bytes | None]:
    """The values of DataRow, None for NULL."""
    cursor = Cursor(body, _PEER)
    values = cursor.values()
    cursor.end()
    return values


def decode_row_description(body: bytes) -> list[str]:
    """The names of the columns."""
    cursor = Cursor(body, _PEER)
    names: list[str] = []
    for _ in range(cursor.int16()):
        names.append(_decode(cursor.string()))
        cursor.take(_REST_OF_COLUMN)
    cursor.end()
    return names


def decode_notification(body: bytes) -> tuple[int, str, str]:
    """(pid, channel, payload)."""
    cursor = Cursor(body, _PEER)
    pid, channel, payload = cursor.uint32(), cursor.string(), cursor.string()
    cursor.end()
    return pid, _decode(channel), _decode(payload)


def decode_command_complete(body: bytes) -> bytes:
    """The tag, without its NUL."""
    if not body or body.find(0) != len(body) - 1:
        raise _invalid("CommandComplete is not one string")
    return body[:-1]


def decode_negotiate(body: bytes) -> tuple[int, list[str]]:
    """(newest protocol that the server speaks, protocol options that it does not know).

    The protocol is the whole number; a server that sends a bare minor version is understood.
    """
    cursor = Cursor(body, _PEER)
    protocol, count = cursor.uint32(), cursor.uint32()
    names = [_decode(cursor.string()) for _ in range(count)]
    cursor.end()
    return (protocol if protocol >> 16 else PROTOCOL_3_0 | protocol), names


def _invalid(what: str) -> ProtocolViolation:
    return ProtocolViolation(f"invalid message format: {what}", peer=_PEER)
