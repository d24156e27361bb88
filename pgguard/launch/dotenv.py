"""Reads `.env` files as the common loaders do; never writes one.

Understood: comments, `export NAME=…`, bare values (a comment begins at ` #`), 'single', "double"
and `back` quotes over several lines, escapes in double quotes, `${NAME}` there and in bare values.
Laws: what is no assignment is passed over, as loaders do; the last assignment of a name wins.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_ASSIGNMENT = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][\w.-]*)[ \t]*=[ \t]*
    (?: '(?P<single>[^']*)'
      | "(?P<double>(?:[^"\\]|\\.)*)"
      | `(?P<back>[^`]*)`
      | (?P<bare>[^\r\n]*?)
    )[ \t]*(?:(?:(?<=[\s'"`=])\#)[^\r\n]*)?\r?$""",
    re.MULTILINE | re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
_REFERENCE = re.compile(r"(?<!\\)\$\{([A-Za-z_]\w*)\}")


class Line(NamedTuple):
    value: str
    number: int
    """Line of the file, from 1."""


def read_dotenv(path: Path, env: Mapping[str, str]) -> dict[str, Line]:
    """Assignments of a file by name; empty when there is no readable file.

    References are looked up in `env` first, as loaders do that do not override.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError:
        return {}
    found: dict[str, Line] = {}
    for match in _ASSIGNMENT.finditer(text):
        number = text.count("\n", 0, match.start("name")) + 1
        found[match["name"]] = Line(_value(match, env, found), number)
    return found


def _value(match: re.Match[str], env: Mapping[str, str], earlier: Mapping[str, Line]) -> str:
    for name in ("single", "back"):
        if match[name] is not None:
            return match[name]

    def referenced(reference: re.Match[str]) -> str:
        name = reference[1]
        if name in env:
            return env[name]
        return earlier[name].value if name in earlier else ""

    quoted = match["double"]
    if quoted is None:
        return _REFERENCE.sub(referenced, match["bare"])
    expanded = _REFERENCE.sub(referenced, quoted)
    return _ESCAPE.sub(lambda escape: _ESCAPES.get(escape[1], escape[1]), expanded)
