"""Packets without type byte: StartupMessage and the three requests; protocol versions.

Laws: packets are read and refused as by Postgres 18's ProcessStartupPacket, in its words, which
takes any last byte for the terminator; text is UTF-8 with surrogateescape, so that every byte
survives to the server. Manual: "Message Formats", "Start-up".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgguard.errors import LoginRefused, ProtocolViolation
from pgguard.wire.codes import (
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    MAX_CANCEL_KEY_LENGTH,
    MAX_STARTUP_PACKET_LENGTH,
    NEGOTIATE_PROTOCOL_VERSION,
    PROTOCOL_3_2,
    SSL_REQUEST,
)
from pgguard.wire.scan import message

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NAME_BYTES = 63
_OPTION_PREFIX = "_pq_."
_SWITCHES_WITH_ARGUMENT = frozenset("BCcDdfhkNprStvW-")
_SPACE = " \t\n\v\f\r"


@dataclass(slots=True)
class StartupMessage:
    """`parameters` in the order sent; of a name that comes twice the last value counts."""

    protocol: int
    parameters: dict[str, str]

    @property
    def unknown_options(self) -> list[str]:
        """The protocol options asked for; we know none, as Postgres 18."""
        return [name for name in self.parameters if name.startswith(_OPTION_PREFIX)]

    @property
    def spoken(self) -> int:
        """The protocol that is spoken from here on: what was asked for, at most 3.2."""
        return min(self.protocol, PROTOCOL_3_2)


@dataclass(slots=True)
class CancelRequest:
    pid: int
    secret: bytes


@dataclass(slots=True)
class SslRequest:
    pass


@dataclass(slots=True)
class GssRequest:
    pass


def decode_packet(packet: bytes) -> StartupMessage | CancelRequest | SslRequest | GssRequest:
    """Decode one packet, its length word included.

    Raises ProtocolViolation for what is malformed and LoginRefused (0A000, 28000) for a version
    that is not spoken here or a missing user.
    """
    length = len(packet)
    if not 8 <= length <= MAX_STARTUP_PACKET_LENGTH + 4 or length != _word(packet, 0):
        raise ProtocolViolation("invalid length of startup packet")
    code = _word(packet, 4)
    if code == CANCEL_REQUEST:
        if not 12 < length <= 12 + MAX_CANCEL_KEY_LENGTH:
            raise ProtocolViolation("invalid length of cancel request packet")
        return CancelRequest(_word(packet, 8), packet[12:])
    if code in (SSL_REQUEST, GSSENC_REQUEST):
        if length != 8:
            raise ProtocolViolation("invalid length of encryption request packet")
        return SslRequest() if code == SSL_REQUEST else GssRequest()
    if code >> 16 != 3:
        raise unsupported_protocol(code)
    parameters = _decode_parameters(packet)
    if not parameters.get("user"):
        raise LoginRefused("no PostgreSQL user name specified in startup packet", sqlstate="28000")
    return StartupMessage(code, parameters)


def unsupported_protocol(code: int) -> LoginRefused:
    """Postgres's answer to a version, or to a second SSLRequest, that it does not speak."""
    return LoginRefused(
        f"unsupported frontend protocol {code >> 16}.{code & 0xFFFF}: server supports 3.0 to 3.2",
        sqlstate="0A000",
    )


def _word(packet: bytes, position: int) -> int:
    return int.from_bytes(packet[position : position + 4], "big")


def _decode_parameters(packet: bytes) -> dict[str, str]:
    """Names and values in turn, each ended by a NUL, and one more byte.

    Read in the order in which Postgres reads them, which decides what is complained of first.
    """
    parameters: dict[str, str] = {}
    end = len(packet)
    place = 8
    while place < end and packet[place]:
        middle = packet.find(b"\0", place)
        if middle < 0 or middle + 1 >= end:
            break
        stop = packet.find(b"\0", middle + 1)
        if stop < 0:
            stop = end
        name, value = _decode(packet[place:middle]), _decode(packet[middle + 1 : stop])
        if name == "replication":
            _check_replication(value)
        parameters[name] = value
        place = stop + 1
    if place != end - 1:
        raise ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
    return parameters


