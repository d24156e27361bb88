"""The literals of a text by where they stand, for statements that are known by their shape.

Texts of one shape have their literals in the same order, so a literal's number among them says
where it is in any of these texts. Laws: pure; numbers and strings count, whatever their spelling;
what cannot be read as Postgres would is None.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from pgguard.sql import shape

_TOKEN: Final = re.compile(
    rb"""
      (?P<string> ' [^']* (?: '' [^']* )* ' )
    | (?P<bad> [eEbBxXnN]' | [uU]&['"] | \$ [A-Za-z_$\x80-\xff] | ' )
    | (?P<skipped> " [^"]* (?: "" [^"]* )* "
        | -- [^\r\n]*
        | /\* [^*/]* \*/
        | \$ [0-9]+
        | [A-Za-z_\x80-\xff] [A-Za-z0-9_$\x80-\xff]* )
    | (?P<open> /\* | " )
    | (?P<number> (?: [0-9]+ (?: \. [0-9]* )? | \. [0-9]+ ) (?: [eE] [-+]? [0-9]+ )? )
    """,
    re.VERBOSE | re.DOTALL,
)
_PREFIX: Final = re.compile(rb"(?:(?:^|[^A-Za-z0-9_$\x80-\xff])[eEbBxXnN]|&)\Z")
"""What stands before a quote that is not an ordinary string's."""
_OF_NUMBERS: Final = b"0123456789.eE+-"
_UNREAD: Final = frozenset({"bad", "open"})
"""Strings with a prefix, dollar quotes, comments in comments, what is not closed."""
_LONGEST: Final = 32 * 1024
_FOUND: Final = 2048
_MOST_FOUND: Final = 20
_STRING: Final = rb"'[^']*(?:''[^']*)*'"
_NUMBER: Final = rb"\.?[0-9][0-9.]*(?:[eE][-+]?[0-9]+)?"
"""Texts of one shape have strings where one of them has a string, and numbers likewise."""


def number_of(text: bytes, place: int) -> int:
    """The number, from 0, of the literal that begins at that byte, or with a sign there; -1 = it
    is not found."""
    for number, (start, _) in enumerate(_literals(text)):
        if start >= place:
            return number if not text[place:start].strip(b" \t\r\n+-") else -1
    return -1


def literal_at(text: bytes, number: int) -> str | None:
    """The value of the literal with that number, with its sign if it is a number."""
    found = _literals(text) if number >= 0 else []
    if number >= len(found):
        return None
    start, end = found[number]
    word = text[start:end].decode("utf-8", "replace")
    if word.startswith("'"):
        return word[1:-1].replace("''", "'")
    before = text[:start].rstrip(b" \t\r\n")
    signed = before.endswith(b"-") and not before[:-1].rstrip()[-1:].isalnum()
    return f"-{word}" if signed else word


@lru_cache(maxsize=1000)
def finder(text: bytes, number: int) -> re.Pattern[bytes] | None:
    """What matches texts of the same shape, and has the literal with that number for its only
    group; None if a text is too long for that, or its shape too odd."""
    pieces = _pieces(text, number)
    return re.compile(b"".join(pieces)) if pieces is not None else None


class Opening(NamedTuple):
    """How a text begins, up to a literal, and what that literal is."""

    start: int
    """The offset of the first literal."""
    steps: tuple[tuple[bool, bytes], ...]
    """Of each literal before it: whether it is a string, and what stands behind it."""
    last: bytes
    """The literal, and the byte behind it."""


@lru_cache(maxsize=1000)
def opening(text: bytes, number: int) -> Opening | None:
    """The way to the literal with that number if `finder` finds it, without regular expressions,
    of which a few bytes' worth costs more than all else that is done for a statement."""
    if finder(text, number) is None:
        return None
    found = _literals(text)
    steps: list[tuple[bool, bytes]] = []
    for (start, end), (after, _) in pairwise(found[: number + 1]):
        steps.append((text[start : start + 1] == b"'", text[end:after]))
    start, end = found[number]
    last = text[start : end + 1]
    ends = [between[:1] for is_string, between in steps if not is_string]
    if last[:1] != b"'":
        ends.append(text[end : end + 1])
    # Else one could not see where a number ends.
    plain = all(one and one not in _OF_NUMBERS for one in ends)
    return Opening(found[0][0], tuple(steps), last) if plain else None


def opens(chunk: bytes, at: int, way: Opening) -> bool:
    """Whether the text that begins at that offset, and has the shape of the text that `way` is
    from, has its literal, too. A doubled quote before it is not looked through: then it is no."""
    at += way.start
    for is_string, between in way.steps:
        at = chunk.find(b"'", at + 1) + 1 if is_string else chunk.find(between, at)
        if at < 1 or not chunk.startswith(between, at):
            return False
        at += len(between)
    return chunk.startswith(way.last, at)


@lru_cache(maxsize=1000)
def behind(text: bytes, number: int) -> tuple[bytes, bytes] | None:
    """The byte before the literal with that number, and all that follows it, if it is the last and
    `finder` finds it: a text of the same shape that ends so, with a literal in between, has that
    one for its last."""
    if finder(text, number) is None:
        return None
    found = _literals(text)
    start, end = found[number]
    return (text[start - 1 : start], text[end:]) if number == len(found) - 1 and start else None


def _pieces(text: bytes, number: int) -> list[bytes] | None:
    """Patterns of what stands between the literals, and of these, by turns."""
    found = _literals(text) if len(text) <= _FOUND and shape.is_plain(text) else []
    if not 0 <= number < len(found) <= _MOST_FOUND:
        return None
    pieces: list[bytes] = []
    at = 0
    for place, (start, end) in enumerate(found):
        before = text[at:start]
        if place == number and before.rstrip(b" \t\r\n")[-1:] in (b"-", b"+"):
            # Its value is more than the literal.
            return None
        kind = _STRING if text[start : start + 1] == b"'" else _NUMBER
        pieces += (re.escape(before), b"(%b)" % kind if place == number else kind)
        at = end
    return [*pieces, re.escape(text[at:])]


@lru_cache(maxsize=1)
def _literals(text: bytes) -> list[tuple[int, int]]:
    """Where they stand; none if the text cannot be read."""
    if len(text) > _LONGEST:
        return []
    return _plain(text) if shape.is_plain(text) else _careful(text)


def _plain(text: bytes) -> list[tuple[int, int]]:
    """The same for texts without escapes, comments and dollar quotes: of names, which are most of
    what ORMs quote, whole runs are passed over."""
    found: list[tuple[int, int]] = []
    quotes = 0
    for match in shape.PLAIN.finditer(b" " + text):
        kind = match.lastindex
        if kind == 2:
            quotes += match[2].count(b"'")
            continue
        start, end = match.start() - 1, match.end() - 1
        if kind == 1:
            if _PREFIX.search(text[max(0, start - 2) : start]):
                return []
            quotes += text.count(b"'", start, end)
        elif text[start - 1 : start] == b".":
            start -= 1
        found.append((start, end))
    # One that is left over opens a string that does not end.
    return found if quotes == text.count(b"'") else []


def _careful(text: bytes) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for match in _TOKEN.finditer(text):
        if match.lastgroup in _UNREAD:
            return []
        if match.lastgroup != "skipped":
            found.append(match.span())
    return found
