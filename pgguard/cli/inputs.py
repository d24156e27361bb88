"""What `pgguard check` reads: scripts and lines of JSON, from files and standard input.

Laws: whatever is in a file becomes an item; what cannot be understood becomes one with its
`problem`, and the rest is read on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgguard.errors import SettingsError
from pgguard.sql.split import split
from pgguard.tenancy.checking import Item, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN = "-"
KEYS = ("id", "sql", "params", "tenant", "setup")
PSQL = "a command of psql, which is not SQL and not checked"


def read_items(path: str) -> Iterator[Item]:
    """The statements of one file. Raises SettingsError where it cannot be read."""
    data = _bytes_of(path)
    name = "<stdin>" if path == STDIN else path
    if _holds_lines(path, data):
        yield from _lines(name, data)
    else:
        yield from _script(name, data)


def _bytes_of(path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None


def _holds_lines(path: str, data: bytes) -> bool:
    """No SQL begins with a brace."""
    if path.endswith((".jsonl", ".ndjson")):
        return True
    return not path.endswith(".sql") and data.lstrip().startswith(b"{")


def _script(name: str, data: bytes) -> Iterator[Item]:
    problem = ""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"the file is not UTF-8 (byte {error.start})"
        text = data.decode("utf-8", "replace")
    source = Source(name, text)
    for piece in split(text):
        line, column = source.place(piece.first)
        wrong = PSQL if piece.command else problem if "\ufffd" in piece.text else ""
        yield Item(
            source,
            piece.text,
            piece.start,
            piece.first - piece.start,
            f"{name}:{line}:{column}",
            problem=wrong,
            harmless=piece.command,
        )


def _lines(name: str, data: bytes) -> Iterator[Item]:
    source = Source(name, data.decode("utf-8", "replace"))
    start = 0
    for number, line in enumerate(source.text.split("\n"), 1):
        if line.strip():
            yield _item(source, line, start, number)
        start += len(line) + 1


def _item(source: Source, line: str, start: int, number: int) -> Item:
    identity: Any = f"{source.path}:{number}"

    def problem(text: str) -> Item:
        return Item(source, "", start, id=identity, verbatim=False, problem=text)

    if "\ufffd" in line:
        return problem("the line is not UTF-8")
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        return problem(f"the line is not JSON: {error}")
    if not isinstance(entry, dict):
        return problem("the line is not a JSON object")
    identity = entry.get("id", identity)
    wrong = _what_is_wrong(entry)
    if wrong:
        return problem(wrong)
    params = entry.get("params")
    return Item(
        source,
        entry["sql"],
        start,
        id=identity,
        verbatim=False,
        params=None if params is None else tuple(params),
        tenant=entry.get("tenant"),
        setup=tuple(entry.get("setup") or ()),
    )


def _what_is_wrong(entry: dict[str, Any]) -> str:
    """Of a line, in words; empty if nothing is."""
    unknown = sorted(set(entry) - set(KEYS))
    if unknown:
        return f"unknown key {json.dumps(unknown[0])}; the keys are {', '.join(KEYS)}"
    if not isinstance(entry.get("sql"), str):
        return '"sql" should be a text'
    params, tenant, setup = entry.get("params"), entry.get("tenant"), entry.get("setup")
    if params is not None and not (
        isinstance(params, list) and all(v is None or isinstance(v, str) for v in params)
    ):
        return '"params" should be a list of texts and nulls'
    if tenant is not None and not isinstance(tenant, str):
        return '"tenant" should be a text'
    if setup is not None and not (
        isinstance(setup, list) and all(isinstance(line, str) for line in setup)
    ):
        return '"setup" should be a list of statements'
    return ""