def _check_replication(value: str) -> None:
    """`database`, or what Postgres's parse_bool takes. Raises LoginRefused."""
    text = value.lower()
    known = text in ("1", "0", "on") or any(
        len(text) >= least and word.startswith(text)
        for word, least in (("true", 1), ("false", 1), ("yes", 1), ("no", 1), ("off", 2))
    )
    if value != "database" and not known:
        raise LoginRefused(
            f'invalid value for parameter "replication": "{value}"',
            sqlstate="22023",
            hint='Valid values are: "false", 0, "true", 1, "database".',
        )


def without_database(parameters: Mapping[str, str]) -> bool:
    """Whether a session is to be a physical walsender, which is connected to no database, whatever
    its startup packet names. The value must be one that `decode_packet` takes."""
    value = parameters.get("replication", "")
    return value != "database" and (value.lower() == "on" or value[:1] in tuple("1tTyY"))


def is_replication(parameters: Mapping[str, str]) -> bool:
    """Whether the session is to be a walsender, physical or logical."""
    return parameters.get("replication") == "database" or without_database(parameters)


def build_startup(protocol: int, parameters: Mapping[str, str]) -> bytes:
    """A StartupMessage. Raises ProtocolViolation for what cannot be said: a NUL, an empty name, a
    packet that is too long."""
    pieces = [protocol.to_bytes(4, "big")]
    for name, value in parameters.items():
        if not name or "\0" in name or "\0" in value:
            raise ProtocolViolation("a start-up parameter is empty or holds a NUL")
        pieces += (_encode(name), b"\0", _encode(value), b"\0")
    pieces.append(b"\0")
    return _packet(b"".join(pieces))


def build_cancel(pid: int, secret: bytes) -> bytes:
    """A CancelRequest; `secret` has 4 bytes in protocol 3.0 and up to 256 in 3.2."""
    return _packet(CANCEL_REQUEST.to_bytes(4, "big") + pid.to_bytes(4, "big") + secret)


def build_request(code: int) -> bytes:
    """SSLRequest or GSSENCRequest."""
    return _packet(code.to_bytes(4, "big"))


def _packet(body: bytes) -> bytes:
    if len(body) > MAX_STARTUP_PACKET_LENGTH:
        raise ProtocolViolation("the start-up packet would be too long")
    return (len(body) + 4).to_bytes(4, "big") + body


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def negotiate(newest_minor_protocol: int, unknown: Iterable[str]) -> bytes:
    """NegotiateProtocolVersion.

    The manual speaks of a minor version, Postgres sends the whole number (0x00030002) and libpq
    expects it: so do we.
    """
    names = [_encode(name) + b"\0" for name in unknown]
    body = newest_minor_protocol.to_bytes(4, "big") + len(names).to_bytes(4, "big")
    return message(NEGOTIATE_PROTOCOL_VERSION, body + b"".join(names))


def negotiation(startup: StartupMessage) -> bytes:
    """The one NegotiateProtocolVersion that a StartupMessage needs, or nothing."""
    unknown = startup.unknown_options
    if startup.protocol <= PROTOCOL_3_2 and not unknown:
        return b""
    return negotiate(startup.spoken, unknown)


def truncated(name: str) -> str:
    """A user or database as Postgres takes it: the first 63 bytes (NAMEDATALEN - 1)."""
    if len(name) <= NAME_BYTES // 4:
        return name
    return _decode(_encode(name)[:NAME_BYTES])


def split_options(text: str) -> list[tuple[str, str]]:
    """The settings in the start-up parameter `options`, in order: `-c a=b`, `-ca=b`, `--a=b`.

    Words are split and unescaped as by pg_split_opts, dashes in names become underscores as in
    ParseLongOption. Other switches are passed over, and so is what the server will refuse.
    """
    settings: list[tuple[str, str]] = []
    words = iter(_split_words(text))
    for word in words:
        if word == "--":
            break
        if not word.startswith("-"):
            continue
        for position, switch in enumerate(word[1:], 2):
            if switch in _SWITCHES_WITH_ARGUMENT:
                argument = word[position:] or next(words, "")
                name, equals, value = argument.partition("=")
                if switch in "c-" and name and equals:
                    settings.append((name.replace("-", "_"), value))
                break
    return settings


def _split_words(text: str) -> list[str]:
    words: list[str] = []
    word: str | None = None
    escaped = False
    for character in text:
        if escaped:
            word, escaped = (word or "") + character, False
        elif character == "\\":
            word, escaped = word or "", True
        elif character in _SPACE:
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + character
    if word is not None:
        words.append(word)
    return words
