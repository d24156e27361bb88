"""A script taken apart into its statements, as psql does it.

    text ──► pieces: statements with the comments before them, and psql's own commands

Laws: nothing of a script is lost: every character that is no white space, comment or `;` between
statements is in one piece; offsets are characters; what is never closed ends at the first line that
ends with `;`, so that one mistake costs one statement; the data behind COPY … FROM STDIN, up to its
`\\.`, is no statement.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Piece(NamedTuple):
    """A statement; `start` is where its text begins, `first` where its first word does."""

    text: str
    start: int
    first: int
    command: bool = False
    """It is a command of psql."""


_TOKEN: Final = re.compile(
    r"""
      (?P<space> \s+ )
    | (?P<line> --[^\r\n]* )
    | (?P<block> /\* )
    | (?P<quoted> [eE]' (?: [^'\\] | \\[\s\S] | '' )* ' | ' [^']* ' | " [^"]* "
        | \$ (?P<tag> (?: [A-Za-z_\x80-\U0010ffff] \w* )? ) \$ [\s\S]*? \$(?P=tag)\$ )
    | (?P<unclosed> (?: ['"] | [eE]' | \$\w*\$ ) [\s\S]* )
    | (?P<word> [\w$]+ )
    | (?P<end> ; )
    | (?P<back> \\ [^\r\n]* )
    | (?P<open> \( )
    | (?P<close> \) )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_LINE_END: Final = re.compile(r";[ \t]*(?:--[^\r\n]*)?$", re.MULTILINE)
_NESTED: Final = re.compile(r"/\*|\*/")
_REST_OF_LINE: Final = re.compile(
    r"[ \t]*(?:--[^\r\n]*|/\*(?:[^*]|\*(?!/))*?\*/[ \t]*(?=[\r\n]|\Z))"
)
_COPIES: Final = re.compile(r"copy\b.*\bfrom\s+stdin\b", re.IGNORECASE | re.DOTALL)
_DATA_ENDS: Final = re.compile(r"^\\\.[ \t]*\r?$", re.MULTILINE)


def split(script: str) -> Iterator[Piece]:
    """The statements of a script, in order."""
    at = 0
    while at < len(script):
        piece, at = _next(script, at)
        if piece is None:
            continue
        yield piece
        if _COPIES.match(script, piece.first) and (end := _DATA_ENDS.search(script, at)):
            at = end.end()


def _next(script: str, start: int) -> tuple[Piece | None, int]:
    """The piece that begins at `start`, if there is one before the next `;`, and what follows."""
    at, first = start, -1
    depth = blocks = 0
    """Of parentheses; of BEGIN ATOMIC and what else END closes in it."""
    before = ""
    closed = True
    while at < len(script):
        match = _TOKEN.match(script, at)
        assert match is not None
        kind, at = match.lastgroup or "", match.end()
        if kind in {"space", "line"}:
            continue
        if kind == "block":
            at, closed = _behind_comment(script, at)
            continue
        if kind == "end" and depth <= 0 and not blocks:
            at = _with_rest(script, at)
            return (Piece(script[start:at], start, first) if first >= 0 else None), at
        if kind == "back":
            if first < 0:
                return Piece(match.group(), match.start(), match.start(), command=True), at
            return Piece(script[start : match.start()], start, first), at
        if first < 0:
            first = match.start()
        depth += {"open": 1, "close": -1}.get(kind, 0)
        if kind == "word":
            word = match.group().lower()
            blocks += _opens(word, before, blocks)
            before = word
        closed = closed and kind != "unclosed"
    if first >= 0 and not (closed and depth <= 0 and not blocks):
        line_end = _LINE_END.search(script, first)
        at = line_end.end() if line_end else at
    return (Piece(script[start:at], start, first) if first >= 0 else None), at


def _opens(word: str, before: str, blocks: int) -> int:
    """How many more blocks of a function's SQL body are open behind the word."""
    if word == "atomic" and before == "begin":
        return 1
    if blocks and word == "case":
        return 1
    return -1 if blocks and word == "end" else 0


def _behind_comment(script: str, at: int) -> tuple[int, bool]:
    """Where a comment that has begun is over, and whether it is closed."""
    depth = 1
    while depth:
        mark = _NESTED.search(script, at)
        if mark is None:
            return len(script), False
        depth += 1 if mark.group() == "/*" else -1
        at = mark.end()
    return at, True


def _with_rest(script: str, at: int) -> int:
    """Behind comments that stand on the line of the `;`: they are about what it ends."""
    rest = _REST_OF_LINE.match(script, at)
    return rest.end() if rest else at
