"""The texts that we run ourselves on a server: what makes it a session's, and what looks at it.

Laws: every name is qualified and every value quoted, whatever the session's search_path or
standard_conforming_strings; nothing of a startup packet gets here unquoted; the answers are never
passed on (core/replies).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pgguard.core import spelling
from pgguard.core.pins import Reason
from pgguard.wire import frontend

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgguard.core.tracked import Tracked

RESET: Final = (
    b"RESET ALL; CLOSE ALL; UNLISTEN *; SELECT pg_catalog.pg_advisory_unlock_all(); "
    b"DISCARD SEQUENCES; DISCARD TEMP; SET SESSION AUTHORIZATION DEFAULT"
)
"""What a server runs before another client gets it (T25). DISCARD ALL would take the prepared
statements with it, and is refused beside others."""

SEQUENCES: Final = b"DISCARD SEQUENCES"


def _spelled(query: bytes) -> bytes:
    """JSON as the hexadecimal digits of its UTF-8, or of what there is in a database without an
    encoding, whatever the session's encoding is."""
    return (
        b"pg_catalog.encode(pg_catalog.convert_to((" + query + b")::pg_catalog.text,"
        b" (CASE WHEN pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'SQL_ASCII'"
        b" THEN 'SQL_ASCII' ELSE 'UTF8' END)::pg_catalog.name), 'hex')"
    )


_CHECK: Final = (
    b"""SET LOCAL transaction_isolation = 'read committed';
SELECT pg_catalog.current_setting('statement_timeout');
SET LOCAL statement_timeout = 0;
SELECT
 (SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks
   WHERE locktype OPERATOR(pg_catalog.=) 'advisory'
     AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()),
 (SELECT pg_catalog.count(*) FROM pg_catalog.pg_listening_channels()),
 (SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_statements WHERE from_sql),
 (SELECT pg_catalog.count(*) FROM pg_catalog.pg_cursors WHERE is_holdable),
 (SELECT pg_catalog.count(*) FROM pg_catalog.pg_depend
   WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
     AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()),
 pg_catalog.current_setting('role'),
 CASE WHEN current_user OPERATOR(pg_catalog.=) session_user THEN '' ELSE 'role' END,
 (SELECT pg_catalog.string_agg(name, ' ') FROM pg_catalog.pg_settings
   WHERE source OPERATOR(pg_catalog.=) 'session' AND context OPERATOR(pg_catalog.<>) 'user'),
 """
    + _spelled(b"""SELECT pg_catalog.json_object_agg(pg_catalog.lower(name),
     CASE WHEN name OPERATOR(pg_catalog.=) 'statement_timeout' THEN reset_val ELSE setting END)
   FROM pg_catalog.pg_settings
   WHERE source OPERATOR(pg_catalog.=) 'session' AND context OPERATOR(pg_catalog.=) 'user'""")
    + b""",
 pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0::pg_catalog.oid,
 (SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_statements WHERE NOT from_sql),
 """
)
"""Two rows. statement_timeout, which ends no check: behind it, it counts as made in the session,
with the value that a reset would give it. Then: advisory locks, channels, SQL-level statements,
cursors WITH HOLD, temporary objects, the role, settings made in the session that it may not be
able to make again, those that it may with their values, whether there is a schema for temporary
objects (T23), statements prepared by the protocol; then `_DOTTED`."""

_DOTTED: Final = _spelled(
    b"SELECT pg_catalog.json_object_agg(n, pg_catalog.current_setting(n, true))"
    b" FROM pg_catalog.unnest(ARRAY[%b]::pg_catalog.text[]) AS u(n)"
    b" WHERE pg_catalog.current_setting(n, true) IS NOT NULL"
)
"""Of settings with a dot, which are in no view, those that were ever made here."""

TEMPORARY: Final = "pg_temp."
"""Stands among the settings with a dot for the schema of temporary objects: no reset removes it
either (T24)."""

SCHEMA: Final = (
    b"SET LOCAL search_path = pg_temp; "
    b"SELECT CASE WHEN pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMP')"
    b" THEN pg_catalog.current_schema() END"
)
"""A Query that leaves the schema of temporary objects behind and no more: it sets off no event
triggers, as DDL would, and may be done in a transaction that is read only. Where a function has
made temporary objects that the role may not, there is none."""

_PARAMETER: Final = re.compile(rb"\$([1-9][0-9]{0,4})\b")
_NOT_PLAIN: Final = (b"$$", b"\\", b'"', b"--", b"/*", b"\0")
"""Where one of these stands a text is not cut into constants and the rest so easily."""

