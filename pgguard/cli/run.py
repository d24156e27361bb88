"""`pgguard run -- CMD`: guard a database for the length of one command.

Finds the database as CMD would, guards it on a free port, leads CMD there by its environment, and
ends with CMD's own exit code. Exit codes otherwise: 2 usage and settings, 3 no upstream answered,
70 CMD succeeded and the policy failed.

Laws: CMD's streams are CMD's; whatever was started is gone at the end, whichever way it came.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgguard.cli.guarding import say
from pgguard.cli.options import config_option, verbosity_options
from pgguard.errors import LaunchError, ServerUnavailable, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgguard.app import Guard
    from pgguard.launch.child import Supervisor
    from pgguard.launch.embedded import EmbeddedPostgres
    from pgguard.launch.environment import Found, Rewritten, Way
    from pgguard.report.summary import RunSummary
    from pgguard.settings import Loaded, Settings
    from pgguard.settings.upstream import UpstreamAddress

EXIT_POLICY = 70
GRACE = 2.0
"""Seconds that statements of processes which CMD left behind may still take."""
REPORTS = ("json", "text")
NOT_YET = ("html", "junit", "sarif", "github")


@dataclass(slots=True)
class Wanted:
    """What was typed."""

    command: tuple[str, ...]
    embedded: bool = False
    setup: tuple[str, ...] = ()
    reports: tuple[tuple[str, Path], ...] = ()
    quiet: bool = False
    verbose: bool = False
    name: str = field(default="")

    def tell(self, text: str) -> None:
        if not self.quiet:
            say(text)


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, metavar="[--] CMD [ARG]...")
@click.option("--upstream", metavar="URL", help="The database; without it as CMD would find it.")
@click.option("--embedded", is_flag=True, help="Start a throw-away Postgres and guard that.")
@click.option(
    "--setup", multiple=True, metavar="CMD", help="Run this shell command first; repeatable."
)
@click.option(
    "--fail-on",
    metavar="CLASS,...",
    help="Exit with 70 if there are such findings: unscoped, cross_tenant, by_id, unknown,"
    " exhaustion, internal.",
)
@click.option("--report", multiple=True, metavar="FORMAT=PATH", help="json or text, repeatable.")
@click.option("--listen", metavar="HOST:PORT", help="Wire address; without it a free port.")
@click.option("--http", metavar="HOST:PORT", help="HTTP address; without it a free port.")
@config_option
@verbosity_options
def command(
    command: tuple[str, ...],
    upstream: str | None,
    embedded: bool,
    setup: tuple[str, ...],
    fail_on: str | None,
    report: tuple[str, ...],
    listen: str | None,
    http: str | None,
    config: Path | None,
    quiet: bool,
    verbose: bool,
) -> int:
    """Run CMD, mostly tests, guarded: connections shared fairly, unscoped SQL named.

    The database is found as CMD would find it, every variable that names it leads to the guard, a
    summary comes at the end, and the exit status is that of CMD.
    """
    import asyncio

    from pgguard.cli.options import load_settings
    from pgguard.launch.child import Interrupted, check_command
    from pgguard.net.loop import loop_factory

    if not command:
        raise click.UsageError("Which command should run? For example: pgguard run -- pytest -n 8")
    if embedded and upstream:
        raise click.UsageError("--embedded and --upstream exclude each other.")
    wanted = Wanted(command, embedded, setup, tuple(map(_report, report)), quiet, verbose)
    check_command(command, os.environ)
    flags = {
        "upstream.url": upstream,
        "run.fail_on": fail_on,
        "listen.address": listen,
        "http.address": http,
    }
    loaded = load_settings(config, flags, quiet=quiet, verbose=verbose)
    try:
        with asyncio.Runner(loop_factory=loop_factory(os.environ)) as runner:
            return runner.run(_run(wanted, loaded))
    except Interrupted as error:
        say(str(error))
        return error.exit_code


def _report(text: str) -> tuple[str, Path]:
    form, _, path = text.partition("=")
    if form in NOT_YET:
        raise SettingsError(f'"{form}" is not in this version', where="--report")
    if form not in REPORTS or not path:
        raise click.UsageError(f"--report {text}: give json=PATH or text=PATH.")
    return form, Path(path)


async def _run(wanted: Wanted, loaded: Loaded) -> int:
    from pgguard.cli import logs
    from pgguard.cli.guarding import on_free_ports, own_socket, with_values
    from pgguard.launch.child import Supervisor
    from pgguard.launch.embedded import EmbeddedPostgres, sweep
    from pgguard.launch.environment import Found, find_upstream
    from pgguard.settings.upstream import parse_url

    settings = on_free_ports(loaded)
    default = loaded.origins["log.level"] == "default"
    logs.set_up(settings.log, level="warning" if default else "", beside=True)
    async with Supervisor() as supervisor:
        if wanted.embedded:
            async with EmbeddedPostgres() as server:
                found = Found(parse_url(server.url, {}), _embedded_origin(server))
                settings = with_values(
                    settings, {"upstream.url": server.url, "upstream.tls": "disable"}
                )
                return await _guarded(wanted, loaded, settings, found, supervisor)
        sweep()
        origin = loaded.origins["upstream.url"]
        found = find_upstream(settings.upstream.url, origin, os.environ, Path.cwd())
        settings = with_values(settings, {"upstream.url": found.address.url})
        with own_socket(settings, found.address) as settings:
            return await _guarded(wanted, loaded, settings, found, supervisor)


def _embedded_origin(server: EmbeddedPostgres) -> str:
    binaries = server.binaries
    return f"--embedded: PostgreSQL {binaries.version}, {binaries.source}" if binaries else ""


async def _guarded(
    wanted: Wanted, loaded: Loaded, settings: Settings, found: Found, supervisor: Supervisor
) -> int:
    import time

    from pgguard.app import Guard
    from pgguard.cli import logs
    from pgguard.cli.guarding import addresses, beside, door, with_values
    from pgguard.cli.troubles import start
    from pgguard.launch.environment import Way
    from pgguard.launch.runs import run_name
    from pgguard.settings.encryption import demanded

    wanted.name = run_name(time.time(), os.getpid())
    demand = demanded(settings.upstream, found.address.query, os.environ)
    way = Way(there=demand.mode)
    rewritten = _rewritten(wanted, found, found.address, way)
    settings = with_values(settings, _limits(loaded, rewritten))
    guard = Guard(settings, secrets=rewritten.secrets, name=wanted.name)
    await start(guard)
    try:
        wanted.tell(addresses(guard))
        await _wait(guard, found)
        host, port = door(guard)
        way = Way("require" if guard.tls.offered else "disable", guard.tls.mode)
        rewritten = _rewritten(wanted, found, guard.upstream_at(host, port), way)
        wanted.tell(rewritten.line(found))
        for line in [*rewritten.lowered_lines(way), *rewritten.limit_lines(), *beside(guard)]:
            wanted.tell(line)
        code, ran = await _commands(wanted, supervisor, rewritten)
    finally:
        await guard.stop(GRACE)
    logs.flush()
    summary = _summary(wanted, guard, rewritten, found, ran=ran)
    failed = _failed_classes(summary, settings.run.fail_on) if code == 0 else {}
    report = _write(wanted, guard, summary, settings.run.keep, EXIT_POLICY if failed else code)
    # A set-up that failed has said so; more is to be told only if we were the cause.
    if ran or any(row.refused for row in summary.clients):
        _tell(wanted, summary, report)
    if failed:
        say(f"failed by policy: {', '.join(f'{name} ({n})' for name, n in failed.items())}")
        return EXIT_POLICY
    if code == 0 and (classes := _policy(summary)):
        wanted.tell(f"exit status unchanged; --fail-on {classes} fails the run")
    return code


def _summary(
    wanted: Wanted, guard: Guard, rewritten: Rewritten, found: Found, *, ran: bool
) -> RunSummary:
    """What the run came to; where nothing came, with the likely cause and what to do."""
    from pgguard.cli.nothing import why
    from pgguard.report.summary import Outcome

    left = guard.hub.counters.logins_ended
    reason, remedy = why(rewritten, found, left, Path.cwd(), embedded=wanted.embedded)
    summary = guard.summary(reason_nothing=reason if ran else "CMD was not started")
    if summary.outcome is Outcome.NOTHING and ran:
        summary.advice = [remedy]
    return summary


async def _wait(guard: Guard, found: Found) -> None:
    """Until Postgres has answered. Raises ServerUnavailable, which alone says why it did not."""
    from pgguard.cli import logs, troubles
    from pgguard.settings.values import Address, show_duration

    try:
        with logs.held_back():
            await guard.wait_upstream()
    except ServerUnavailable as error:
        address = Address(found.address.host, found.address.port)
        waited = show_duration(guard.settings.upstream.wait)
        raise troubles.unavailable(error, address, found.origin, waited) from None


def _rewritten(wanted: Wanted, found: Found, guard: UpstreamAddress, way: Way) -> Rewritten:
    from pgguard.launch.environment import provide, rewrite
    from pgguard.settings.values import Address

    if wanted.embedded:
        return provide(os.environ, guard)
    place = Address(guard.host, guard.port)
    return rewrite(os.environ, found.address, place, Path.cwd(), way)


def _limits(loaded: Loaded, rewritten: Rewritten) -> dict[str, float]:
    """The limits in CMD's own URLs apply; what the settings say themselves can only be lowered."""
    values: dict[str, float] = {}
    for name, given in (
        ("connection_limit", rewritten.connection_limit),
        ("pool_timeout", rewritten.pool_timeout),
    ):
        key = f"limits.{name}"
        if given is not None:
            own = getattr(loaded.settings.limits, name)
            values[key] = given if loaded.origins[key] == "default" else min(given, own)
    return values


