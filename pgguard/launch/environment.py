"""The environment of CMD: where its database is, and the same variables pointing at the guard.

`find_upstream` looks for the database in the order of surface.md (Upstream of `run`); `rewrite`
changes the host and port of every Postgres URL that names it, and nothing else of that URL, byte
for byte, unless it asks for TLS that the way to the guard does not have: what the way from there to
the server has is lowered, and said. What names another server is left alone and named.

Laws: no password in a repr, a line or an error; encryption that a URL asks for is never lowered
silently; files are only read.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

from pgguard.errors import SettingsError
from pgguard.launch.dotenv import read_dotenv
from pgguard.settings.encryption import VARIABLES, check_demands, is_more, mode_of, with_variables
from pgguard.settings.upstream import (
    DEFAULT_PORT,
    UpstreamAddress,
    is_postgres_url,
    parse_url,
)
from pgguard.settings.values import Address, is_directory, read_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

URL_NAMES = ("DATABASE_URL_TEST", "DATABASE_URL")
DOTENV_FILES = (".env.test", ".env")
WAYS = (
    "give --upstream URL, set upstream.url in pgguard.toml, PGGUARD_UPSTREAM or DATABASE_URL,"
    " or use --embedded"
)

LIMITS = ("connection_limit", "pool_timeout")
_PG_PLACE = ("PGHOST", "PGPORT", "PGHOSTADDR")
_PG_ELSEWHERE = (
    "PGHOSTADDR",
    "PGSERVICE",
    "PGSSLMODE",
    "PGCHANNELBINDING",
    "PGSSLNEGOTIATION",
    "PGSSLROOTCERT",
)
"""What means another server than the one that we started, which has no encryption."""
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_AUTHORITY = re.compile(
    r"(?P<head>(?:jdbc:)?postgres(?:ql)?(?:\+\w+)?://)(?P<userinfo>[^/?#]*@)?(?P<place>[^/?#]*)"
    r"(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<tail>#.*)?",
    re.IGNORECASE | re.DOTALL,
)
_JDBC = "jdbc:"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_PARAMETER = re.compile(r"(?P<name>[^?&=]+)=(?P<value>[^&]*)")
_OF_THE_SERVER = frozenset({"sslrootcert", "sslcrl", "sslcrldir", "sslnegotiation"})
"""What speaks of the server's own certificate, which the guard does not have."""
_PG_OF_THE_SERVER = ("PGSSLROOTCERT", "PGSSLCRL", "PGSSLCRLDIR", "PGSSLNEGOTIATION")


class Found(NamedTuple):
    """The upstream and where it was found: `--upstream`, `DATABASE_URL in .env.test` …"""

    address: UpstreamAddress
    origin: str


@dataclass(slots=True)
class Rewritten:
    """What CMD gets. `changed` and `left_alone` are words for people, without any secret."""

    env: dict[str, str] = field(repr=False)
    changed: list[str] = field(default_factory=list)
    """Names, with the file where it was one: `DATABASE_URL (.env)`."""
    left_alone: list[str] = field(default_factory=list)
    """Names with the reason: `REPORTS_URL (names reports.example:5432)`."""
    connection_limit: int | None = None
    """The smallest of those in the URLs."""
    pool_timeout: float | None = None
    """Seconds, the smallest of those in the URLs."""
    limited: dict[str, list[str]] = field(default_factory=dict)
    """Name → which of the two it has; libpq refuses such a URL."""
    ignored: list[str] = field(default_factory=list)
    """Limits in URLs that say nothing, and what would: `DATABASE_URL: connection_limit=abc, which
    should be a whole number,`."""
    lowered: list[str] = field(default_factory=list)
    """Demands for TLS that are met behind the guard: `DATABASE_URL: sslmode=verify-full`."""
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    """User → password of every URL that was rewritten."""

    def line(self, found: Found) -> str:
        """What was rewritten and from where, in one line."""
        place = Address(found.address.host, found.address.port)
        text = f"rewrote {', '.join(self.changed)} (upstream {place} from {found.origin})"
        return text + (f"; left alone: {', '.join(self.left_alone)}" if self.left_alone else "")

    def lowered_lines(self, way: Way) -> list[str]:
        """What is to be said of TLS, if anything: a line."""
        if not self.lowered:
            return []
        here = "TLS without verification" if way.here == "require" else "plain text"
        met = f"{', '.join(self.lowered)}: met between pgguard and the server ({way.there})"
        return [f"{met}, {here} between CMD and pgguard"]

    def limit_lines(self) -> list[str]:
        """What is to be said of the limits in the URLs: a line each."""
        lines = [f"{place} is ignored" for place in self.ignored]
        if self.limited:
            names = dict.fromkeys(name for names in self.limited.values() for name in names)
            keys = " and ".join(f"limits.{name}" for name in names)
            lines.append(
                f"{' and '.join(names)} of {', '.join(self.limited)}: pgguard applies such limits"
                " itself, and drivers that use libpq (psql, psycopg) refuse the URL (invalid URI"
                f' query parameter: "{next(iter(names))}"); for these set {keys} instead'
            )
        return lines


