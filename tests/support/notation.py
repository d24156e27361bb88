"""Messages as one line of text and back: `Query "begin"`, `DataRow "1" NULL`, `ReadyForQuery I`.

Laws: a line is made of a message's name and its fields; strings are bytes in double quotes with
Python's escapes, `"x"*70000` repeats one; whatever a line would not give back byte for byte is
written as `Message 0x51 "body"`. What is random (salts, SASL data, secrets) is left out.
"""

from __future__ import annotations

import re
from codecs import escape_decode

from pgguard.wire.scan import message

_TOKEN = re.compile(r'(?:[\w.]+=)?(?:"(?:[^"\\]|\\.)*"(?:\*\d+)?|[^\s"]+)')

FRONTEND = {
    "Query": ("Q", "z"),
    "Parse": ("P", "zzo"),
    "Bind": ("B", "zzB"),
    "Describe": ("D", "cz"),
    "Execute": ("E", "zi"),
    "Close": ("C", "cz"),
    "Flush": ("H", ""),
    "Sync": ("S", ""),
    "Terminate": ("X", ""),
    "CopyData": ("d", "b"),
    "CopyDone": ("c", ""),
    "CopyFail": ("f", "z"),
    "FunctionCall": ("F", "b"),
    "Password": ("p", "z"),
}
BACKEND = {
    "AuthenticationOk": ("R", "0"),
    "ParameterStatus": ("S", "zz"),
    "ReadyForQuery": ("Z", "c"),
    "RowDescription": ("T", "r"),
    "DataRow": ("D", "v"),
    "CommandComplete": ("C", "z"),
    "EmptyQueryResponse": ("I", ""),
    "ErrorResponse": ("E", "f"),
    "NoticeResponse": ("N", "f"),
    "NotificationResponse": ("A", "izz"),
    "ParseComplete": ("1", ""),
    "BindComplete": ("2", ""),
    "CloseComplete": ("3", ""),
    "NoData": ("n", ""),
    "ParameterDescription": ("t", "o"),
    "PortalSuspended": ("s", ""),
    "CopyInResponse": ("G", "b"),
    "CopyOutResponse": ("H", "b"),
    "CopyBothResponse": ("W", "b"),
    "CopyData": ("d", "b"),
    "CopyDone": ("c", ""),
    "FunctionCallResponse": ("V", "b"),
    "NegotiateProtocolVersion": ("v", "in"),
}
_RANDOM = {3: "Cleartext", 5: "MD5", 10: "SASL", 11: "SASLContinue", 12: "SASLFinal"}
_FIELDS = {"detail": b"D", "hint": b"H"}


def quoted(data: bytes) -> str:
    if len(data) > 100 and data == data[:1] * len(data):
        return f"{quoted(data[:1])}*{len(data)}"
    text = repr(data)[2:-1].replace('"', '\\"')
    return '"' + (text.replace("\\'", "'") if repr(data)[1] == "'" else text) + '"'


def unquoted(token: str) -> bytes:
    body, _, times = (
        token.rpartition('"*') if token.endswith(tuple("0123456789")) else (token, "", "")
    )
    text = body.strip('"') if times else token[1:-1]
    data, _ = escape_decode(text.encode())
    return bytes(data) * int(times or 1)


def tokens(line: str) -> list[str]:
    return _TOKEN.findall(line)


def encode(line: str, table: dict[str, tuple[str, str]]) -> bytes:
    """The bytes of a line; `Bytes "…"` stands for itself, in no message."""
    name, *fields = tokens(line)
    if name == "Bytes":
        return unquoted(fields[0])
    if name == "Message":
        return message(int(fields[0], 0), unquoted(fields[1]) if fields[1:] else b"")
    kind, shape = table[name]
    body = b""
    for letter in shape:
        body += _encode_field(letter, fields)
    assert not fields, f"too many fields: {line}"
    return message(ord(kind), body)


