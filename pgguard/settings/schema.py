"""The settings as frozen models: every key with its default, its form and its description.

Laws: the keys are those of the table in `docs/settings.md`, which is generated from here; what is
not built yet stands in `NOT_YET` and exists nowhere else; secrets are out of every repr.
"""

from __future__ import annotations

import ast
import json
import re
from contextlib import ExitStack
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, Strict, StringConstraints

from pgguard.errors import SettingsError
from pgguard.settings import forms, tenancy
from pgguard.settings.encryption import check_demands
from pgguard.settings.forms import (
    Count,
    CountOrAuto,
    CountOrOff,
    Directory,
    Duration,
    DurationOrOff,
    File,
    HostPort,
    HostPortOrOff,
    Name,
    Positive,
    Section,
    Shown,
)
from pgguard.settings.plugins import no_plugins
from pgguard.settings.tenancy import Tenancy
from pgguard.settings.upstream import MASK, mask_url, parse_url
from pgguard.settings.values import Address

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

PRESETS: dict[str, tuple[int, float]] = {
    "local": (10, 20.0),
    "ci": (10, 20.0),
    "staging": (25, 25.0),
    "production": (50, 30.0),
}
"""Preset → `limits.connection_limit` and `limits.pool_timeout` in seconds."""


def _checked_url(url: str) -> str:
    try:
        check_demands(parse_url(url).query)
    except SettingsError as error:
        raise ValueError(str(error)) from None
    return url


_building = ExitStack()
_building.enter_context(no_plugins())


class Override(Section):
    """Limits for the clients whose name fits a glob; the last entry with a value decides it."""

    client: Name
    connection_limit: Count | None = None
    pool_timeout: Positive | None = None
    max_waiting: Count | None = None
    max_sessions: Count | None = None


class Limits(Section):
    connection_limit: Count = 10
    """Server connections that one client may hold at once. The preset sets it, too."""
    pool_timeout: Positive = 20.0
    """How long a session waits because of its own client's cap. The preset sets it, too."""
    total: CountOrAuto = None
    """All server connections together. `auto`: max_connections of the server less its reserved
    slots, the connections of others and a margin of 3, read again while running, and shared fairly
    with other guards on the same server."""
    total_timeout: Positive = 60.0
    """How long a session waits because of other clients."""
    max_waiting: CountOrOff = None
    """Per client: how many sessions may wait; the next one is refused at once."""
    max_sessions: CountOrOff = None
    """Per client: how many frontend connections may be open."""
    notice_after: DurationOrOff = 2.0
    """When a waiting session is told so by a NOTICE; repeated every 5 s."""
    self_starvation_after: Positive = 2.0
    """Silence after which a client that waits for itself is declared so."""
    on_self_starvation: Literal["refuse", "wait"] = "refuse"
    """`refuse` the newest waiter, or `wait` for the timeout."""
    serial: bool = False
    """Only one client at a time has servers: the last resort; the summary says what it cost."""
    overrides: Annotated[tuple[Override, ...], Strict(False)] = ()
    """Limits for some clients: `{client = "glob", connection_limit, pool_timeout, max_waiting,
    max_sessions}`. Of several entries that fit the last that gives a value decides."""


Rule = Literal["startup_setting", "user_suffix", "application_name", "process", "address"]


class Clients(Section):
    identify: Annotated[tuple[Rule, ...], Strict(False), Field(min_length=1)] = (
        "startup_setting",
        "user_suffix",
        "application_name",
        "process",
        "address",
    )
    """Rules that name the client of a session, the first that applies: `startup_setting`
    (`pgguard.client` as startup parameter or in `options`), `user_suffix`, `application_name`
    (unless it is a driver's default), `process` (the command behind a loopback port
    or a unix socket), `address`."""
    user_separator: Annotated[str, StringConstraints(min_length=1, max_length=8)] = "%"
    """What parts the role from the client's name: `app%worker3` logs in as `app`."""


class Pool(Section):
    mode: Literal["transparent", "session"] = "transparent"
    """`transparent`: sessions share server connections; `session`: one for each session."""
    idle_timeout: Positive = 30.0
    """How long `transparent` keeps a server connection that nobody has a use for."""
    restless: bool = False
    """For tests of pgguard: each transaction of `transparent` gets what has rested longest."""


