"""The frame of a driver's probe: a process that runs features and prints what it observed.

Laws: a probe knows nothing of the guard: it gets one URL (environment variable `PROBE_URL`) and
the names of features (arguments), and prints one JSON line per feature, either `outcome`, all
that an application could observe, or `absent`, why the driver does not offer it. Outcomes hold
nothing that two direct runs would not repeat: no pids, ports, times or table OIDs. A probe makes
what it needs and may run twice on one database.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from tests.conformance.harness import Address

FEATURES = (
    "login",
    "simple",
    "extended",
    "prepared reuse",
    "pipelining",
    "COPY",
    "cancel",
    "LISTEN/NOTIFY",
    "cursors",
    "errors",
    "100 MB values",
)

VALUES = (
    "SELECT 1 AS one, 'ü€𝄞' AS text, NULL AS nothing, ARRAY[1, NULL, 3] AS list, "
    "1.50::numeric AS exact, date '2024-02-29' AS day, true AS yes, '\\x00ff'::bytea AS raw, "
    "'{\"a\": [1]}'::jsonb AS tree, 'infinity'::float8 AS much, interval '1 day 2 s' AS span"
)
NOTICES = (
    "DO $$ BEGIN RAISE NOTICE 'told %', 1 USING DETAIL = 'more', HINT = 'less'; "
    "RAISE WARNING 'warned' USING ERRCODE = '01P01'; END $$"
)
TABLE = "CREATE TEMPORARY TABLE item (id int PRIMARY KEY, name text NOT NULL CHECK (name <> ''))"
MISTAKES = (
    "SELECT 1/0",
    "SELEC 1",
    "SELECT * FROM nowhere",
    "SELECT 'a'::int",
    "INSERT INTO item VALUES (1, 'twice'), (1, 'twice')",
    "INSERT INTO item VALUES (2, NULL)",
    "INSERT INTO item VALUES (3, '')",
    "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'PG123', DETAIL = 'd', HINT = 'h'; END $$",
)
"""Statements that fail, each with other fields filled in Postgres's ErrorResponse."""

SLEEP = "SELECT pg_sleep(20)"
CANCEL_AFTER = 0.5
"""Seconds between the start of SLEEP and its cancellation."""

BLOCK = hashlib.sha256(b"pgguard").hexdigest() * 15_625
"""A million characters; a value of 100 MB is a hundred of them."""

BLOCK_SQL = "repeat(encode(sha256('pgguard'), 'hex'), 15625 * 100)"
"""The same hundred million characters as the server makes them."""

MEGABYTES = 100


class Absent(Exception):
    """The driver does not offer the feature; the text says why."""


Probe = Callable[[Address], Any]


def serve(probes: Mapping[str, Probe], arguments: list[str] | None = None) -> None:
    """Run the named features and print a line for each."""
    address = Address.of(os.environ["PROBE_URL"])
    for feature in arguments or sys.argv[1:]:
        line: dict[str, Any] = {"feature": feature}
        try:
            if feature not in probes:
                raise Absent("no such interface")
            outcome = probes[feature](address)
            if inspect.iscoroutine(outcome):
                outcome = asyncio.run(outcome)
            line["outcome"] = outcome
        except Absent as absent:
            line["absent"] = str(absent)
        except Exception as error:
            line["outcome"] = {"raised": f"{type(error).__name__}: {error}"}
        print(_normalised(json.dumps(line, default=repr), address.port), flush=True)


def _normalised(text: str, port: int) -> str:
    """Without what differs from one direct run to the next."""
    return re.sub(r"pg_temp_\d+", "pg_temp_N", text).replace(f"port {port}", "port N")


def digest(value: str | bytes) -> str:
    """Length and hash of a value that is too large to print."""
    data = value.encode() if isinstance(value, str) else value
    return f"{len(data)} bytes {hashlib.md5(data).hexdigest()}"
