"""From defaults, file, environment and flags to frozen settings; later wins.

Laws: an error names its source (file and line, variable, flag) and, for a key, the nearest valid
one; it never holds the value of a secret; what is not built yet says "not in this version".
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import ValidationError

from pgguard.errors import SettingsError
from pgguard.settings import schema
from pgguard.settings.schema import NOT_YET_KEYS, NOT_YET_VALUES, PRESETS, Settings
from pgguard.settings.sources import KeyPath, SettingsFile, find_file, read_file, variables
from pgguard.settings.values import show_duration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FLAGS = {
    "upstream.url": "--upstream",
    "listen.address": "--listen",
    "http.address": "--http",
    "run.fail_on": "--fail-on",
    "log.level": "-q/-v",
}
"""Key → the option that sets it, where its name is not that of the key."""

SECRETS = frozenset({"upstream.url", "auth.users", "http.token"})
NOT_YET = "is not in this version"
_WORDS = {"true": True, "yes": True, "on": True, "1": True}
_WORDS |= {"false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Loaded:
    settings: Settings
    origins: dict[str, str]
    """Key → where its value came from: `default`, `preset ci`, `pgguard.toml:3`, a variable, a
    flag."""
    file: Path | None


@dataclass(slots=True)
class _Raw:
    """What the sources gave so far, by dotted key."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[SettingsError] = field(default_factory=list)
    file: SettingsFile | None = None

    def put(self, key: str, value: Any, where: str) -> None:
        self.values[key], self.origins[key] = value, where

    def complain(self, message: str, where: str, hint: str = "") -> None:
        self.problems.append(SettingsError(message, where=where, hint=hint))


def load(
    *, config: Path | None, env: Mapping[str, str], flags: Mapping[str, Any], cwd: Path
) -> Loaded:
    """Settings from everywhere. `flags` maps dotted keys to values; None = not given.

    Raises SettingsError: the first of `problems`.
    """
    loaded, problems = examine(config=config, env=env, flags=flags, cwd=cwd)
    if loaded is None:
        raise problems[0]
    return loaded


def examine(
    *, config: Path | None, env: Mapping[str, str], flags: Mapping[str, Any], cwd: Path
) -> tuple[Loaded | None, list[SettingsError]]:
    """As `load`, with every problem instead of the first; raises only where a file is no TOML."""
    cwd = cwd.absolute()
    raw = _Raw(file=read_file(cwd / config, cwd) if config is not None else find_file(cwd))
    if raw.file is not None:
        _take_file(raw, raw.file, cwd)
    for variable, key, text in variables(env):
        _take_text(raw, key, text, variable)
    for key, value in flags.items():
        if value is not None:
            flag = FLAGS.get(key, "--" + key.rpartition(".")[2].replace("_", "-"))
            _take_text(raw, key, value, flag, split=True)
    for key in NOT_YET_VALUES:
        _refuse_not_yet(raw, key, cwd)
    _apply_preset(raw)
    settings = _validate(raw, cwd)
    if settings is None or raw.problems:
        return None, sorted(raw.problems, key=_line)
    origins = {key: raw.origins.get(key, "default") for key in schema.fields()}
    return Loaded(settings, origins, raw.file.path if raw.file else None), []


def _line(problem: SettingsError) -> tuple[bool, int]:
    """Sort key: the lines of the file in their order, then the rest as it was found."""
    number = problem.where.rpartition(":")[2]
    return (not number.isdecimal(), int(number) if number.isdecimal() else 0)


def _take_file(raw: _Raw, file: SettingsFile, cwd: Path) -> None:
    sections = schema.sections()
    for name, entry in file.table.items():
        if name in sections and isinstance(entry, dict):
            for key, value in entry.items():
                _take(raw, f"{name}.{key}", value, file.where((name, key), cwd))
        elif name in sections:
            raw.complain(f'"{name}" is a table', file.where((name,), cwd), f"[{name}]")
        elif name == "admin" and isinstance(entry, dict):
            raw.complain(f'"admin" {NOT_YET}', file.where((name,), cwd))
        else:
            _take(raw, name, entry, file.where((name,), cwd))


def _take(raw: _Raw, key: str, value: Any, where: str) -> None:
    if key in schema.fields():
        raw.put(key, value, where)
    elif key in NOT_YET_KEYS:
        raw.complain(f'"{key}" {NOT_YET}', where)
    else:
        raw.complain(f'unknown key "{key}"', where, _suggestion(key))


def _take_text(raw: _Raw, key: str, value: Any, where: str, *, split: bool = False) -> None:
    """A variable or a flag; `split` also takes a list with commas."""
    info = schema.fields().get(key)
    if info is not None and isinstance(value, str):
        try:
            value = _from_text(info.annotation, value, split=split)
        except ValueError as error:
            raw.complain(f"{key} {error}{_not(key, value)}", where)
            return
    _take(raw, key, value, where)