class Upstream(Section):
    url: Annotated[Name, AfterValidator(_checked_url), Shown(mask_url)] | None = Field(
        default=None, repr=False
    )
    """The database to guard: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, or over a unix socket
    `postgresql://USER@/DATABASE?host=/run/postgresql`, as with libpq."""
    tls: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    """Encryption to the server, in libpq's words. `prefer` goes on in plain text where the server
    has no TLS; `verify-full` checks its certificate and its name. At `prefer` the URL's `sslmode`
    and then PGSSLMODE decide; `sslrootcert`, `sslcert`, `sslkey` and `sslnegotiation` likewise.
    Over a unix socket there is none, as with libpq."""
    ca: File | None = None
    """PEM file with the authorities that may vouch for the server; without it
    `~/.postgresql/root.crt` where there is one, else those of the system."""
    cert: File | None = None
    """PEM file with the certificate that pgguard shows the server."""
    key: File | None = None
    """PEM file with its key, unless `upstream.cert` has that, too."""
    tls_negotiation: Literal["postgres", "direct"] = "postgres"
    """`direct` begins with TLS at once (Postgres 17 and newer); needs `require` or stricter."""
    wait: Duration = 10.0
    """How long `run` waits for the server before it gives up."""
    connect_timeout: Positive = 15.0
    """How long one connection attempt may take, login included."""


class Listen(Section):
    address: HostPortOrOff = Address("127.0.0.1", 6433)
    """Where sessions connect. `run` and `demo` take a free port. `off`: over `listen.unix` only,
    where the number of the socket is 6433 then."""
    unix: Directory | None = None
    """A directory: sessions also connect to the unix socket `.s.PGSQL.PORT` in it, which has the
    number of `listen.address`; `@name` is in the abstract namespace. It has no TLS, as with
    Postgres. `run` makes one of its own where the server is reached over a unix socket."""
    tls: Literal["disable", "allow", "require"] = "allow"
    """Encryption to clients, as soon as there is a `listen.cert`; `require` refuses plain text."""
    cert: File | None = None
    """PEM file with the certificate that is shown to clients, and what vouches for it."""
    key: File | None = None
    """PEM file with its key, unless `listen.cert` has that, too. A reload reads them again."""
    client_ca: File | None = None
    """PEM file with authorities; a client that uses TLS must show a certificate of theirs then."""
    login_timeout: Positive = 60.0
    """How long a session may take to log in, waiting for its server not included."""
    trust: bool = False
    """Let in without a password, from anywhere, whomever the server lets us in as without one."""


class Http(Section):
    address: HostPort = Address("127.0.0.1", 6434)
    """Where metrics, health and the API are served. `run` and `demo` take a free port."""
    token: Annotated[Name, Shown(secret=True)] | None = Field(default=None, repr=False)
    """Bearer token for what changes something (`POST /-/reload`) and for reading from other
    machines; without one both are off."""


class Auth(Section):
    users: Annotated[dict[Name, Name], Shown(secret=True)] = Field(default={}, repr=False)
    """`{name = "secret"}`: passwords, SCRAM verifiers or md5 hashes of users, beside the user of
    the upstream URL."""


FailClass = Literal[
    "unscoped", "cross_tenant", "by_id", "scoped_fk", "unknown", "setup", "exhaustion", "internal"
]


class Run(Section):
    fail_on: Annotated[tuple[FailClass, ...], Strict(False)] = ()
    """Classes of findings that fail a run whose command succeeded (exit code 70)."""
    keep: Count = 20
    """How many runs `.pgguard/` keeps."""


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe level that is written."""
    format: Literal["auto", "text", "json"] = "auto"
    """`text`, `json`, or `auto`: text on a terminal, JSON elsewhere."""
    file: File | None = None
    """Where the log goes; without it to stderr."""


class Settings(Section):
    """All settings."""

    preset: Literal["local", "ci", "staging", "production"] = "local"
    """`local` and `ci`: 10 connections, 20 s; `staging`: 25, 25 s; `production`: 50, 30 s. Sets
    `limits.connection_limit` and `limits.pool_timeout` where they are not given themselves."""
    limits: Limits = Limits()
    """How many server connections a client and all clients get."""
    clients: Clients = Clients()
    """Who is capped and reported."""
    pool: Pool = Pool()
    """How sessions share servers."""
    upstream: Upstream = Upstream()
    """The database behind."""
    listen: Listen = Listen()
    """The wire port."""
    http: Http = Http()
    """Metrics, health, API."""
    auth: Auth = Auth()
    """Who may log in."""
    tenancy: Tenancy = Tenancy()
    """What "scoped to a tenant" means here."""
    run: Run = Run()
    """`pgguard run`."""
    log: Log = Log()
    """pgguard's own log."""


_building.close()


NOT_YET_KEYS = frozenset(
    {
        "admin.users",
        "tenancy.cache_tables",
        "run.inject",
    }
)
"""Keys that have their name already and nothing behind it."""

NOT_YET_VALUES: dict[str, frozenset[str]] = {
    "clients.identify": frozenset({"test_mark"}),
    "run.fail_on": frozenset({"leftover", "leak", "collision", "shared_state", "slow"}),
}
"""Values that have their name already and nothing behind it."""


