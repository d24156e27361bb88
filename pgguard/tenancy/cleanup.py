"""Statements that empty tables: how tests clean up, and how migrations begin.

Laws: a text counts only if all of it empties whole tables; a condition that may leave a row of
somebody behind makes it a statement like any other. It says nothing about the verdict.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

_NAME: Final = r'(?:"(?:[^"]|"")*"|[a-z_][\w$]*)'
_TABLE: Final = rf"{_NAME}(?:\s*\.\s*{_NAME})?(?:\s*\*)?"
_EMPTIES: Final = rf"""
    (?:
      \s* (?:
        truncate \s+ (?:table\s+)? (?:only\s+)? {_TABLE}
        (?: \s*,\s* (?:only\s+)? {_TABLE} )*
        (?: \s+ (?:restart|continue) \s+ identity )? (?: \s+ (?:cascade|restrict) )?
      | delete \s+ from \s+ (?:only\s+)? {_TABLE} (?: \s+ as \s+ {_NAME} )?
        (?: \s+ where \s+ \(? \s* (?: true | \?\s*=\s*\? ) \s* \)? )?
      | (?: begin | commit | start\s+transaction ) (?: \s+ (?:work|transaction) )?
      )
      \s* (?: ;\s* | \Z )
    )+ \Z
    """
_BEGINS: Final = ("truncate", "delete", "begin", "start", "commit")
_LONGEST: Final = 4096


def empties_tables(masked: str) -> bool:
    """Whether a text, with its literals masked, does nothing but empty whole tables."""
    if not masked[:16].lstrip().lower().startswith(_BEGINS) or len(masked) > _LONGEST:
        return False
    return _pattern().match(masked) is not None


@cache
def _pattern() -> re.Pattern[str]:
    return re.compile(_EMPTIES, re.VERBOSE | re.IGNORECASE)