class Way(NamedTuple):
    """The TLS on the way: of CMD to the guard, and `there` of the guard to the server."""

    here: str = "disable"
    there: str = "prefer"


class _Place(NamedTuple):
    host: str
    port: int


def find_upstream(given: str | None, origin: str, env: Mapping[str, str], cwd: Path) -> Found:
    """The database to guard: `given` (a flag or a setting, found at `origin`), else what the
    environment and then `.env.test` and `.env` say.

    Raises SettingsError with the ways to say it, or where the URL found cannot be honoured.
    """
    if given:
        return _found(given, origin, env)
    others: list[SettingsError] = []
    for names, where in _sources(env, cwd):
        for name in URL_NAMES:
            if is_postgres_url(names.get(name, "")):
                return _found(names[name], f"{name}{where}", {**env, **names})
            if names.get(name):
                others.append(_no_postgres(f"{name}{where}", names[name]))
        if any(names.get(name) for name in _PG_PLACE):
            merged = {**env, **names}
            url = f"postgresql://{merged.get('PGHOSTADDR', '')}"
            named = [name for name in _PG_PLACE if names.get(name)]
            return _found(url, f"{' and '.join(named)}{where}", merged)
    if others:
        raise others[0]
    raise SettingsError("no upstream: which database should be guarded?", hint=WAYS)


def rewrite(
    env: Mapping[str, str],
    upstream: UpstreamAddress,
    guard: Address,
    cwd: Path,
    way: Way = Way(),  # noqa: B008  it is immutable
) -> Rewritten:
    """`env` for CMD: every Postgres URL that names `upstream` names `guard` instead.

    So do those in `.env.test` and `.env`, exported because a loader leaves what is set alone.
    PGHOST and PGPORT are set unless they name another server. Raises SettingsError for a URL of
    the upstream that asks for more encryption than the way from the guard to the server has.
    """
    done = Rewritten(dict(env))
    target = _Place(_same(upstream.host), upstream.port)
    _keep_secret(done, upstream.user, upstream.password)
    for names, where in _sources(env, cwd):
        for name, value in names.items():
            if name.startswith("PGGUARD_") or not _is_any_url(value):
                continue
            if not where or name not in done.env:
                _rewrite_one(done, name, where, value, (target, guard, way))
    _keep_limits(done, "the upstream's URL", upstream.query)
    _rewrite_place(done, env, cwd, target, guard)
    _lower_variables(done, way)
    return done


def provide(env: Mapping[str, str], guard: UpstreamAddress) -> Rewritten:
    """`env` for CMD when the database is our own: the usual names all lead to it."""
    done = Rewritten(dict(env))
    for name in URL_NAMES:
        match = _AUTHORITY.fullmatch(env.get(name, ""))
        scheme = match["head"].removesuffix("://") if match else guard.scheme
        done.env[name] = guard.url.replace(guard.scheme, scheme, 1)
        if scheme.lower().startswith("jdbc:"):
            place = Address(guard.host, guard.port)
            done.env[name] = (
                f"{scheme}://{place}/{guard.database}?user={guard.user}&password={guard.password}"
            )
    done.env |= {
        "PGHOST": guard.host,
        "PGPORT": str(guard.port),
        "PGUSER": guard.user,
        "PGPASSWORD": guard.password or "",
        "PGDATABASE": guard.database,
    }
    for name in _PG_ELSEWHERE:
        done.env.pop(name, None)
    done.changed = [*URL_NAMES, "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"]
    for name, value in env.items():
        if name not in done.changed and not name.startswith("PGGUARD_") and _is_any_url(value):
            done.left_alone.append(f"{name} ({_named(value)})")
    return done


def overrides(cwd: Path, names: list[str]) -> list[str]:
    """Places in `.env` files that set one of `names`: `.env:3 sets DATABASE_URL`.

    A loader that overrides the environment leads CMD around the guard with them.
    """
    wanted = {name.partition(" ")[0] for name in names}
    return [
        f"{file.name}:{line.number} sets {name}"
        for file in sorted(cwd.glob(".env*"))
        for name, line in read_dotenv(file, {}).items()
        if name in wanted
    ]


def _sources(env: Mapping[str, str], cwd: Path) -> Iterator[tuple[Mapping[str, str], str]]:
    yield env, ""
    for file in DOTENV_FILES:
        lines = read_dotenv(cwd / file, env)
        yield {name: line.value for name, line in lines.items()}, f" in {file}"