def _from_text(annotation: Any, text: str, *, split: bool) -> Any:
    """Text as TOML would have given it. Raises ValueError."""
    parts = get_args(annotation) if type(None) in get_args(annotation) else (annotation,)
    plain = {get_args(part)[0] if hasattr(part, "__metadata__") else part for part in parts}
    containers = {get_origin(part) for part in plain} & {tuple, dict}
    if containers:
        if split and tuple in containers and not text.lstrip().startswith("["):
            return [item for item in text.split(",") if item]
        try:
            return json.loads(text)
        except ValueError:
            kind = "list" if tuple in containers else "table"
            example = '["a", "b"]' if tuple in containers else '{"a": "b"}'
            raise ValueError(f"should be a {kind} in JSON such as {example}") from None
    if bool in plain:
        if text.lower() not in _WORDS:
            raise ValueError("should be true or false")
        return _WORDS[text.lower()]
    if int in plain and text.strip().isdecimal():
        return int(text)
    return text


def _suggestion(key: str) -> str:
    """The nearest valid key, by its full name or by its last part."""
    known = list(schema.fields())
    if close := difflib.get_close_matches(key, [*known, *schema.sections()], 1, 0.75):
        return f'did you mean "{close[0]}"?'
    last = {name.rpartition(".")[2]: name for name in known}
    if close := difflib.get_close_matches(key.rpartition(".")[2], last, 1, 0.75):
        return f'did you mean "{last[close[0]]}"?'
    return "`pgguard config show` lists all keys"


def _refuse_not_yet(raw: _Raw, key: str, cwd: Path) -> None:
    value = raw.values.get(key)
    given = value if isinstance(value, list | tuple) else [value]
    for item in given:
        if isinstance(item, str) and item in NOT_YET_VALUES[key]:
            raw.complain(f'{key}: "{item}" {NOT_YET}', raw.origins[key])
            del raw.values[key]
            return


def _apply_preset(raw: _Raw) -> None:
    preset = raw.values.get("preset")
    if not isinstance(preset, str) or preset not in PRESETS:
        return
    limit, timeout = PRESETS[preset]
    defaults = {
        "limits.connection_limit": limit,
        "limits.pool_timeout": show_duration(timeout),
    }
    for key, value in defaults.items():
        if key not in raw.values:
            raw.put(key, value, f"preset {preset}")


def _validate(raw: _Raw, cwd: Path) -> Settings | None:
    nested: dict[str, Any] = {}
    for key, value in raw.values.items():
        section, _, name = key.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    try:
        return Settings.model_validate(nested)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            _translate(raw, problem, cwd)
        return None


def _translate(raw: _Raw, problem: Any, cwd: Path) -> None:
    """One pydantic error as ours."""
    path: KeyPath = problem["loc"]
    key = str(path[0]) if path[0] == "preset" else f"{path[0]}.{path[1]}"
    inside = path[key.count(".") + 1 :]
    where = raw.origins.get(key, "default")
    if raw.file is not None and where.startswith(f"{raw.file.where((), cwd).rpartition(':')[0]}:"):
        where = raw.file.where(path, cwd)
    name = key + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in inside)
    if problem["type"] == "extra_forbidden":
        valid = schema.keys_of_entries(key)
        close = difflib.get_close_matches(str(path[-1]), valid, 1)
        hint = f'did you mean "{close[0]}"?' if close else f"valid: {', '.join(valid)}"
        raw.complain(f'unknown key "{name}"', where, hint)
        return
    if problem["type"] == "missing":
        raw.complain(f"{name} is missing", where)
        return
    if problem["type"] == "too_short" and problem["input"]:
        # What stands in the list is wrong and has been said.
        return
    message = _words(key, problem)
    if not inside and (word := schema.word_for_none(key)):
        message = f'{message} or "{word}"'
    given = _not(key, problem["input"]) if problem["input"] not in ("", []) else ""
    raw.complain(f"{name} {message}{given}", where)


def _words(key: str, problem: Any) -> str:
    """A pydantic error in words that can stand behind the key, as those of `values` can."""
    leaf = f"{key.partition('.')[0]}.{problem['loc'][-1]}"
    bounds = {
        name: schema.in_units(leaf if leaf in schema.fields() else key, bound)
        for name, bound in problem.get("ctx", {}).items()
        if name in ("gt", "ge", "le")
    }
    match problem["type"]:
        case "int_type":
            return "should be a whole number"
        case "string_type":
            return "should be a text in quotes"
        case "bool_type":
            return "should be true or false"
        case "string_too_short":
            return "should not be empty"
        case "too_short":
            return "should have an entry"
        case "tuple_type":
            return f"should be a list such as {schema.example(key)}"
        case "is_instance_of":
            return "should be a path in quotes"
        case "dict_type" | "model_type":
            return f"should be a table such as {schema.example(key).strip('[]')}"
        case "greater_than":
            return f"should be more than {bounds['gt']}"
        case "greater_than_equal":
            return f"should be {bounds['ge']} or more"
        case "less_than_equal":
            return f"should be {bounds['le']} or less"
    text = re.sub(r"^(Input|String|Value error,) ", "", problem["msg"])
    return text if text.startswith("should ") else f"cannot be used: {text}"


def _not(key: str, value: object) -> str:
    return "" if key in SECRETS else f", not {_short(value)}"


def _short(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