def _encode_field(letter: str, fields: list[str]) -> bytes:
    if letter == "0":
        return bytes(4)
    if letter == "z":
        return unquoted(fields.pop(0)) + b"\0"
    if letter == "i":
        return int(fields.pop(0)).to_bytes(4, "big")
    if letter == "c":
        return fields.pop(0).encode()
    if letter == "b":
        return unquoted(fields.pop(0)) if fields else b""
    rest, fields[:] = fields[:], []
    count = len(rest).to_bytes(2, "big")
    if letter == "o":
        return count + b"".join(int(oid).to_bytes(4, "big") for oid in rest)
    if letter == "r":
        return count + b"".join(unquoted(name) + bytes(19) for name in rest)
    if letter == "n":
        return len(rest).to_bytes(4, "big") + b"".join(unquoted(name) + b"\0" for name in rest)
    if letter == "f":
        return _encode_report(rest)
    values = b"".join(b"\xff" * 4 if v == "NULL" else _sized(unquoted(v)) for v in rest)
    return count + values if letter == "v" else b"\0\0" + count + values + b"\0\0"


def _sized(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _encode_report(fields: list[str]) -> bytes:
    """severity, SQLSTATE, message, then `detail=`, `hint=` or another letter."""
    severity, sqlstate, text, *more = fields
    pieces = [b"S" + severity.encode(), b"V" + severity.encode(), b"C" + sqlstate.encode()]
    pieces.append(b"M" + unquoted(text))
    for field in more:
        name, _, value = field.partition("=")
        pieces.append(_FIELDS.get(name, name.encode()) + unquoted(value))
    return b"\0".join([*pieces, b"", b""])


def decode(data: bytes, table: dict[str, tuple[str, str]]) -> str:
    """One whole message as a line."""
    body = data[5:]
    if table is BACKEND:
        if data[:1] == b"R" and (code := int.from_bytes(body[:4], "big")) in _RANDOM:
            return f"Authentication{_RANDOM[code]}"
        if data[:1] == b"K":
            return f"BackendKeyData {int.from_bytes(body[:4], 'big')}"
    for name, (kind, shape) in table.items():
        if kind == chr(data[0]):
            try:
                line = " ".join([name, *_decode_fields(shape, body)])
                if encode(line, table) == data:
                    return line
            except (ValueError, IndexError, KeyError, AssertionError):
                pass
    return f"Message {data[0]:#x} {quoted(body)}"


def _decode_fields(shape: str, body: bytes) -> list[str]:
    fields: list[str] = []
    for letter in shape:
        if letter == "z":
            text, _, body = body.partition(b"\0")
            fields.append(quoted(text))
        elif letter == "i":
            fields.append(str(int.from_bytes(body[:4], "big")))
            body = body[4:]
        elif letter == "c":
            fields.append(body[:1].decode())
            body = body[1:]
        elif letter == "b" and body:
            fields.append(quoted(body))
        elif letter == "o":
            fields += [
                str(int.from_bytes(body[at : at + 4], "big")) for at in range(2, len(body), 4)
            ]
        elif letter == "r":
            fields += [quoted(piece) for piece in body[2:].split(bytes(19))[:-1]]
        elif letter == "n":
            fields += [quoted(piece) for piece in body[4:].split(b"\0")[:-1]]
        elif letter == "f":
            fields += _decode_report(body)
        elif letter in "vB":
            fields += _decode_values(body[4 if letter == "B" else 2 :])
    return fields


def _decode_values(body: bytes) -> list[str]:
    values = []
    while len(body) > 3:
        size = int.from_bytes(body[:4], "big", signed=True)
        values.append("NULL" if size < 0 else quoted(body[4 : 4 + size]))
        body = body[4 + max(size, 0) :]
    return values


def _decode_report(body: bytes) -> list[str]:
    names = {letter: name for name, letter in _FIELDS.items()}
    severity, _, sqlstate, text, *more = body.rstrip(b"\0").split(b"\0")
    line = [severity[1:].decode(), sqlstate[1:].decode(), quoted(text[1:])]
    return line + [f"{names.get(p[:1], chr(p[0]))}={quoted(p[1:])}" for p in more]