def _found(url: str, origin: str, env: Mapping[str, str]) -> Found:
    try:
        address = parse_url(url, env)
        check_demands(address.query)
    except SettingsError as error:
        raise SettingsError(error.message, where=origin, hint=error.hint) from None
    # libpq takes what the URL does not say from the environment; so a demand there counts.
    asked = with_variables(address.query, env)
    for variable, parameter in VARIABLES.items():
        if parameter in asked and parameter not in address.query:
            try:
                check_demands(
                    {parameter: asked[parameter], "sslmode": asked.get("sslmode", "prefer")}
                )
            except SettingsError as error:
                raise SettingsError(error.message, where=variable, hint=error.hint) from None
    return Found(replace(address, query=asked), origin)


def _no_postgres(where: str, url: str) -> SettingsError:
    scheme = _SCHEME.match(url)
    kind = f" but one for {scheme[0]}" if scheme else ""
    return SettingsError(f"not a Postgres URL{kind}", where=where, hint=WAYS)


def _is_any_url(value: str) -> bool:
    return is_postgres_url(value) or value.startswith("jdbc:postgresql:")


def _rewrite_one(
    done: Rewritten, name: str, where: str, value: str, means: tuple[_Place, Address, Way]
) -> None:
    target, guard, way = means
    shown = f"{name} ({where.removeprefix(' in ')})" if where else name
    match = _AUTHORITY.fullmatch(value)
    place = _place_of(match) if match else None
    unreachable = is_directory(guard.host) and value.lower().startswith(_JDBC)
    if match is None or place != target or unreachable:
        # Another server in a file is nobody's business: the file may not be loaded at all.
        if not where:
            done.left_alone.append(f"{shown} ({_named(value)})")
        return
    try:
        address = parse_url(value, done.env)
        check_demands(address.query)
        if not is_directory(target.host):
            # Over a unix socket no driver asks for TLS.
            _check_met(address.query, way)
    except SettingsError as error:
        raise SettingsError(error.message, where=shown, hint=error.hint) from None
    done.env[name] = _at(match, guard, way)
    done.changed.append(shown)
    if is_more(mode_of(address.query), way.here) and not is_directory(target.host):
        done.lowered.append(f"{shown}: {_demand(address.query)}")
    _keep_secret(done, address.user, address.password)
    _keep_limits(done, shown, address.query)
    limits = [parameter for parameter in LIMITS if parameter in address.query]
    if limits and not value.lower().startswith("jdbc:"):
        done.limited[shown] = limits


def _rewrite_place(
    done: Rewritten, env: Mapping[str, str], cwd: Path, target: _Place, guard: Address
) -> None:
    named: dict[str, str] = {}
    for names, _ in _sources(env, cwd):
        named = named or {name: names[name] for name in _PG_PLACE if names.get(name)}
    host = named.get("PGHOSTADDR") or named.get("PGHOST") or target.host
    port = named.get("PGPORT") or (str(DEFAULT_PORT) if "PGHOST" in named else str(target.port))
    if (_same(host), port) != (target.host, str(target.port)):
        place = str(Address(host, int(port))) if port.isdecimal() else f"{host}:{port}"
        done.left_alone.append(f"{' and '.join(named)} (names {place})")
        return
    done.env |= {"PGHOST": guard.host, "PGPORT": str(guard.port)}
    done.env.pop("PGHOSTADDR", None)
    done.changed += ["PGHOST", "PGPORT"]
    if named:
        _keep_secret(done, env.get("PGUSER", ""), env.get("PGPASSWORD"))


def _place_of(match: re.Match[str]) -> _Place | None:
    """Host and port that the URL names; None for several hosts and what is unreadable."""
    query = dict(_parameters(match["query"]))
    text = match["place"]
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    # libpq: what the query says wins over what stands before it.
    host, port = query.get("host") or unquote(host), query.get("port") or port
    if not host or "," in host + port:
        return None
    if port and not port.isdecimal():
        return None
    return _Place(_same(host), int(port or DEFAULT_PORT))


