"""`flood [--seed N]`: a million random messages over at most 20,000 connections, from all sides.

TLS handshakes are among them that are cut, slow, spoiled, reset or misused.

pgguard stays alive, does not grow, leaks no descriptor and leaves nothing at the server; clients
that ask all the while get the answer to their question, the slowest of them in under a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

import psycopg
import uvloop

from tests.conformance import encryption, harness
from tests.conformance.flood import handshakes
from tests.conformance.flood.attack import Attackers
from tests.conformance.memory import Growth

if TYPE_CHECKING:
    from tests.conformance.harness import Checks, Guard, Postgres

MESSAGES, SHORT = 1_000_000, 30_000
CONNECTIONS = 20_000
SHAKES, SHAKES_SHORT = 6_000, 600
"""TLS handshakes alone, behind the messages."""
PER_LOGIN = 40
"""Batches of up to 30 messages in a session that lives for long; most break the protocol before."""
AT_ONCE = 24
FEW, SILENT = 64, 200
"""Descriptors, and connections that say nothing."""
WORST, SLOWEST_LOGIN = 1.0, 5.0
LOG = 1024 * 1024
LOOK_UPS = 2
"""Descriptors of look-ups, which come and go."""
WITHIN = 20.0
"""Seconds in which the guard and Postgres must be empty again."""
LEFT = """
    SELECT count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
    AND application_name NOT LIKE 'pgguard/%'
