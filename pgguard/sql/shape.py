"""A statement with its literals taken out: the key that all texts of one structure share.

Laws, held against Postgres's scanner by the tests: two texts that parse and have one shape have
one structure; a text with a NUL, a nested comment, an escape string, a Unicode-escaped
identifier or an unterminated token either gets its own rule here or has no shape; comments are
dropped but leave their mark, and those with `remarks` stay; a number that touches a word is no
literal; parameters stay. Shapes hold only with standard_conforming_strings on and an encoding
whose bytes of a character cannot be mistaken for ASCII. `mask` errs on the side of hiding: no
literal ever leaves.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_MASK: Final = 4096
"""Bytes of a text that a report shows at most."""

_WORD: Final = rb"\w$\x80-\xff"

PLAIN: Final = re.compile(
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
    | (?P<open> [eE]' )
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
_REMARK: Final = re.compile(rb"pgguard:allow[ \t]+([\w.-]+)")
_DIGITS: Final = b"0123456789"
_DECIMAL: Final = re.compile(rb"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z")
_HIDDEN: Final = b" '...'"
_COMMENTS: Final = frozenset({"block", "line"})
_QUOTED: Final = frozenset({"bad", "dollar", "escape", "open", "string", "unicode"})
_DOUBTFUL: Final = frozenset({"bad", "open", "unicode"})
_LONGEST_SCAN: Final = 128 * 1024


def shape(text: bytes) -> bytes | None:
    """The key of the text's structure, or None if it must stand for itself."""
    if b"\0" in text:
        return None
    if not is_plain(text):
        return _careful(text)
    parts = PLAIN.split(b" " + text)
    plain = parts[0] if len(parts) == 1 else b"".join(parts[::3])
    if b"'" in plain or b'"' in plain:
        return None
    return b"".join([b"\0" if part is None else part for part in parts])


def is_plain(text: bytes) -> bool:
    """Whether it has no escape, comment or dollar quote, and no name in Unicode escapes."""
    return not (
        b"\\" in text
        or b"--" in text
        or b"/*" in text
        or b'&"' in text
        or (b"$" in text and _DOLLAR_TAG.search(text))
    )


def only_literals_vary(structure: bytes) -> bool:
    """Whether every digit of a text with this shape stands in a plain literal.

    Then other digits in the same places give the same shape: a digit is read as one of ten
    everywhere, but in prefixes such as `0x`, which stand next to a letter and are no plain number.
    """
    return not structure.startswith(b"\1") and structure == structure.translate(None, _DIGITS)


def _careful(text: bytes) -> bytes | None:
    """`shape` for texts with comments, escapes or dollar quotes."""
    out: list[bytes] = [b"\1"]
    at = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind in _DOUBTFUL:
            return None
        if kind == "number" and not _DECIMAL.match(match.group()):
            continue
        if kind in _COMMENTS and _REMARK.search(match.group()):
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


def parameters(text: bytes) -> Iterator[tuple[int, int, int]]:
    """Start, end and number of every `$n`."""
    for match in _TOKEN.finditer(text):
        if match.lastgroup == "parameter":
            yield match.start(), match.end(), int(match.group()[1:])


def comments(text: bytes) -> list[str]:
    """The comments, up to where the text becomes doubtful."""
    found = []
    for match in _TOKEN.finditer(text[:_LONGEST_SCAN]):
        kind = match.lastgroup or ""
        if kind in _DOUBTFUL or (kind in _QUOTED and not _is_plain(match)):
            break
        if kind in _COMMENTS:
            found.append(match.group().decode("utf-8", "replace"))
    return found


def remarks(text: bytes) -> frozenset[str]:
    """The words behind `pgguard:allow` in comments."""
    if b"pgguard:allow" not in text:
        return frozenset()
    found = (_REMARK.findall(comment.encode()) for comment in comments(text))
    return frozenset(word.decode("utf-8", "replace") for words in found for word in words)


def fingerprint(key: bytes) -> str:
    """16 hexadecimal digits for a shape, the same in every run."""
    return blake2b(key, digest_size=8).hexdigest()


def mask(text: bytes, *, readable: bool = True) -> str:
    """The text for reports: literals hidden, comments dropped, cut at `LONGEST_MASK` bytes.

    As soon as something is doubtful (an unterminated token, an escape that the server may read
    otherwise) everything from the first literal on is hidden.
    """
    out: list[bytes] = []
    at = 0
    safe: tuple[int, bytes] | None = None
    for match in _TOKEN.finditer(text[:_LONGEST_SCAN]):
        kind = match.lastgroup or ""
        start, end = match.span()
        if safe is None and kind in _QUOTED:
            safe = len(out), text[at:start]
        if kind in _DOUBTFUL or (kind in _QUOTED and not (readable and _is_plain(match))):
            kept, plain = safe or (len(out), text[at:start])
            out = [*out[:kept], plain, _HIDDEN]
            at = len(text)
            break
        shown = _SHOWN.get(kind)
        if shown is not None:
            out += [text[at:start], shown]
            at = end
    out.append(text[at:_LONGEST_SCAN])
    masked = b"".join(out)
    cut = len(masked) > LONGEST_MASK or len(text) > _LONGEST_SCAN
    shown_text = masked[:LONGEST_MASK].decode("utf-8", "replace").replace("\0", "").strip()
    return shown_text + (" ..." if cut else "")


def _is_plain(match: re.Match[bytes]) -> bool:
    """Whether a quoted literal surely ends where it seems to.

    A backslash may have hidden a quote from the server; a word that touches the end may be what
    one quote too many has turned inside out.
    """
    if match.lastgroup == "string" and b"\\'" in match.group():
        return False
    return not match.string[match.end() : match.end() + 1].isalnum()
