"""`pgguard demo`: a parallel suite that exhausts its database, directly and through pgguard.

Ten test files at once keep pools of 20 connections open in front of a Postgres that has 30. Exit
code 0 only if at least eight of them failed directly with Postgres's own "too many clients", all
passed through pgguard, and the two statements that were planted without a tenant were found; 1
otherwise. With `--mode session` at least eight must have been refused by pgguard, too: there a
pool keeps servers that it does not use.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgguard.cli.guarding import ANY_PORT, addresses, facts, say, with_values, write_reports
from pgguard.cli.options import config_option
from pgguard.errors import LaunchError
from pgguard.launch import suite

if TYPE_CHECKING:
    from pgguard.app import Guard
    from pgguard.cli.demo_screen import Comparison, Crowd, Progress
    from pgguard.core.hub import Hub
    from pgguard.launch.child import Supervisor
    from pgguard.launch.embedded import EmbeddedPostgres
    from pgguard.settings import Settings

CAP = 10
MODES = ("transparent", "session")
IN_VAIN = 5.0
"""Seconds that a connection waits in session mode, where the wait is in vain: idle connections of
pools give nothing back before their file ends."""
REFRESH = 0.1
TELL_EVERY = 1.0


@click.command("demo")
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default=MODES[0],
    show_default=True,
    help="How sessions share servers: transparent serves pools that are kept open, session shows "
    "what happens to them where each connection keeps a server.",
)
@config_option
def command(mode: str, config: Path | None) -> int:
    """Run a test suite that exhausts its database: directly, then through pgguard."""
    from pgguard.launch.child import Interrupted
    from pgguard.net.loop import loop_factory

    suite.require_extra()
    settings = _settings(config, mode)
    try:
        with asyncio.Runner(loop_factory=loop_factory(os.environ)) as runner:
            return runner.run(_demo(settings))
    except Interrupted as error:
        return _interrupted(error.exit_code - 128)


def _settings(config: Path | None, mode: str) -> Settings:
    """The suite's own settings: those of the directory we are called in mean another database."""
    from pgguard.settings import load

    loaded = load(config=config or suite.SETTINGS, env={}, flags={}, cwd=Path.cwd())
    values = {
        "listen.address": ANY_PORT,
        "http.address": ANY_PORT,
        "limits.connection_limit": CAP,
        "pool.mode": mode,
    }
    if mode == "session":
        values |= {"limits.pool_timeout": IN_VAIN, "limits.total_timeout": IN_VAIN}
    return with_values(loaded.settings, values)


async def _demo(settings: Settings) -> int:
    from pgguard.app import Guard
    from pgguard.cli import logs
    from pgguard.launch.child import Supervisor
    from pgguard.launch.embedded import EmbeddedPostgres
    from pgguard.launch.runs import run_name

    logs.set_up(settings.log, level="error", beside=True)
    name = run_name(time.time(), os.getpid())
    directory = _directory(name, settings.run.keep)
    async with (
        Supervisor() as supervisor,
        EmbeddedPostgres(max_connections=suite.MAX_CONNECTIONS) as server,
    ):
        guard = Guard(
            with_values(settings, {"upstream.url": server.url, "upstream.tls": "disable"}),
            name=name,
        )
        await guard.start()
        try:
            say(addresses(guard))
            await guard.wait_upstream()
            comparison = await _compare(guard, server, supervisor, directory)
        finally:
            await guard.stop()
        if supervisor.passed_on:
            return _interrupted(supervisor.passed_on)
        return _end(comparison, guard, directory)


def _interrupted(number: int) -> int:
    say(f"the demo was interrupted ({signal.Signals(number).name}): there is nothing to compare")
    return 128 + number


def _directory(name: str, keep: int) -> Path:
    """Below the current directory, or where that is not ours below the temporary one."""
    from pgguard.launch.runs import create_run

    try:
        return create_run(Path.cwd(), name, keep)
    except LaunchError:
        return create_run(Path(tempfile.mkdtemp(prefix="pgguard-demo-")), name, keep)


async def _compare(
    guard: Guard, server: EmbeddedPostgres, supervisor: Supervisor, directory: Path
) -> Comparison:
    from pgguard.cli.demo_screen import Comparison, Progress

    comparison = Comparison(suite.files(), mode=guard.settings.pool.mode)
    say(
        f"{len(comparison.names)} test files keep {suite.WANTED} connections open; Postgres"
        f" {guard.upstream_version.partition(' ')[0]} here has {suite.MAX_CONNECTIONS}"
    )
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(comparison))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgguard-demo-")))
        await _seed(server.url, supervisor, directory, scratch)
        for kind, url in (("direct", server.url), ("guarded", guard.url)):
            if not supervisor.passed_on:
                phase = _Phase(kind, url, comparison, progress, guard)
                comparison.statuses[kind] = await phase.run(supervisor, directory, scratch)
    return comparison


