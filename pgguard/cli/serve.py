"""`pgguard serve`: guard a database until SIGTERM.

Listens before its database is there. SIGTERM and SIGINT drain: no new sessions, open transactions
get a grace time, exit 0; a second one ends that time, and never the clean-up. SIGHUP reads the
settings again and drops nobody; settings that are wrong leave the old ones in force.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import click

from pgguard.cli.guarding import beside, say
from pgguard.cli.options import config_option, verbosity_options
from pgguard.errors import ServerUnavailable, SettingsError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

    from pgguard.app import Guard
    from pgguard.settings import Loaded, Settings

FIRST_ANSWER = 1.0
"""Seconds that the four lines wait for the upstream's version."""
STOP = (signal.SIGTERM, signal.SIGINT)
GRACE = 6.0
"""Seconds that open transactions get after the first signal."""
LOOK_EVERY = 0.05
NAMED = 5
"""Clients that are named of those who were cut off."""


@click.command("serve")
@click.option("--upstream", metavar="URL", help="The database to guard.")
@click.option("--embedded", is_flag=True, help="Start a throw-away Postgres and guard that.")
@click.option("--listen", metavar="HOST:PORT", help="Wire address, 127.0.0.1:6433 without it.")
@click.option("--http", metavar="HOST:PORT", help="HTTP address, 127.0.0.1:6434 without it.")
@click.option("--ready-json", is_flag=True, help="Print one JSON line on stdout once ready.")
@config_option
@verbosity_options
def command(
    upstream: str | None,
    embedded: bool,
    listen: str | None,
    http: str | None,
    ready_json: bool,
    config: Path | None,
    quiet: bool,
    verbose: bool,
) -> int:
    """Guard a database until SIGTERM or Ctrl-C."""
    import asyncio

    from pgguard.cli.options import load_settings
    from pgguard.net.loop import loop_factory

    if embedded and upstream:
        raise click.UsageError("--embedded and --upstream exclude each other.")
    flags = {"upstream.url": upstream, "listen.address": listen, "http.address": http}

    def read() -> Loaded:
        return load_settings(config, flags, quiet=quiet, verbose=verbose)

    with asyncio.Runner(loop_factory=loop_factory(os.environ)) as runner:
        return runner.run(_serve(read, embedded=embedded, quiet=quiet, ready_json=ready_json))


async def _serve(
    read: Callable[[], Loaded], *, embedded: bool, quiet: bool, ready_json: bool
) -> int:
    import asyncio

    from pgguard.cli import logs
    from pgguard.cli.guarding import with_values
    from pgguard.launch.embedded import EmbeddedPostgres, sweep

    settings = read().settings
    logs.set_up(settings.log)
    stopping = _Stopping(asyncio.get_running_loop())
    if not embedded:
        sweep()
        if settings.upstream.url is None:
            raise SettingsError(
                "no upstream: which database should be guarded?",
                hint="give --upstream URL, set PGGUARD_UPSTREAM or upstream.url in pgguard.toml,"
                " or use --embedded",
            )
        guard = _guard(settings, lambda: read().settings)
        await _until_stopped(guard, stopping, quiet=quiet, ready_json=ready_json, secret="")
        return 0
    async with EmbeddedPostgres() as server:
        values: dict[str, Any] = {"upstream.url": server.url, "upstream.tls": "disable"}
        guard = _guard(with_values(settings, values), lambda: with_values(read().settings, values))
        await _until_stopped(
            guard, stopping, quiet=quiet, ready_json=ready_json, secret=server.password
        )
    return 0


def _guard(settings: Settings, reread: Callable[[], Settings]) -> Guard:
    from pgguard.app import Guard

    return Guard(settings, reread=reread)


