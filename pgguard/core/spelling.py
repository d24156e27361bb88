"""What the bytes of a text mean: `client_encoding` and `standard_conforming_strings`.

A text that a session has sent is sent again for it later, perhaps to a server on which others have
changed either, or after it has changed them itself. Laws: a setting is made again where its text is
read as it was when Postgres carried it out; a prepared statement is, or it is refused, never made
as something else (transparency T18, T20).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

ENCODING: Final = "client_encoding"
STRINGS: Final = "standard_conforming_strings"
SETTINGS: Final = (ENCODING, STRINGS)

HURRYING: Final = ("statement_timeout", "transaction_timeout")
"""What would end texts of ours that are run behind it."""

_NO_ENCODING: Final = "SQL_ASCII"


class Spelling(NamedTuple):
    """How texts are read."""

    encoding: str
    strings: str


USUAL: Final = Spelling("UTF8", "on")


def of(parameters: Mapping[str, str]) -> Spelling:
    """As the server with these parameters reads them."""
    found = Spelling(parameters.get(ENCODING, "UTF8"), parameters.get(STRINGS, "on"))
    # One for all sessions that are as most are.
    return USUAL if found == USUAL else found


def is_plain(text: bytes) -> bool:
    """Whether it means the same however it is read."""
    return text.isascii() and b"\\" not in text


def is_kept(text: bytes, parameters: Mapping[str, str]) -> bool:
    """Whether what is read as usual there is what `neutral` makes of it."""
    encoding = parameters.get("server_encoding", "UTF8")
    return (
        text.isascii()
        or of(parameters).encoding != _NO_ENCODING
        or encoding in ("UTF8", _NO_ENCODING)
    )


def neutral(parameters: Mapping[str, str]) -> list[bytes]:
    """What makes a server read texts as those were read that are kept."""
    none = parameters.get("server_encoding") == _NO_ENCODING
    encoding = _NO_ENCODING if none else "UTF8"
    return [
        b"SET client_encoding = '%b'" % encoding.encode(),
        b"SET standard_conforming_strings = on",
    ]