def _end(comparison: Comparison, guard: Guard, directory: Path) -> int:
    """Reports and last screen; the exit code."""
    from pgguard.cli.demo_screen import print_result

    summary = guard.summary()
    comparison.close(summary)
    comparison.limit = _limit(guard)
    run = facts(guard, command=suite.pytest_command(), exit_code=comparison.statuses["guarded"])
    print_result(comparison, write_reports(summary, run, directory))
    return 1 if comparison.problems() else 0


def _limit(guard: Guard) -> str:
    """What `limits.total = auto` came to, in words."""
    from pgguard.net.limits import MARGIN

    total = guard.hub.admission.total or 0
    reserved = suite.MAX_CONNECTIONS - MARGIN - total
    return (
        f"the limit is {total} ({suite.MAX_CONNECTIONS} less {reserved} reserved"
        f" less a margin of {MARGIN})"
    )


async def _seed(url: str, supervisor: Supervisor, directory: Path, scratch: Path) -> None:
    log = directory / "seed.log"
    with log.open("wb") as output:
        env = suite.suite_env(os.environ, url, scratch / "seed")
        status = await supervisor.run(suite.seed_command(), env, output=output)
    if status and not supervisor.passed_on:
        raise LaunchError(f"the demo's tables could not be made, see {log}")


def crowd_of(hub: Hub) -> Crowd:
    """Who is there now."""
    from pgguard.cli.demo_screen import Crowd

    idle = Counter(
        server.client.key
        for server in hub.servers
        if server.session is not None and server.status == "I" and not server.due
    )
    clients = list(hub.clients.values())
    return Crowd(
        sessions=sum(len(client.sessions) for client in clients),
        servers=len(hub.servers),
        waiting=sum(client.share.waiting for client in clients),
        idle=dict(idle),
    )


class _Phase:
    """One of the two runs of the suite."""

    def __init__(
        self, kind: str, url: str, comparison: Comparison, progress: Progress, guard: Guard
    ) -> None:
        self.kind, self.url = kind, url
        self.comparison, self.progress, self.guard = comparison, progress, guard
        self.title = "directly" if kind == "direct" else "through pgguard"
        self.started = self.told = time.monotonic()
        self.tests, self.done = suite.tests(), 0

    async def run(self, supervisor: Supervisor, directory: Path, scratch: Path) -> int:
        outcomes = suite.Outcomes(scratch / f"{self.kind}.jsonl")
        setattr(self.comparison, self.kind, outcomes.files)
        self.progress.tell(f"{self.title}: starting {suite.WORKERS} test processes")
        env = suite.suite_env(os.environ, self.url, outcomes.path)
        with (directory / f"{self.kind}.log").open("wb") as output:
            watching = asyncio.ensure_future(self._watch(outcomes))
            try:
                status = await supervisor.run(suite.pytest_command(), env, output=output)
            finally:
                watching.cancel()
        self._look(outcomes)
        seconds = self.comparison.seconds[self.kind] = time.monotonic() - self.started
        failed = sum(1 for outcome in outcomes.files.values() if outcome.failed)
        self.progress.tell(
            f"{self.title}: {failed} of {len(self.comparison.names)} files failed, {seconds:.1f} s"
        )
        return status

    async def _watch(self, outcomes: suite.Outcomes) -> None:
        while True:
            await asyncio.sleep(REFRESH)
            self._look(outcomes)

    def _look(self, outcomes: suite.Outcomes) -> None:
        crowd = crowd_of(self.guard.hub)
        self.comparison.saw(crowd)
        for name in outcomes.read():
            why = outcomes.files[name].refusal or "failed"
            self.progress.tell(f"{self.title}: {name} failed: {why}")
        done = sum(
            outcome.passed + outcome.failed >= self.tests.get(name, 1)
            for name, outcome in outcomes.files.items()
        )
        now = time.monotonic()
        title = f"{self.title}: {done} of {len(self.tests)} files done, {now - self.started:.0f} s"
        if done > self.done and now - self.told >= TELL_EVERY:
            self.done, self.told = done, now
            self.progress.tell(title)
        if self.kind == "guarded":
            title += (
                f"; {crowd.sessions} connections open on {crowd.servers} of Postgres's,"
                f" {crowd.waiting} waiting"
            )
        self.progress.update(title)
