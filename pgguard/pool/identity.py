"""Who a session belongs to: its client, found by ordered rules; and what it tells only to us.

Laws: nothing here raises on what a session sends; a name is at most `NAME_LIMIT` characters, has no
control characters and holds no pid; settings that are meant for us never reach Postgres, which
would refuse the connection for their sake.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

RULES = (
    "test_mark",
    "startup_setting",
    "user_suffix",
    "application_name",
    "process",
    "address",
)
"""The rules in their default order (`clients.identify`)."""

NAME_LIMIT = 200
"""Characters of a client's name."""

DRIVER_NAMES = frozenset(
    {
        "",
        "PostgreSQL JDBC Driver",
        "postgres.js",
        "psql",
        "clusterdb",
        "createdb",
        "createuser",
        "dropdb",
        "dropuser",
        "pg_amcheck",
        "pg_basebackup",
        "pg_dump",
        "pg_dumpall",
        "pg_isready",
        "pg_receivewal",
        "pg_recvlogical",
        "pg_restore",
        "pgbench",
        "reindexdb",
        "vacuumdb",
        "-e",
        "irb",
        "puma",
        "pry",
        "rackup",
        "rails",
        "rake",
        "rspec",
        "ruby",
        "sidekiq",
    }
)
"""application_names that a driver or tool sets by itself and that say nothing about the client:
pgJDBC, postgres.js, libpq's programs, and the script names that Ruby's pg sends."""


@dataclass(slots=True, frozen=True)
class ProcessInfo:
    """The process behind a loopback port, as far as procfs showed it."""

    pid: int
    command: str
    worker: str = ""
    """Test worker, such as `gw3`."""


@dataclass(slots=True, frozen=True)
class Carriers:
    """All that may carry an identity."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    """Startup parameters."""
    options: list[tuple[str, str]] = field(default_factory=list)
    """Settings in the startup parameter `options`."""
    user: str = ""
    address: str = ""
    """Peer address without the port; empty for a unix socket."""
    process: ProcessInfo | None = None
    shared_name: bool = False
    """Whether this application_name is used by several live processes at once."""
    test_mark: str = ""
    """The test file to which the control API has bound the process."""


@dataclass(slots=True, frozen=True)
class ClientKey:
    """A client's name and the rule that found it."""

    name: str
    rule: str


@dataclass(slots=True, frozen=True)
class Absorbed:
    """What startup parameters said to us alone; None = nothing (sensible)."""

    connection_limit: int | None = None
    pool_timeout: float | None = None
    """Seconds."""
    schema: str | None = None
    client: str | None = None
    """`pgguard.client`."""
    ignored: tuple[str, ...] = ()
    """Values that made no sense, as `name=value`."""

    @property
    def wish(self) -> tuple[int | None, float | None] | None:
        """What it asks for about its client's limits; None = nothing, as most."""
        asked = self.connection_limit, self.pool_timeout
        return asked if asked != (None, None) else None


def identify(order: tuple[str, ...], carriers: Carriers, *, separator: str = "%") -> ClientKey:
    """The client of a session by the first rule in `order` that applies, else by its address."""
    for rule in order:
        find = _FINDERS.get(rule)
        name = clean(find(carriers, separator, order)) if find is not None else ""
        if name:
            return ClientKey(name, rule)
    return ClientKey(clean(_address(carriers, separator, order)), "address")


def strip_user_suffix(user: str, separator: str) -> str:
    """The user to log in as: `app` of `app%worker3`."""
    return _split_user(user, separator)[0]


def clean(name: str) -> str:
    """A name fit for labels, files and terminals: no control characters, bounded in the middle."""
    if not name.isprintable():
        name = "".join("\ufffd" if unicodedata.category(c) in _UNFIT else c for c in name)
    name = name.strip()
    if len(name) <= NAME_LIMIT:
        return name
    head = NAME_LIMIT // 2
    return f"{name[: head - 1]}…{name[-(NAME_LIMIT - head) :]}"


_UNFIT = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def _test_mark(carriers: Carriers, _separator: str, _order: tuple[str, ...]) -> str:
    return carriers.test_mark


def _startup_setting(carriers: Carriers, _separator: str, _order: tuple[str, ...]) -> str:
    for name, value in (*carriers.parameters.items(), *reversed(carriers.options)):
        if name.lower() == "pgguard.client" and value.strip():
            return value
    return ""


def _user_suffix(carriers: Carriers, separator: str, _order: tuple[str, ...]) -> str:
    return _split_user(carriers.user, separator)[1]


def _application_name(carriers: Carriers, _separator: str, order: tuple[str, ...]) -> str:
    if carriers.shared_name and "process" in order and carriers.process is not None:
        return ""
    name = carriers.parameters.get("application_name", "").strip()
    directory, _, script = name.rpartition("/")
    driver = name in DRIVER_NAMES or (directory.endswith("bin") and script in DRIVER_NAMES)
    return "" if driver else name


