"""What is done to a storm meanwhile: backends ended, connections reset, Postgres restarted, a
network that slices, delays and throttles. Whatever ends a session is noted as a cause first."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import psycopg

from tests.support import restarts
from tests.support.faults import CLOSE, RESET, Relay, Toxics

if TYPE_CHECKING:
    from random import Random

    from pgguard.launch.embedded import EmbeddedPostgres
    from tests.conformance.stress.world import World

VICTIMS = """
    SELECT pid, client_port FROM pg_stat_activity
    WHERE application_name LIKE 'storm %' AND backend_type = 'client backend'
"""
WEATHER = (
    Toxics(),
    Toxics(),
    Toxics(slice=7),
    Toxics(slice=61),
    Toxics(slice=1400),
    Toxics(delay=0.003),
    Toxics(rate=2e6),
)


class Havoc:
    """`near` stands before the guard, `far` between guard and Postgres."""

    def __init__(
        self, world: World, server: EmbeddedPostgres, near: Relay, far: Relay, rng: Random
    ) -> None:
        self.world, self.server, self.near, self.far, self.rng = world, server, near, far, rng

    async def weather(self) -> None:
        while not self.world.over:
            for relay in (self.near, self.far):
                for toxics in (relay.up, relay.down):
                    now = self.rng.choice(WEATHER)
                    toxics.slice, toxics.delay, toxics.rate = now.slice, now.delay, now.rate
            await asyncio.sleep(self.rng.uniform(0.2, 0.8))
        for relay in (self.near, self.far):
            for toxics in (relay.up, relay.down):
                toxics.slice, toxics.delay, toxics.rate = 0, 0.0, 0.0

    async def kills(self) -> None:
        """A backend told to end, or its connection cut or reset on the way."""
        while not self.world.over:
            await asyncio.sleep(self.rng.uniform(0.1, 0.4))
            try:
                await asyncio.to_thread(self._kill)
            except psycopg.OperationalError:
                # Postgres is being restarted.
                continue

    def _kill(self) -> None:
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            victims = connection.execute(VICTIMS).fetchall()
            if not victims:
                return
            pid, port = self.rng.choice(victims)
            self.world.killed(pid)
            how = self.rng.choice(("terminate", "terminate", RESET, CLOSE))
            self.world.counts[f"havoc {how}"] += 1
            if how == "terminate":
                connection.execute("SELECT pg_terminate_backend(%s)", [pid])
                return
            for link in self.far.alive:
                if link.port == port:
                    link.end(how)

    async def executions(self) -> None:
        """Where sessions share servers: one is ended by another one, by the pid that it was told,
        whether it has a server or not."""
        while not self.world.over:
            await asyncio.sleep(self.rng.uniform(0.1, 0.4))
            if self.world.open:
                pid = self.rng.choice(sorted(self.world.open))
                self.world.ends(pid)
                try:
                    if await asyncio.to_thread(self._execute, pid):
                        self.world.counts["havoc sessions ended"] += 1
                except psycopg.OperationalError:
                    # Its own server was ended, or Postgres is being restarted.
                    continue

    def _execute(self, pid: int) -> bool:
        application = f"storm {self.rng.randrange(20)}"
        with psycopg.connect(
            **self.world.straight.libpq(application, sslmode="disable"),  # type: ignore[arg-type]
            autocommit=True,
        ) as connection:
            row = connection.execute("SELECT pg_terminate_backend(%s)", [pid]).fetchone()
            return bool(row and row[0])

    async def restarts(self, times: int) -> None:
        """Immediate restarts, evenly spread; each is an outage up to the first new connection."""
        length = self.world.until - time.monotonic()
        for _ in range(times):
            await asyncio.sleep(length / (times + 1))
            self.world.outage()
            await asyncio.to_thread(restarts.stop, self.server, restarts.IMMEDIATE)
            await asyncio.sleep(self.rng.uniform(0.0, 1.0))
            await asyncio.to_thread(restarts.start, self.server)
            self.world.outage_over()
            self.world.counts["havoc restart"] += 1