async def _commands(
    wanted: Wanted, supervisor: Supervisor, rewritten: Rewritten
) -> tuple[int, bool]:
    """Exit code, and whether CMD itself ran: a set-up that fails is the end."""
    from pgguard.launch.child import shell

    for line in wanted.setup:
        wanted.tell(f"setup: {line}")
        code = await supervisor.run(shell(line), rewritten.env, output=sys.__stderr__)
        if code:
            say(f"setup ended with {code}, CMD not started: {line}")
            return code, False
    return await supervisor.run(wanted.command, rewritten.env), True


def _failed_classes(summary: RunSummary, wanted: Iterable[str]) -> dict[str, int]:
    found = [finding.cls for finding in summary.findings]
    return {name: found.count(name) for name in wanted if name in found}


def _policy(summary: RunSummary) -> str:
    """The classes of the errors that were found."""
    from pgguard.record.findings import severity

    errors = (finding for finding in summary.findings if severity(finding) == "error")
    return ",".join(dict.fromkeys(finding.cls for finding in errors))


def _write(wanted: Wanted, guard: Guard, summary: RunSummary, keep: int, code: int) -> str:
    """All reports; the path to tell. A report that fails does not fail a run."""
    from pgguard.cli.guarding import facts, write_report, write_reports
    from pgguard.launch.runs import create_run

    run = facts(guard, command=list(wanted.command), exit_code=code)
    report = ""
    try:
        report = write_reports(summary, run, create_run(Path.cwd(), wanted.name, keep))
        for form, path in wanted.reports:
            write_report(form, summary, run, path, report)
    except LaunchError as error:
        say(str(error))
    return report


def _tell(wanted: Wanted, summary: RunSummary, report: str) -> None:
    from pgguard.cli.guarding import print_summary
    from pgguard.report.summary import Outcome

    if not wanted.quiet or summary.outcome in (Outcome.NOT_HELD, Outcome.NOTHING):
        print_summary(summary, report)