def sections() -> dict[str, type[Section]]:
    """Section name → model, in the order of the table."""
    return {
        name: info.annotation
        for name, info in Settings.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section)
    }


@cache
def fields() -> dict[str, FieldInfo]:
    """Every key, dotted, in the order of the table, with its field."""
    found = {"preset": Settings.model_fields["preset"]}
    for section, model in sections().items():
        for name, info in model.model_fields.items():
            found[f"{section}.{info.alias or name}"] = info
    return found


def value_of(settings: Settings, key: str) -> Any:
    """The value of a dotted key."""
    section, _, name = key.rpartition(".")
    owner = getattr(settings, section) if section else settings
    return getattr(owner, "global_" if name == "global" else name)


def shown(key: str, value: Any) -> str:
    """A value as TOML text; secrets are masked, None is the word for it or empty."""
    marks = [mark for mark in _marks(fields()[key]) if isinstance(mark, Shown)]
    if value is None:
        return _toml(word_for_none(key)) if word_for_none(key) else ""
    if any(mark.secret for mark in marks):
        value = dict.fromkeys(value, MASK) if isinstance(value, dict) else MASK
    return _toml(next((mark.value(value) for mark in marks if mark.value), value))


def in_units(key: str, number: float) -> str:
    """A bound of a key as its values are written: `24h`, `1GiB`, `3`."""
    marks = (mark.value for mark in _marks(fields()[key]) if isinstance(mark, Shown))
    write = next((value for value in marks if value), None)
    return write(number) if write and number else f"{number:g}"


def example(key: str) -> str:
    """A value of a list or a table as one would write it."""
    examples = {
        "limits.overrides": '[{client = "tests/slow*", connection_limit = 20}]',
        "tenancy.owned": '{BookingAddOn = "bookingId"}',
        "tenancy.rules": '[{table = "audit_*", mode = "observe"}]',
        "tenancy.allow": '[{table = "audit_*", reason = "read by operators only"}]',
        "auth.users": '{app = "secret"}',
        "run.fail_on": '["unscoped"]',
    }
    default = fields()[key].default
    return examples.get(key) or _toml(list(default)[:1] or ["Name"])


def json_schema() -> dict[str, Any]:
    """The JSON schema of `pgguard.toml`, for editors."""
    schema = Settings.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    defaults = Settings().model_dump(mode="json", by_alias=True)
    for node in [schema, *schema["$defs"].values()]:
        for name, entry in node["properties"].items():
            entry.pop("title", None)
            entry.pop("default", None)
            if text := _descriptions().get((node["title"], name)):
                entry["description"] = text
            default = defaults.get(node["title"].lower(), defaults).get(name)
            if default is not None and not isinstance(default, dict):
                entry["default"] = default
    schema["title"] = "pgguard settings"
    return schema


def describe(key: str) -> str:
    """What a key means, as one line of Markdown; a section is a key, too."""
    section, _, name = key.rpartition(".")
    return _descriptions()[section.capitalize() or "Settings", name]


@cache
def _descriptions() -> dict[tuple[str, str], str]:
    """(model, key) → the text below the field in this file."""
    found = {}
    sources = (__file__, forms.__file__, tenancy.__file__)
    body = [node for path in sources for node in ast.parse(Path(path).read_text("utf-8")).body]
    for model in (node for node in body if isinstance(node, ast.ClassDef)):
        for field, text in pairwise(model.body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(value))):
                    found[model.name, name.removesuffix("_")] = " ".join(value.split())
    return found


def keys_of_entries(key: str) -> list[str]:
    """The keys that an entry of a list may have."""
    return next((list(m.model_fields) for m in _models(fields()[key].annotation)), [])


def _models(form: Any) -> list[type[Section]]:
    """The models that a form is made of."""
    if isinstance(form, type) and issubclass(form, Section):
        return [form]
    return [model for part in get_args(form) for model in _models(part)]


def word_for_none(key: str) -> str:
    """`off`, `auto`, or empty where a key has no such word."""
    return next((mark.none for mark in _marks(fields()[key]) if isinstance(mark, Shown)), "")


def _marks(info: FieldInfo) -> list[Any]:
    """Metadata of a field and, where None is allowed, of the form beside None."""
    inner = [mark for part in get_args(info.annotation) for mark in get_args(part)[1:]]
    return [*info.metadata, *inner]


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case Section():
            return _toml(value.model_dump(mode="json", exclude_none=True))
        case tuple() | list():
            return f"[{', '.join(_toml(item) for item in value)}]"
        case dict():
            pairs = (f"{_toml_key(name)} = {_toml(item)}" for name, item in value.items())
            return f"{{{', '.join(pairs)}}}"
        case str():
            return json.dumps(value, ensure_ascii=False)
    return str(value)


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
