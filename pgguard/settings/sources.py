"""Where raw settings come from: the file, with the line of every key, and the environment.

Laws: no pydantic, and tomllib only where there is a file, so that `healthcheck` starts fast;
nothing is judged here but TOML syntax.
A key path is a tuple of strings and list indices: `("limits", "overrides", 0, "client")`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from pgguard.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILE_NAME = "pgguard.toml"
PREFIX = "PGGUARD_"
SHORT = {"PGGUARD_UPSTREAM": "upstream.url"}
NO_SETTINGS = frozenset({"PGGUARD_PG_BIN", "PGGUARD_CONTROL", "PGGUARD_LOOP"})
"""Variables of ours that are neither settings nor unknown keys."""

KeyPath = tuple[str | int, ...]

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_KEY = re.compile(rf"\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")


@dataclass(frozen=True, slots=True)
class SettingsFile:
    path: Path
    text: str
    table: dict[str, Any]
    """The settings; in `pyproject.toml` what stands below `[tool.pgguard]`."""
    prefix: KeyPath = ()

    def where(self, key: KeyPath, cwd: Path) -> str:
        """`pgguard.toml:12`: the path as seen from `cwd`, and the line of `key`."""
        return f"{shown(self.path, cwd)}:{line_of(self.text, self.prefix + key)}"


def shown(path: Path, cwd: Path) -> str:
    """The path relative to `cwd` where it is below it."""
    path = path.absolute()
    return str(path.relative_to(cwd)) if path.is_relative_to(cwd) else str(path)


def find_file(cwd: Path) -> SettingsFile | None:
    """The nearest `pgguard.toml`, or `pyproject.toml` with `[tool.pgguard]`, upwards from `cwd`.

    The search ends at the repository root; outside of a repository only `cwd` is looked at, so that
    nobody's file in a shared directory is obeyed.
    """
    folders = [cwd, *cwd.parents]
    root = next((at for at, folder in enumerate(folders) if (folder / ".git").exists()), 0)
    for folder in folders[: root + 1]:
        if (folder / FILE_NAME).is_file():
            return read_file(folder / FILE_NAME, cwd)
        if (folder / "pyproject.toml").is_file():
            found = _read_pyproject(folder / "pyproject.toml", cwd)
            if found is not None:
                return found
    return None


def read_file(path: Path, cwd: Path) -> SettingsFile:
    """Read a settings file. Raises SettingsError: missing, not readable, not TOML."""
    if path.name == "pyproject.toml":
        found = _read_pyproject(path, cwd)
        return found or SettingsFile(path, "", {}, ("tool", "pgguard"))
    text, table = _read_toml(path, cwd)
    return SettingsFile(path, text, table)


def _read_pyproject(path: Path, cwd: Path) -> SettingsFile | None:
    text, table = _read_toml(path, cwd)
    tool = table.get("tool")
    ours = tool.get("pgguard") if isinstance(tool, dict) else None
    if not isinstance(ours, dict):
        return None
    return SettingsFile(path, text, ours, ("tool", "pgguard"))


def _read_toml(path: Path, cwd: Path) -> tuple[str, dict[str, Any]]:
    import tomllib

    name = shown(path, cwd)
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise SettingsError("the file is not UTF-8", where=name) from None
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", where=name) from None
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, _, position = str(error).partition(" (at ")
        line = re.search(r"line (\d+)", position)
        where = f"{name}:{line[1] if line else text.count(chr(10)) + 1}"
        raise SettingsError(f"not TOML: {message}", where=where) from None


def variables(env: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Every variable of ours as (variable, key, text); empty ones count as not given.

    The short form comes first, so that `PGGUARD_UPSTREAM__URL` wins over `PGGUARD_UPSTREAM`.
    """
    ours = (name for name in env if name.startswith(PREFIX) and name not in NO_SETTINGS)
    for name in sorted(ours, key=lambda name: (name not in SHORT, name)):
        if env[name]:
            key = name[len(PREFIX) :].lower().replace("__", ".")
            yield name, SHORT.get(name, key), env[name]


def line_of(text: str, key: KeyPath) -> int:
    """Line, from 1, of a key in a TOML text: that of its longest prefix that has one."""
    best, found = 0, 1
    for path, first, last in _statements(text):
        same = takewhile(lambda pair: pair[0] == pair[1], zip(path, key, strict=False))
        common = len(list(same))
        if common < len(path) or common <= best:
            continue
        best, found = common, first
        if common < len(key):
            found = _line_within(text, first, last, key[common:])
    return found


def _line_within(text: str, first: int, last: int, rest: KeyPath) -> int:
    """Line of a key of an inline table that spans the lines `first` to `last`."""
    name = next((part for part in reversed(rest) if isinstance(part, str)), None)
    if name is not None:
        pattern = re.compile(rf'(?<![\w-])["\']?{re.escape(name)}["\']?\s*=')
        for number, line in enumerate(text.splitlines()[first - 1 : last], first):
            if pattern.search(line):
                return number
    return first


def _statements(text: str) -> Iterator[tuple[KeyPath, int, int]]:
    """Every header and every assignment of a TOML text that parses: (path, first and last line).

    A statement ends at the first line up to which tomllib can read it: values may span lines.
    """
    lines = text.splitlines()
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    at = 0
    while at < len(lines):
        first = at
        while True:
            parsed = _try_toml("\n".join(lines[first : at + 1]))
            at += 1
            if parsed is not None or at >= len(lines):
                break
        if not parsed:
            continue
        if key := _KEY.match(lines[first]):
            yield table + _only_path(_try_toml(f"{key[1]} = 0")), first + 1, at
            continue
        path = _only_path(parsed)
        if lines[first].lstrip().startswith("[["):
            index = counts.get(path, 0)
            counts[path] = index + 1
            table = (*path, index)
            yield table, first + 1, at
        else:
            table = path
            yield table, first + 1, at


def _try_toml(text: str) -> dict[str, Any] | None:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _only_path(parsed: dict[str, Any] | None) -> KeyPath:
    """The keys down to the first value that is no table with exactly one key."""
    path: list[str | int] = []
    node: Any = parsed
    while isinstance(node, dict) and len(node) == 1:
        ((name, node),) = node.items()
        path.append(name)
    return tuple(path)