COLUMNS: Final = (
    Reason.LOCK,
    Reason.LISTEN,
    Reason.PREPARE,
    Reason.HOLD,
    Reason.TEMPORARY,
    Reason.ROLE,
    Reason.ROLE,
)
"""What the first columns of a check are evidence of, unless they are 0, none, empty or NULL."""

CHECKED: Final = len(COLUMNS) + 5
"""Columns of the second row of a check."""

_UNITS: Final = {"": 1, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def milliseconds(shown: str) -> int | None:
    """A setting in milliseconds as SHOW has it; None if it is no such thing."""
    found = re.fullmatch("([0-9]+)([a-z]*)", shown)
    return int(found[1]) * _UNITS[found[2]] if found and found[2] in _UNITS else None


def literal(text: str) -> bytes:
    """A string constant that means the same whatever standard_conforming_strings is."""
    quoted = text.replace("'", "''")
    if "\\" in quoted:
        return b" E'" + quoted.replace("\\", "\\\\").encode("utf-8", "surrogateescape") + b"'"
    return b"'" + quoted.encode("utf-8", "surrogateescape") + b"'"


def name_application(name: str) -> bytes:
    """SET application_name (T8)."""
    return b"SET application_name = " + literal(name)


def reset(name: str) -> bytes:
    """RESET of one setting, by the parts of its name."""
    parts = (part.replace('"', '""') for part in name.split("."))
    return b"RESET " + ".".join(f'"{part}"' for part in parts).encode("utf-8", "surrogateescape")


def check(dotted: Iterable[str]) -> bytes:
    """What is left behind; `dotted` are settings that may be."""
    names = b",".join(map(literal, sorted(set(dotted) - {TEMPORARY})))
    return _CHECK + _DOTTED % names


def make(name: str, value: str) -> bytes:
    """A setting by its value."""
    return b"SELECT pg_catalog.set_config(%b, %b, false)" % (literal(name), literal(value))


def mark(name: str) -> bytes:
    """Leaves behind what a setting with a dot leaves that was made and undone (T24)."""
    return b"SELECT pg_catalog.set_config(" + literal(name) + b", '', true)"


def deallocate(name: bytes) -> bytes:
    """DEALLOCATE of a name of ours."""
    return b'DEALLOCATE "' + name.replace(b'"', b'""') + b'"'


def with_values(text: bytes, values: Sequence[bytes | None]) -> bytes | None:
    """A text with constants in the place of its parameters, so that it can be run again without
    them; None where that is not as simple as it looks."""
    if any(mark in text for mark in _NOT_PLAIN):
        return None
    pieces = text.split(b"'")
    # What stands between quotes, at odd places, is a constant; two quotes in a row change nothing.
    if len(pieces) % 2 == 0:
        return None

    def value(found: re.Match[bytes]) -> bytes:
        bound = values[int(found[1]) - 1]
        if bound is None:
            return b"NULL"
        return literal(bound.decode("utf-8", "surrogateescape"))

    try:
        pieces[::2] = [_PARAMETER.sub(value, piece) for piece in pieces[::2]]
    except IndexError:
        return None
    return b"'".join(pieces)


def exchange(
    tracked: Tracked,
    had: Mapping[str, bytes],
    parameters: Mapping[str, str],
    *,
    before: Sequence[bytes],
    behind: Sequence[bytes],
) -> list[list[bytes]]:
    """The Queries, each of several texts, that give a server the settings of a session for those
    that it `had`, between other texts: all of them as they are meant, and in no hurry. None where
    there is nothing to do. `parameters` are the server's."""
    resets, made = tracked.differences(dict(had))
    wanted = tracked.settings
    late = (*spelling.SETTINGS, *spelling.HURRYING)
    texts = [*before, *(reset(name) for name in resets if name not in late)]
    texts += (text for name, text in made.items() if name not in late)
    texts += behind
    changed = {name for name in late if name in resets or name in made}
    queries: list[list[bytes]] = []
    if not all(map(spelling.is_plain, (*texts, *made.values()))):
        queries.append(spelling.neutral(parameters))
        changed.update(spelling.SETTINGS)
    if texts:
        hurried = [name for name in spelling.HURRYING if name in had]
        texts[:0] = map(reset, hurried)
        changed.update(hurried)
    texts += (wanted.get(name) or reset(name) for name in late if name in changed)
    if texts:
        queries.append(texts)
    return queries


def query(texts: Iterable[bytes]) -> bytes:
    """One Query of several texts, each of which is one statement."""
    return frontend.query(b"; ".join(map(_alone, texts)))


def _alone(text: bytes) -> bytes:
    """The text so that another one may follow: behind a comment, on a line of its own."""
    text = text.rstrip(b"; \t\r\n")
    return text + b"\n" if b"--" in text else text