def _process(carriers: Carriers, _separator: str, _order: tuple[str, ...]) -> str:
    process = carriers.process
    if process is None:
        return ""
    command, pid = process.command.strip(), str(process.pid)
    if pid in command:
        command = re.sub(rf"(?<!\d){pid}(?!\d)", "*", command)
    return f"{command} ({process.worker})" if process.worker else command


def _address(carriers: Carriers, _separator: str, _order: tuple[str, ...]) -> str:
    return carriers.address or "local"


_FINDERS: dict[str, Callable[[Carriers, str, tuple[str, ...]], str]] = {
    "test_mark": _test_mark,
    "startup_setting": _startup_setting,
    "user_suffix": _user_suffix,
    "application_name": _application_name,
    "process": _process,
    "address": _address,
}


def _split_user(user: str, separator: str) -> tuple[str, str]:
    if not separator:
        return user, ""
    name, found, suffix = user.rpartition(separator)
    return (name, suffix) if found and name and suffix else (user, "")


def absorb(parameters: Mapping[str, str]) -> tuple[dict[str, str], Absorbed]:
    """Startup parameters without those that are meant for us, and what those said.

    `schema` becomes search_path, quoted as Prisma does, unless a search_path is given.
    """
    forwarded: dict[str, str] = {}
    ours: dict[str, str] = {}
    settings: list[tuple[str, str]] = []
    for name, value in parameters.items():
        lower = name.lower()
        if lower in _OURS or lower.startswith(_PREFIX):
            ours[lower] = value
        elif name == "options":
            settings, rest = _options(value)
            if rest:
                forwarded[name] = rest
        else:
            forwarded[name] = value
    for name, value in settings:
        if name.startswith(_PREFIX):
            ours.setdefault(name, value)
    ignored: list[str] = []
    limit = _count(ours, "connection_limit", ignored)
    timeout = _duration(ours, "pool_timeout", ignored)
    schema = ours.get("schema") or None
    given = {name.lower() for name in forwarded} | {name for name, _ in settings}
    if schema is not None and "search_path" not in given:
        forwarded["search_path"] = '"' + schema.replace('"', '""') + '"'
    client = ours.get("pgguard.client") or None
    return forwarded, Absorbed(limit, timeout, schema, client, tuple(ignored))


_PREFIX = "pgguard."
_OURS = frozenset(
    {
        "connection_limit",
        "pool_timeout",
        "pgbouncer",
        "schema",
        "connect_timeout",
        "socket_timeout",
    }
)
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{0,9})?)\s*(ms|s|min|m|h|)", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


def _count(ours: Mapping[str, str], name: str, ignored: list[str]) -> int | None:
    value = ours.get(name)
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", value.strip()) and int(value) >= 1:
        return int(value)
    ignored.append(f"{name}={value}")
    return None


def _duration(ours: Mapping[str, str], name: str, ignored: list[str]) -> float | None:
    value = ours.get(name)
    if value is None:
        return None
    match = _DURATION.fullmatch(value.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if seconds > 0:
        return seconds
    ignored.append(f"{name}={value}")
    return None


_TAKES_VALUE = frozenset("BCDNStWdfhkprvc-")
"""Switches of a backend that take a value (`postgres.c`, process_postgres_switches)."""


def _options(text: str) -> tuple[list[tuple[str, str]], str]:
    """The settings in `options`, names in lower case, and the text without those meant for us."""
    settings: list[tuple[str, str]] = []
    kept: list[str] = []
    words = list(_words(text))
    at = 0
    while at < len(words):
        taken = 1
        setting = ""
        word = words[at][1]
        if word.startswith("-"):
            for place, switch in enumerate(word[1:], 1):
                if switch in _TAKES_VALUE:
                    setting = word[place + 1 :]
                    if not setting and at + 1 < len(words):
                        setting, taken = words[at + 1][1], 2
                    if switch not in "c-":
                        setting = ""
                    break
        name, _, value = setting.partition("=")
        name = name.replace("-", "_").lower()
        if name:
            settings.append((name, value))
        if not name.startswith(_PREFIX):
            kept += [raw for raw, _ in words[at : at + taken]]
        at += taken
    return settings, " ".join(kept)


def _words(text: str) -> Iterator[tuple[str, str]]:
    r"""Words as they stand and as they read: split at spaces, a backslash takes the next one."""
    for match in re.finditer(r"(?:\\.|[^\s\\]|\\$)+", text, re.DOTALL | re.ASCII):
        yield match[0], re.sub(r"\\(.)?", r"\1", match[0], flags=re.DOTALL)
