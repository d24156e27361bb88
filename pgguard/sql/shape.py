"""A statement with its literals taken out: the key that all texts of one structure share.

Laws, held against Postgres's scanner by the tests: two texts that parse and have one shape have
one structure; a text with a NUL, a nested comment, an escape string, a Unicode-escaped
identifier or an unterminated token either gets its own rule here or has no shape; comments are
dropped but leave their mark; a number that touches a word is no literal; parameters stay. Shapes
hold only with standard_conforming_strings on and an encoding whose bytes of a character cannot
be mistaken for ASCII. `mask` errs on the side of hiding: no literal ever leaves.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final

LONGEST_MASK: Final = 4096
"""Bytes of a text that a report shows at most."""

_WORD: Final = rb"\w$\x80-\xff"

_PLAIN: Final = re.compile(
    rb"""
    ['"0-9]
    (?:
      (?<=') [^']* (?: '' [^']* )* (')
      # Quoted identifiers, and what stands between them, in one piece.
    | (?<=") ( [^"]*" (?: [^'"0-9]{0,12}" [^"]*" )* )
    | (?<=[^"'"""
    + _WORD
    + rb"""].)(?<=[0-9]) [0-9]* (?: \.[0-9]* )? (?: [eE][-+]?[0-9]+ )? (?! [."""
    + _WORD
    + rb"""] )
    )
    """,
    re.VERBOSE,
)
"""For texts without backslash, comment or dollar quote: strings, identifiers, numbers.

It begins with a byte set, or it would be tried at every byte. The groups keep a string's last
quote and a run of identifiers; a group that did not match becomes a NUL. So a string reads `'\\0`,
an identifier `\\0name"` and a number `\\0\\0`, and no two of them can be mistaken.
"""

_TOKEN: Final = re.compile(
    rb"""
      (?P<escape> [eE]' (?: [^'\\] | \\[\s\S] | '' )* ' )
    | (?P<string> ' [^']* (?: '' [^']* )* ' )
    | (?P<unicode> [uU]&" )
    | (?P<name> " [^"]* (?: "" [^"]* )* " )
    | (?P<dollar> \$ (?: \$ [\s\S]*? \$\$
        | (?P<tag> [A-Za-z_\x80-\xff] [A-Za-z0-9_\x80-\xff]* ) \$ [\s\S]*? \$(?P=tag)\$ ) )
    | (?P<parameter> \$ [0-9]+ )
    | (?P<line> -- [^\r\n]* )
    | (?P<block> /\* [^*/]* (?: (?: \*(?!/) | /(?!\*) ) [^*/]* )* \*/ )
    | (?P<word> [A-Za-z_\x80-\xff] ["""
    + _WORD
    + rb"""]* )
    | (?P<number> (?: [0-9] | \.[0-9] ) (?: [eE][-+][0-9] | [.\w] )* )
    | (?P<bad> ['"] | /\* | \$ )
    """,
    re.VERBOSE,
)
"""Every token that matters; words are swallowed whole, so that no digit of one is a number."""

_DOLLAR_TAG: Final = re.compile(rb"\$[$A-Za-z_\x80-\xff]")

_MARKS: Final = {
    "escape": b"\0e",
    "string": b"\0'",
    "dollar": b"\0$",
    "number": b"\0n",
    "line": b"\0-",
    "block": b"\0*",
}
_SHOWN: Final = {
    "escape": b"'?'",
    "string": b"'?'",
    "dollar": b"'?'",
    "number": b"?",
    "line": b"",
    "block": b" ",
}
_DECIMAL: Final = re.compile(rb"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z")
_HIDDEN: Final = b" '...'"


def shape(text: bytes) -> bytes | None:
    """The key of the text's structure, or None if it must stand for itself."""
    if b"\0" in text:
        return None
    if (
        b"\\" in text
        or b"--" in text
        or b"/*" in text
        or b'&"' in text
        or (b"$" in text and _DOLLAR_TAG.search(text))
    ):
        return _careful(text)
    parts = _PLAIN.split(b" " + text)
    plain = parts[0] if len(parts) == 1 else b"".join(parts[::3])
    if b"'" in plain or b'"' in plain:
        return None
    return b"".join([b"\0" if part is None else part for part in parts])


def _careful(text: bytes) -> bytes | None:
    """`shape` for texts with comments, escapes or dollar quotes."""
    out: list[bytes] = [b"\1"]
    at = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind == "tag":
            kind = "dollar"
        if kind in {"bad", "unicode"}:
            return None
        if kind == "number" and not _DECIMAL.match(match.group()):
            continue
        mark = _MARKS.get(kind)
        if mark is None:
            continue
        start, end = match.span()
        out.append(text[at:start])
        out.append(mark)
        at = end
    out.append(text[at:])
    return b"".join(out)


def fingerprint(key: bytes) -> str:
    """16 hexadecimal digits for a shape, the same in every run."""
    return blake2b(key, digest_size=8).hexdigest()


def mask(text: bytes, *, readable: bool = True) -> str:
    """The text for reports: literals hidden, comments dropped, cut at `LONGEST_MASK` bytes."""
    cut = len(text) > LONGEST_MASK
    text = text[:LONGEST_MASK]
    out: list[bytes] = []
    at = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        start, end = match.span()
        doubtful = kind in {"bad", "unicode"} or (
            not readable and kind in {"escape", "string", "dollar"}
        )
        if doubtful or (kind == "string" and b"\\'" in match.group()):
            out += [text[at:start], _HIDDEN]
            at, cut = len(text), False
            break
        shown = _SHOWN.get("dollar" if kind == "tag" else kind)
        if shown is not None:
            out += [text[at:start], shown]
            at = end
    out.append(text[at:])
    masked = b"".join(out).decode("utf-8", "replace").replace("\0", "")
    return masked.strip() + (" ..." if cut else "")