def _at(match: re.Match[str], guard: Address, way: Way) -> str:
    """The URL with another host and port, and TLS as the guard has it; every other byte stays."""
    moved = {"host": quote(guard.host), "port": str(guard.port)}
    asked = mode_of(dict(_parameters(match["query"])))
    if is_more(asked, way.here):
        moved |= {"sslmode": way.here, "ssl": "false" if way.here == "disable" else "require"}

    def move(parameter: re.Match[str]) -> str:
        name = parameter["name"]
        return f"{name}={moved[name]}" if name in moved else parameter[0]

    query = _PARAMETER.sub(move, _without(match["query"] or "", _OF_THE_SERVER))
    place, named = str(guard) if match["place"] else "", dict(_parameters(match["query"]))
    if is_directory(guard.host):
        place, more = _at_socket(match["place"], guard, named)
        query += more if query else more.replace("&", "?", 1)
    elif "port" not in named and not match["place"]:
        query += f"&port={guard.port}"
    userinfo = match["userinfo"] or ""
    return f"{match['head']}{userinfo}{place}{match['path']}{query}{match['tail'] or ''}"


def _at_socket(place: str, guard: Address, named: Mapping[str, str]) -> tuple[str, str]:
    """What stands for the place in a URL whose driver is led to a unix socket, and what its query
    needs more: the form that the URL had stays, because not every driver reads each."""
    port = "" if "port" in named else f"&port={guard.port}"
    if "host" in named:
        host = place.rpartition(":")[0] or place
        return (f"{host}:{guard.port}" if place else ""), port
    if is_directory(unquote(place)):
        return f"{quote(guard.host, safe='')}:{guard.port}", ""
    return "", f"&host={quote(guard.host)}{port}"


def _without(query: str, names: frozenset[str]) -> str:
    """A query with its `?` and without some parameters."""
    kept = [part for part in query[1:].split("&") if part.partition("=")[0] not in names]
    return f"?{'&'.join(kept)}" if query and kept else ""


def _demand(query: Mapping[str, str]) -> str:
    """What of a URL asks for TLS."""
    name = next((name for name in ("sslmode", "ssl") if name in query), "sslrootcert")
    return f"{name}={query.get(name, '')}"


def _check_met(query: Mapping[str, str], way: Way) -> None:
    if is_more(mode_of(query), way.there):
        raise SettingsError(
            f"{_demand(query)} asks for more than the way from pgguard to the server has"
            f" ({way.there})",
            hint=f"set upstream.tls = {mode_of(query)}",
        )


def _lower_variables(done: Rewritten, way: Way) -> None:
    """What libpq would ask of the guard because the environment says so."""
    value = done.env.get("PGSSLMODE")
    mode = mode_of({"sslmode": value}) if value else None
    # What the way to the server does not have either stays, and libpq refuses to go on.
    if is_more(mode, way.here) and not is_more(mode, way.there):
        done.env["PGSSLMODE"] = way.here
        done.lowered.append(f"PGSSLMODE={value}")
    if done.lowered:
        for name in _PG_OF_THE_SERVER:
            done.env.pop(name, None)


def _parameters(query: str | None) -> Iterator[tuple[str, str]]:
    for match in _PARAMETER.finditer(query or ""):
        yield unquote(match["name"]), unquote(match["value"])


def _named(value: str) -> str:
    """What a URL that is left alone names, without its secrets."""
    match = _AUTHORITY.fullmatch(value)
    if match is None:
        return "has no host"
    if "," in match["place"]:
        return "names several hosts"
    place = _place_of(match)
    if place is None:
        return "names no host and port"
    return f"names {Address(*place)}"


def _same(host: str) -> str:
    """One spelling per host: the loopback has several names, and a directory may have links."""
    if is_directory(host):
        return os.path.realpath(host) if host.startswith("/") else host
    host = host.lower().rstrip(".")
    return "localhost" if host in _LOCAL else host


def _keep_secret(done: Rewritten, user: str, password: str | None) -> None:
    if user and password:
        done.secrets.setdefault(user, password)


def _keep_limits(done: Rewritten, name: str, query: Mapping[str, str]) -> None:
    """Prisma's parameters. A 0 means no limit; what is no number is said to be ignored, once."""
    limit, timeout = (query.get(parameter) for parameter in LIMITS)
    if limit is not None and not limit.isdecimal():
        _ignore(done, name, "connection_limit", limit, "a whole number")
    elif limit and int(limit):
        done.connection_limit = min(int(limit), done.connection_limit or int(limit))
    seconds = _seconds(timeout or "0")
    if seconds is None:
        _ignore(done, name, "pool_timeout", timeout or "", "a number of seconds")
    elif seconds:
        done.pool_timeout = min(seconds, done.pool_timeout or seconds)


def _ignore(done: Rewritten, name: str, parameter: str, value: str, form: str) -> None:
    """The upstream's URL is mostly one of the variables, which were read before it."""
    what = f"{parameter}={quote(value, safe='')[:40]}, which should be {form},"
    if not any(known.endswith(f": {what}") for known in done.ignored):
        done.ignored.append(f"{name}: {what}")


def _seconds(text: str) -> float | None:
    try:
        return read_duration(text, bare=True)
    except ValueError:
        return None
