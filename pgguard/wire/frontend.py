"""Frontend messages: decode what a session sends, build what we send to a server.

Laws: bodies without type byte and length; names and texts are bytes, as nobody here knows the
encoding; every decoder accepts exactly what Postgres accepts and raises ProtocolViolation for the
rest. `query_text`, `decode_parse`, `bind_names` and `execute` run for each statement.
"""

from __future__ import annotations

from struct import unpack_from
from typing import TYPE_CHECKING

from pgguard.errors import ProtocolViolation
from pgguard.wire.codes import (
    BIND,
    CLOSE,
    COPY_DATA,
    COPY_DONE,
    COPY_FAIL,
    DESCRIBE,
    EXECUTE,
    FLUSH,
    PARSE,
    PASSWORD,
    PORTAL,
    QUERY,
    STATEMENT,
    SYNC,
    TERMINATE,
)
from pgguard.wire.scan import Cursor, message

if TYPE_CHECKING:
    from collections.abc import Sequence

_PEER = "session"


def query_text(body: bytes) -> bytes:
    """The text of Query, without its NUL; text behind the NUL is refused."""
    if not body or body.find(0) != len(body) - 1:
        raise _invalid("Query is not one string")
    return body[:-1]


def decode_parse(body: bytes) -> tuple[bytes, bytes, tuple[int, ...]]:
    """(statement name, text, OIDs of parameter types)."""
    middle = body.find(0)
    end = body.find(0, middle + 1)
    if end < 0 or len(body) < end + 3:
        raise _invalid("Parse is too short")
    count = (body[end + 1] << 8) | body[end + 2]
    if len(body) != end + 3 + 4 * count:
        raise _invalid("Parse does not hold the parameter types that it announces")
    oids: tuple[int, ...] = unpack_from(f">{count}I", body, end + 3) if count else ()
    return body[:middle], body[middle + 1 : end], oids


def bind_names(body: bytes) -> tuple[bytes, bytes]:
    """(portal, statement name) of Bind; what follows is not looked at and need not be there."""
    middle = body.find(0)
    end = body.find(0, middle + 1)
    if end < 0:
        raise _invalid("Bind without names")
    return body[:middle], body[middle + 1 : end]


def execute(body: bytes) -> tuple[bytes, int]:
    """(portal, most rows to return; 0 or less for all)."""
    end = body.find(0)
    if end < 0 or len(body) != end + 5:
        raise _invalid("Execute is not a name and a number")
    return body[:end], int.from_bytes(body[end + 1 :], "big", signed=True)


def describe_target(body: bytes) -> tuple[int, bytes]:
    """(`codes.STATEMENT` or `codes.PORTAL`, name) of Describe."""
    return _target(body, "DESCRIBE")


def close_target(body: bytes) -> tuple[int, bytes]:
    """(`codes.STATEMENT` or `codes.PORTAL`, name) of Close."""
    return _target(body, "CLOSE")


def _target(body: bytes, what: str) -> tuple[int, bytes]:
    if len(body) < 2 or body.find(0, 1) != len(body) - 1:
        raise _invalid(f"{what} is not a kind and a name")
    kind = body[0]
    if kind not in (STATEMENT, PORTAL):
        raise ProtocolViolation(f"invalid {what} message subtype {kind}", peer=_PEER)
    return kind, body[1:-1]


def _invalid(what: str) -> ProtocolViolation:
    return ProtocolViolation(f"invalid message format: {what}", peer=_PEER)


def decode_bind(
    body: bytes,
) -> tuple[bytes, bytes, tuple[int, ...], list[bytes | None], tuple[int, ...]]:
    """(portal, statement name, parameter formats, parameter values, result formats), in full."""
    cursor = Cursor(body, _PEER)
    portal, statement = cursor.string(), cursor.string()
    formats = cursor.int16s()
    values = cursor.values()
    if len(formats) > 1 and len(formats) != len(values):
        raise ProtocolViolation(
            f"bind message has {len(formats)} parameter formats but {len(values)} parameters",
            peer=_PEER,
        )
    results = cursor.int16s()
    cursor.end()
    return portal, statement, formats, values, results


def decode_password(body: bytes) -> bytes:
    """The secret of PasswordMessage: clear text, or the answer to an MD5 request."""
    if not body or body.find(0) != len(body) - 1:
        raise ProtocolViolation("invalid password packet size", peer=_PEER)
    return body[:-1]


def decode_sasl_initial(body: bytes) -> tuple[bytes, bytes | None]:
    """(mechanism, initial response or None) of SASLInitialResponse."""
    if 0 not in body:
        raise ProtocolViolation("invalid string in message", peer=_PEER)
    cursor = Cursor(body, _PEER)
    mechanism, data = cursor.string(), cursor.value()
    cursor.end()
    return mechanism, data


def query(text: bytes) -> bytes:
    return message(QUERY, _string(text))


def parse_message(name: bytes, text: bytes, oids: Sequence[int] = ()) -> bytes:
    types = b"".join(oid.to_bytes(4, "big") for oid in oids)
    return message(PARSE, _string(name) + _string(text) + _int16(len(oids)) + types)


def bind_message(
    portal: bytes,
    statement: bytes,
    values: Sequence[bytes | None] = (),
    formats: Sequence[int] = (),
    results: Sequence[int] = (),
) -> bytes:
    """Bind; `formats` and `results` hold no, one or all format codes (0 text, 1 binary)."""
    pieces = [_string(portal), _string(statement), _int16s(formats), _int16(len(values))]
    for value in values:
        if value is None:
            pieces.append(b"\xff\xff\xff\xff")
        else:
            pieces += (len(value).to_bytes(4, "big"), value)
    pieces.append(_int16s(results))
    return message(BIND, b"".join(pieces))


def describe_message(kind: int, name: bytes) -> bytes:
    return message(DESCRIBE, bytes((kind,)) + _string(name))


def execute_message(portal: bytes, rows: int = 0) -> bytes:
    return message(EXECUTE, _string(portal) + rows.to_bytes(4, "big", signed=True))


def close_message(kind: int, name: bytes) -> bytes:
    return message(CLOSE, bytes((kind,)) + _string(name))


def flush() -> bytes:
    return message(FLUSH)


def sync() -> bytes:
    return message(SYNC)


def terminate() -> bytes:
    return message(TERMINATE)


def copy_data(data: bytes) -> bytes:
    return message(COPY_DATA, data)


def copy_done() -> bytes:
    return message(COPY_DONE)


def copy_fail(reason: bytes) -> bytes:
    return message(COPY_FAIL, _string(reason))


def password(secret: bytes) -> bytes:
    return message(PASSWORD, _string(secret))


def sasl_initial(mechanism: bytes, data: bytes) -> bytes:
    return message(PASSWORD, _string(mechanism) + len(data).to_bytes(4, "big") + data)


def sasl_response(data: bytes) -> bytes:
    return message(PASSWORD, data)


def _string(text: bytes) -> bytes:
    if 0 in text:
        raise _invalid("a string holds a NUL")
    return text + b"\0"


def _int16(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _int16s(numbers: Sequence[int]) -> bytes:
    return _int16(len(numbers)) + b"".join(map(_int16, numbers))
