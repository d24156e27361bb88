"""`pgguard doctor`: what is wrong with this set-up, one line for each thing looked at.

Laws: nothing is changed anywhere; every check stands alone, so that one that fails hides no other;
a line that is not `ok` says what to do; no line holds a secret.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from pgguard.cli.options import config_option
from pgguard.errors import LaunchError, PgGuardError, ServerUnavailable, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgguard.net.service import Rows
    from pgguard.settings import Address, Loaded, Settings, UpstreamAddress
    from pgguard.settings.encryption import Demand

OK, WARN, FAIL = "ok", "warn", "fail"
OLDEST_SERVER = 14
EXTENSIONS = ("pgcrypto", "uuid-ossp")
NO_UPSTREAM = (
    "set DATABASE_URL, PGGUARD_UPSTREAM or upstream.url in pgguard.toml, give --upstream URL, or"
    " let `run --embedded` start a Postgres"
)
EXTENSIONS_QUERY = "SELECT name FROM pg_catalog.pg_available_extensions"


class Check(NamedTuple):
    """What was looked at, how it is, and what to do where it is not `ok`."""

    name: str
    level: str
    text: str
    remedy: str = ""

    def line(self) -> str:
        tail = f" → {self.remedy}" if self.remedy else ""
        return f"{self.level:<4}  {self.name:<9}  {self.text}{tail}"


class Probed(NamedTuple):
    """What the server said: its version, its limits, its other sessions, its extensions."""

    version: str
    limits: Rows
    others: Rows
    extensions: Rows
    tls: str = ""
    """The version of TLS, `TLSv1.3`; empty in plain text."""


@click.command("doctor")
@config_option
@click.option("--upstream", metavar="URL", help="The database to look at.")
def command(config: Path | None, upstream: str | None) -> int:
    """Say what is wrong with this set-up; exit 1 when something cannot work."""
    checks = list(examine_all(config, upstream, os.environ, Path.cwd()))
    for check in checks:
        click.echo(check.line())
    return 1 if any(check.level == FAIL for check in checks) else 0


def examine_all(
    config: Path | None, upstream: str | None, env: Mapping[str, str], cwd: Path
) -> Iterator[Check]:
    """All checks, in an order in which the cause stands before its effects."""
    yield from check_versions()
    loaded, problems = _load(config, upstream, env, cwd)
    yield from check_settings(loaded, problems)
    yield from check_dotenv(cwd)
    yield from check_embedded(env, cwd)
    if loaded is not None:
        yield from check_ports(loaded.settings)
        yield from check_upstream(loaded, env, cwd)


def check_versions() -> Iterator[Check]:
    from pgguard.cli.versions import version_lines

    try:
        lines = version_lines()
    except SettingsError as error:
        yield Check("versions", FAIL, error.message, error.hint)
        return
    slow = "event loop asyncio" in lines
    remedy = "install uvloop, or unset PGGUARD_LOOP: the stock loop is slower" if slow else ""
    yield Check("versions", WARN if slow else OK, ", ".join(lines), remedy)


def check_settings(loaded: Loaded | None, problems: list[SettingsError]) -> Iterator[Check]:
    for problem in problems:
        text = f"{problem.where}: {problem.message}" if problem.where else problem.message
        yield Check("settings", FAIL, text, problem.hint or _meaning(problem))
    if loaded is not None:
        origins = loaded.origins.items()
        given = [key for key, origin in origins if not origin.startswith(("default", "preset "))]
        source = str(loaded.file) if loaded.file else "no settings file"
        changed = f"given: {', '.join(given)}" if given else "all defaults"
        yield Check("settings", OK, f"{source}; {changed}")


def _meaning(problem: SettingsError) -> str:
    """What the key of a wrong value is for, and what it is by default."""
    from pgguard.settings import Settings, schema

    named = [key for key in schema.fields() if problem.message.startswith(key)]
    if not named:
        return "correct the file; `pgguard config schema` helps an editor to do so"
    key = max(named, key=len)
    default = schema.shown(key, schema.value_of(Settings(), key))
    return f"{schema.describe(key)} Default: {default or 'not set'}."


def check_dotenv(cwd: Path) -> Iterator[Check]:
    from pgguard.launch.environment import URL_NAMES, overrides

    found = overrides(cwd, [*URL_NAMES, "PGHOST", "PGPORT"])
    for place in found:
        remedy = (
            "fine while its loader keeps what `pgguard run` has set; with `override: true` the"
            " tests would go past pgguard"
        )
        yield Check(".env", WARN, place, remedy)
    if not found:
        yield Check(".env", OK, "no file names a database")


def check_embedded(env: Mapping[str, str], cwd: Path) -> Iterator[Check]:
    from pgguard.launch.binaries import find_binaries, install_line

    try:
        found = find_binaries(env, cwd)
    except LaunchError as error:
        text = str(error).splitlines()[0]
        wrong = "PGGUARD_PG_BIN" in text
        remedy = "name a directory with postgres and initdb" if wrong else install_line("embedded")
        yield Check("embedded", FAIL if wrong else WARN, text, remedy)
        return
    yield Check("embedded", OK, f"Postgres {found.version} in {found.directory} ({found.source})")


def check_ports(settings: Settings) -> Iterator[Check]:
    wanted = (("listen.address", settings.listen.address), ("http.address", settings.http.address))
    for key, address in wanted:
        if address is not None:
            yield _check_port(key, address)
    if settings.listen.unix is not None:
        yield _check_socket(settings.listen.unix, settings.listen.address)


def _check_socket(directory: str, address: Address | None) -> Check:
    from pgguard.net.doors import DEFAULT_PORT
    from pgguard.net.unix import listener_at
    from pgguard.settings.values import socket_path

    path = socket_path(directory, address.port if address else DEFAULT_PORT)
    remedy = "`serve` needs it: end that process or set listen.unix"
    if not directory.startswith("@") and not Path(directory).is_dir():
        return Check("ports", WARN, f"no directory {directory} (listen.unix)", "make it")
    try:
        holder = listener_at(path)
    except OSError as error:
        return Check("ports", WARN, f"{path}: {error.strerror or error} (listen.unix)", remedy)
    if holder:
        return Check("ports", WARN, f"{path}: {holder} (listen.unix)", remedy)
    return Check("ports", OK, f"{path} is free (listen.unix)")


def _check_port(key: str, address: Address) -> Check:
    from pgguard.cli.troubles import taken
    from pgguard.net.listener import bind

    try:
        sockets = bind(address.host, address.port, what=key)
    except SettingsError as error:
        remedy = f"`serve` needs it: stop that program or set {key}; `run` takes a free port"
        return Check("ports", WARN, taken(error, address).message, remedy)
    for sock in sockets:
        sock.close()
    return Check("ports", OK, f"{address} is free ({key})")


def check_upstream(loaded: Loaded, env: Mapping[str, str], cwd: Path) -> Iterator[Check]:
    from pgguard.cli.troubles import cause, remedy
    from pgguard.launch.environment import find_upstream
    from pgguard.settings import Address
    from pgguard.settings.encryption import demanded

    settings = loaded.settings
    origin = loaded.origins["upstream.url"]
    try:
        address, found_at = find_upstream(settings.upstream.url, origin, env, cwd)[:2]
    except SettingsError as error:
        missing = settings.upstream.url is None and not error.where
        text = f"{error.where}: {error.message}" if error.where else error.message
        advice = NO_UPSTREAM if missing else error.hint
        yield Check("upstream", WARN if missing else FAIL, text, advice)
        return
    name = f"{address.masked} (from {found_at})"
    try:
        demand = demanded(settings.upstream, address.query, env)
        probed = asyncio.run(probe(address, settings.upstream.connect_timeout, demand))
    except SettingsError as error:
        text = f"{name}: {error.where}: {error.message}" if error.where else error.message
        yield Check("upstream", FAIL, text, error.hint)
        return
    except (PgGuardError, OSError) as error:
        what = cause(error, Address(address.host, address.port))
        yield Check("upstream", FAIL, f"{name}: {what}", remedy(error))
        return
    old = int(probed.version.split(".")[0]) < OLDEST_SERVER
    advice = f"pgguard is tested with {OLDEST_SERVER} and newer" if old else ""
    yield Check("upstream", WARN if old else OK, f"Postgres {probed.version} at {name}", advice)
    yield check_tls(probed, demand.mode, address.host)
    yield check_limits(probed, settings)
    yield from check_guards(probed, settings)
    here = {row[0] for row in probed.extensions}
    absent = [extension for extension in EXTENSIONS if extension not in here]
    text = f"{', '.join(absent)} not available" if absent else f"{', '.join(EXTENSIONS)} available"
    advice = "use gen_random_uuid(), or a Postgres with its contrib modules" if absent else ""
    yield Check("upstream", WARN if absent else OK, text, advice)


def check_tls(probed: Probed, mode: str, host: str) -> Check:
    """Whether the way to the server is encrypted, and what of the server is verified."""
    from pgguard.settings.values import is_directory

    if is_directory(host):
        return Check("tls", OK, "a unix socket to the server, which needs none")
    if not probed.tls:
        return Check("tls", OK, f"plain text to the server (upstream.tls = {mode})")
    verified = {"verify-ca": "its certificate verified", "verify-full": "its name verified, too"}
    words = verified.get(mode, "its certificate not verified")
    return Check("tls", OK, f"{probed.tls} to the server, {words} (upstream.tls = {mode})")


def check_limits(probed: Probed, settings: Settings) -> Check:
    """Whether the caps fit into what the server has left."""
    from pgguard.net.limits import MARGIN

    maximum, reserved, also = (int(value or 0) for value in probed.limits[0])
    others = len(probed.others)
    auto = max(1, maximum - reserved - also - others - MARGIN)
    text = (
        f"max_connections {maximum}, reserved {reserved + also}, held by others {others}, "
        f"margin {MARGIN}: limits.total = auto gives {auto}"
    )
    limits = settings.limits
    if limits.total is not None and limits.total > auto:
        remedy = f"limits.total is {limits.total}: lower it, or close what others hold"
        return Check("limits", WARN, text, remedy)
    if limits.connection_limit > (limits.total or auto):
        remedy = f"limits.connection_limit is {limits.connection_limit}: no client can reach it"
        return Check("limits", WARN, text, remedy)
    return Check("limits", OK, text)


def check_guards(probed: Probed, settings: Settings) -> Iterator[Check]:
    """Which other guards are on the same server."""
    from pgguard.pool.neighbours import announced

    for guard in announced((row[2] for row in probed.others), (0, "", 0)).values():
        text = f"{guard.describe()}, on the same Postgres"
        if settings.limits.total is None:
            yield Check("guards", OK, f"{text}: limits.total = auto shares with it")
        else:
            remedy = f"limits.total is {settings.limits.total}: auto would share with it"
            yield Check("guards", WARN, text, remedy)


async def probe(address: UpstreamAddress, seconds: float, demand: Demand) -> Probed:
    """Ask the server once.

    Raises ServerUnavailable, ProtocolViolation, OSError, and SettingsError for a certificate.
    """
    from pgguard.net.asking import connected
    from pgguard.net.certificates import encryption
    from pgguard.net.limits import BACKENDS_QUERY, LIMITS_QUERY

    tls = encryption(demand)
    try:
        async with (
            asyncio.timeout(seconds),
            connected(address, seconds, tls, name="pgguard/doctor") as connection,
        ):
            queries = (LIMITS_QUERY, BACKENDS_QUERY, EXTENSIONS_QUERY)
            limits, backends, extensions = [await connection.query(sql) for sql in queries]
            others = [row for row in backends if row[0] != str(connection.pid)]
            version, spoken = connection.version, connection.tls
    except TimeoutError:
        raise ServerUnavailable(f"no answer within {seconds:g} s") from None
    return Probed(version, limits, others, extensions, spoken)


def _load(
    config: Path | None, upstream: str | None, env: Mapping[str, str], cwd: Path
) -> tuple[Loaded | None, list[SettingsError]]:
    from pgguard.settings import examine

    flags = {"upstream.url": upstream}
    try:
        return examine(config=config, env=env, flags=flags, cwd=cwd)
    except SettingsError as error:
        return None, [error]