"""
HEALTHY = ("psycopg", "asyncpg", "by hand", "newcomer", "newcomer in TLS")


def run(checks: Checks, short: bool, seed: int | None = None) -> None:
    """A flood of a million messages, or of as many as the short form takes."""
    chosen = random.SystemRandom().randrange(10**6) if seed is None else seed
    checks.note(f"--seed {chosen}")
    with (
        encryption.certificate() as files,
        harness.postgres(max_connections=100) as server,
        harness.Guard(
            server.address,
            {"limits.pool_timeout": "5s"} | encryption.to_clients(files, how="allow"),
        ) as guard,
    ):
        _warm_up(guard)
        quiet = harness.descriptors(guard.pid)
        with Healthy(guard, server) as healthy, Growth(guard.pid) as growth:
            attackers, took = uvloop.run(_flood(guard, chosen, SHORT if short else MESSAGES))
            shakers = uvloop.run(_shake(guard, chosen, SHAKES_SHORT if short else SHAKES))
            emptied = asyncio.run(_emptied(guard, server, len(HEALTHY)))
            seen = healthy.stop()
        _claim_flood(checks, attackers, took, MESSAGES if not short else SHORT)
        _claim_shakes(checks, shakers)
        growth.claim(checks, "in the flood")
        _claim_answers(checks, seen)
        _claim_guard(checks, guard, emptied, quiet, server)
    with encryption.certificate() as files, harness.postgres(max_connections=100) as server:
        _few_descriptors(checks, server, "silent connections", {})
        tls = encryption.to_clients(files, how="allow")
        _few_descriptors(checks, server, "half TLS handshakes", tls)


class Healthy:
    """The process of the healthy clients."""

    def __init__(self, guard: Guard, server: Postgres) -> None:
        self._places = {"guard": guard.address.url, "direct": server.address.url}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.conformance.flood.healthy"],
            cwd=harness.ROOT,
            env=harness.clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(self._places) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "ready\n", "the healthy clients did not begin"
        return self

    def stop(self) -> dict[str, Any]:
        out, _ = self._process.communicate(timeout=WITHIN)
        answers: dict[str, Any] = json.loads(out)
        return answers

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def _few_descriptors(checks: Checks, server: Postgres, who: str, tls: dict[str, str]) -> None:
    """Silent connections make room, logged-in ones stay, and who finds no room is told so."""
    settings = {"limits.total": "90"} | tls
    with (
        harness.Guard(server.address, settings, descriptors=FEW) as guard,
        contextlib.ExitStack() as stack,
    ):
        place = guard.address.host, guard.address.port
        for _ in range(SILENT):
            sock = stack.enter_context(socket.create_connection(place))
            if tls:
                handshakes.begin(sock)
        started = time.monotonic()
        first = stack.enter_context(psycopg.connect(**guard.address.libpq("first")))  # type: ignore[arg-type]
        took = time.monotonic() - started
        what = f"a client comes in past {SILENT} {who}, with {FEW} descriptors"
        checks.claim(took < SLOWEST_LOGIN, what, f"{took:.2f} s", f"< {SLOWEST_LOGIN:g} s")
        said, came_in = "", 1
        while not said and came_in < FEW:
            try:
                more = psycopg.connect(**guard.address.libpq(f"more {came_in}"))  # type: ignore[arg-type]
            except psycopg.OperationalError as error:
                said = str(error)
            else:
                stack.enter_context(more)
                came_in += 1
        told = "sorry, too many clients already" in said and "ulimit -n" in said
        checks.claim(told, "who finds no room is told so", f"after {came_in} sessions")
        answer = first.execute("SELECT 1").fetchone()
        checks.claim(answer == (1,), "who is in stays in", answer)


def _warm_up(guard: Guard) -> None:
    """What the guard builds up once: caches of texts, clients, the memory of logins."""
    uvloop.run(_flood(guard, 1, 2_000))


async def _flood(guard: Guard, seed: int, messages: int) -> tuple[Attackers, float]:
    attackers = Attackers(guard.address, seed, PER_LOGIN)
    numbers = iter(range(CONNECTIONS))
    started = time.monotonic()

    async def go_on() -> None:
        for number in numbers:
            if attackers.sent.total() >= messages or not guard.running:
                return
            await attackers.one(number)

    await asyncio.gather(*(go_on() for _ in range(AT_ONCE)))
    return attackers, time.monotonic() - started


async def _shake(guard: Guard, seed: int, count: int) -> Attackers:
    attackers = Attackers(guard.address, seed, PER_LOGIN)
    numbers = iter(range(count))

    async def go_on() -> None:
        for number in numbers:
            await attackers.one(number, "handshake")

    await asyncio.gather(*(go_on() for _ in range(AT_ONCE)))
    return attackers


async def _emptied(guard: Guard, server: Postgres, healthy: int) -> bool:
    """Whether nothing is left but the healthy clients, in the guard and at the server."""

    def is_empty() -> bool:
        with psycopg.connect(server.address.url, autocommit=True) as connection:
            (left,) = connection.execute(LEFT).fetchone() or (0,)
        # Beside those of the guard there are two clients that ask directly.
        return left <= healthy + 2 and len(guard.api("servers")["servers"]) <= healthy

    return await harness.eventually(is_empty, WITHIN)


def _claim_flood(checks: Checks, attackers: Attackers, took: float, wanted: int) -> None:
    sent, opened = attackers.sent, attackers.opened
    rows = [[kind, opened[kind], sent[kind]] for kind in sorted(opened)]
    checks.table(["connections", "opened", "messages"], rows)
    figure = f"{sent.total():,} over {opened.total():,} connections in {took:.0f} s"
    enough = sent.total() >= wanted and opened.total() <= CONNECTIONS
    checks.claim(enough, "messages sent", figure, f">= {wanted:,} over <= {CONNECTIONS:,}")
    for text in attackers.unexpected[:5]:
        checks.note(f"unexpected: {text}")
    checks.claim(not attackers.unexpected, "the attackers themselves hold")


def _claim_shakes(checks: Checks, shakers: Attackers) -> None:
    for text in shakers.unexpected[:5]:
        checks.note(f"unexpected: {text}")
    figure = f"{shakers.opened.total():,}"
    checks.claim(not shakers.unexpected, "TLS handshakes cut, slow, spoiled and misused", figure)


def _claim_answers(checks: Checks, seen: dict[str, Any]) -> None:
    rows = [
        [name, each["answers"], f"{each['usual'] * 1e3:.1f} ms", f"{each['worst'] * 1e3:.0f} ms"]
        for name, each in seen.items()
    ]
    checks.table(["healthy clients", "answers", "usual", "worst"], rows)
    wrong = [text for each in seen.values() for text in each["wrong"]]
    for text in wrong[:5]:
        checks.note(text)
    checks.claim(not wrong, "wrong or missing replies to healthy clients", len(wrong), "0")
    worst = max(seen[name]["worst"] for name in HEALTHY)
    checks.claim(worst < WORST, "worst answer to a healthy client", f"{worst:.2f} s", "< 1 s")
    directly = f"directly {seen['direct newcomer']['slowest_login']:.2f} s"
    for name in ("newcomer", "newcomer in TLS"):
        login = seen[name]["slowest_login"]
        figure = f"{login:.2f} s, {directly}"
        checks.claim(login < SLOWEST_LOGIN, f"slowest login of a healthy {name}", figure, "< 5 s")


def _claim_guard(checks: Checks, guard: Guard, emptied: bool, quiet: int, server: Postgres) -> None:
    checks.claim(guard.running, "the guard is alive")
    checks.claim(emptied, "nothing of the flood is left in the guard and at the server")
    most = quiet + LOOK_UPS
    left = asyncio.run(harness.eventually(lambda: harness.descriptors(guard.pid) <= most, WITHIN))
    now = harness.descriptors(guard.pid)
    checks.claim(left, "descriptors of the guard", f"{quiet} before, {now} after", f"<= {most}")
    faults = guard.log.count("internal error")
    checks.claim(faults == 0, "internal errors", faults, "0")
    size = len(guard.log)
    checks.claim(size < LOG, "what the guard wrote to its log", f"{size:,} bytes", "< 1 MiB")
    if faults:
        at = guard.log.index("internal error")
        checks.note(guard.log[at : at + 2000])