class _Stopping:
    """The signals that end the process: the first one asks for it, the second one is in a hurry."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        import asyncio

        self.asked, self.hurried = asyncio.Event(), asyncio.Event()
        for number in STOP:
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        (self.hurried if self.asked.is_set() else self.asked).set()


async def _until_stopped(
    guard: Guard, stopping: _Stopping, *, quiet: bool, ready_json: bool, secret: str
) -> None:
    import asyncio

    from pgguard.cli import troubles

    await troubles.start(guard)
    cut_off: list[str] = []
    try:
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGHUP, lambda: pending.append(asyncio.ensure_future(_reload(guard)))
        )
        pending: list[asyncio.Future[None]] = []
        telling = asyncio.ensure_future(_tell(guard, quiet, ready_json, secret))
        await stopping.asked.wait()
        telling.cancel()
        if not quiet:
            say(
                f"stopping: no new sessions, open transactions get up to {GRACE:g} s;"
                " a second signal ends them at once"
            )
        cut_off = await _drain(guard, stopping.hurried)
    finally:
        await guard.stop(0.0)
    if cut_off or not quiet:
        say(_farewell(cut_off))


async def _drain(guard: Guard, hurried: asyncio.Event) -> list[str]:
    """Let nobody in, and let what is open come to its end. Who had not when the time was over: the
    client of each such session."""
    import asyncio

    guard.hub.drain()
    deadline = time.monotonic() + GRACE
    while busy := [
        server.client.key for server in guard.hub.servers if server.session or server.due
    ]:
        if hurried.is_set() or time.monotonic() > deadline:
            return busy
        await asyncio.sleep(LOOK_EVERY)
    return []


def _farewell(cut_off: list[str]) -> str:
    from pgguard.report.summary import plural

    if not cut_off:
        return "stopped, nobody was cut off"
    names = sorted(set(cut_off))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"stopped, {plural(len(cut_off), 'session')} cut off: {', '.join(names[:NAMED])}{more}"


async def _tell(guard: Guard, quiet: bool, ready_json: bool, secret: str) -> None:
    """The four lines, soon; the line for programs, once Postgres has answered."""
    import asyncio

    answered = asyncio.ensure_future(_wait(guard))
    await asyncio.wait([answered], timeout=FIRST_ANSWER)
    if not quiet:
        for line in [*_lines(guard, secret), *(f"beside      {line}" for line in beside(guard))]:
            say(line)
    if ready_json:
        await answered
        click.echo(json.dumps(_ready(guard)))


async def _wait(guard: Guard) -> None:
    """Until Postgres has answered, however long that takes."""
    import asyncio

    while True:
        try:
            await guard.wait_upstream()
        except ServerUnavailable:
            await asyncio.sleep(FIRST_ANSWER)
        else:
            return


def _lines(guard: Guard, secret: str) -> tuple[str, ...]:
    from dataclasses import replace

    from pgguard.cli.troubles import told
    from pgguard.settings.values import Address

    host, port = guard.listen
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
    # What a user knows is not repeated; the password that we made up is told, or it is no use.
    url = replace(guard.upstream_at(shown, port), password=secret or None).url
    too = f" or over {guard.unix}" if guard.unix not in (None, guard.listen) else ""
    upstream = Address(guard.upstream.host, guard.upstream.port)
    ready, why = guard.ready()
    version = guard.upstream_version.partition(" ")[0]
    state = f"PostgreSQL {version}" if ready else f"not ready yet: {told(why, upstream)}"
    return (
        f"connect to  {url}{too}",
        f"upstream    {upstream} ({state})",
        f"http        {guard.http} (/metrics /healthz /readyz /api/v1/clients)",
        "stop with   Ctrl-C or SIGTERM; SIGHUP reads the settings again",
    )


def _ready(guard: Guard) -> dict[str, Any]:
    host, port = guard.listen
    return {
        "url": guard.url,
        "host": host,
        "port": port,
        **({"unix": guard.unix.host} if guard.unix else {}),
        "http": guard.http,
        "upstream": guard.upstream.masked,
        "server_version": guard.upstream_version,
        "pid": os.getpid(),
    }


async def _reload(guard: Guard) -> None:
    try:
        await guard.reread()
    except SettingsError as error:
        say(f"settings not read again, the old ones stay: {error}")
