"""What the source of a function, or the body of a DO, may do to its session without a trace.

Most of what a function does can be looked for when it has returned (transparency T23). A setting
with a dot cannot, unless its name is known, nor can a seed. Laws: read is the source alone, word by
word; a name that is put together at run time hides what it is; an UPDATE is no SET.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_UPDATE: Final = re.compile(r"\bupdate\b[^;]*?\bset\b", re.IGNORECASE)
_NAME: Final = r"[a-z_][\w$]*(?:\.[a-z_][\w$]*)+"
_SET: Final = re.compile(
    rf"""\bset\s+(?:session\s+|local\s+)?(?P<name>"?{_NAME}"?|"[^"]+"(?:\."[^"]+")+)\s*(?:=|to\b)""",
    re.IGNORECASE,
)
_SET_CONFIG: Final = re.compile(r"\bset_config\s*\(\s*'{1,2}([^']*)'{1,2}\s*,", re.IGNORECASE)
_ANY_SET_CONFIG: Final = re.compile(r"\bset_config\s*\(", re.IGNORECASE)
_MADE_UP: Final = re.compile(
    r"""\bset\s+(?:session\s+|local\s+)?[\w."]*(?:%|'\s*\|\|)""", re.IGNORECASE
)
_SEED: Final = re.compile(r"\b(?:setseed|set\s+(?:session\s+)?seed)\b", re.IGNORECASE)
_OTHER: Final = re.compile(r"\bdblink_connect(?:_u)?\b|'\s*load\s+'", re.IGNORECASE)

CHANGING: Final = (
    r"\m(set_config|set|reset|listen|unlisten|prepare|deallocate|discard|declare|load|setseed|temp|"
    r"temporary|execute|nextval|setval|pg_(try_)?advisory_\w+)\M"
)
"""For Postgres's regular expressions, over a source in lower case: what may change the session in
a function that is marked STABLE or IMMUTABLE, where an UPDATE would be refused."""

TELLING: Final = r"\m(set_config|setseed|dblink_connect|seed|load)\M|\mset\M[^;]*[.%|]"
"""The same: sources of which `read` says anything."""


class Source(NamedTuple):
    """`dotted` are names of settings that it may make."""

    dotted: frozenset[str] = frozenset()
    seeds: bool = False
    hides: bool = False
    """It may make what nobody finds."""


NOTHING: Final = Source()


def read(text: str) -> Source:
    """Of the body of a function in SQL or PL/pgSQL."""
    text = _UPDATE.sub(" ", text)
    names = {found["name"].replace('"', "") for found in _SET.finditer(text)}
    configured = _SET_CONFIG.findall(text)
    names.update(name for name in configured if "." in name)
    hides = len(_ANY_SET_CONFIG.findall(text)) > len(configured) or bool(_MADE_UP.search(text))
    dotted = frozenset(name.lower() for name in names)
    return Source(dotted, bool(_SEED.search(text)), hides or bool(_OTHER.search(text)))
