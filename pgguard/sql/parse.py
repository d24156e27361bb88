"""Postgres's own grammar: text to dictionaries. The only importer of pglast.

Laws: `parse_sql_json` is the only entry that gives a tree, since `parse_sql` kills the process on
deep input; nothing raises, what cannot be read is an `Unparsed` with its reason; pglast is
imported at the first use (35 ms). Locations in the trees are bytes of the UTF-8 text.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

LIMIT: Final = 16 * 1024 * 1024
"""Bytes of the largest text that is ever parsed (tenancy.max_statement)."""


_OPERATORS: Final = re.compile(r"(?<![~!@#^&|`?+*/%<>=-])[~!@#^&|`?+*/%<>=-]{512,}")
"""Runs that Postgres's scanner may read again and again."""

_STEPS: Final = 20_000_000
"""Characters that the scanner may look at in vain (some 35 ms)."""


_OURS: Final = ("stack depth", "memory", "out of memory")
"""How messages begin that tell of the parser's limits, not of the text."""


class Unparsed(NamedTuple):
    """Why a text has no tree."""

    reason: str
    rejected: bool = False
    """Postgres itself will reject it: a syntax error."""


def parse(text: str, limit: int = LIMIT) -> list[dict[str, Any]] | Unparsed:
    """Statements of a text, each `{"stmt": {NodeName: fields}, "stmt_location": n, …}`."""
    from pglast.parser import ParseError, parse_sql_json

    if len(text) > limit:
        return Unparsed("the text is too large")
    if "\0" in text:
        return Unparsed("the text holds a NUL")
    if _is_costly(text):
        return Unparsed("a run of operators is too long to be read")
    try:
        tree: dict[str, Any] = json.loads(parse_sql_json(text))
    except ParseError as error:
        reason = _first_line(error)
        return Unparsed(reason, not reason.startswith(_OURS))
    except RecursionError:
        return Unparsed("the text is nested too deeply")
    except (ValueError, MemoryError, SystemError) as error:
        return Unparsed(f"the text cannot be decoded ({type(error).__name__})")
    statements = tree.get("stmts", [])
    return [statement for statement in statements if statement.get("stmt")]


def load() -> None:
    """Import the grammar now: later no descriptor may be left for it."""
    import pglast.parser  # noqa: F401


def grammar() -> str:
    """The major version of Postgres whose grammar this is."""
    import pglast

    return str(pglast.get_postgresql_version()[0])


def _is_costly(text: str) -> bool:
    """Whether a run of signs or of comments in comments would hold the scanner up: of both it takes
    a few characters at a time, after it has read the whole run anew."""
    if "+" not in text and "/*" not in text:
        return False
    runs = _OPERATORS.findall(text)
    return sum(len(run) ** 2 for run in runs if "+" in run or "/*" in run) > _STEPS


def _first_line(error: Exception) -> str:
    """The parser's words without the piece of text that it quotes."""
    message = str(error.args[0]) if error.args else "syntax error"
    return message.partition(" at or near ")[0].partition("\n")[0][:120]
