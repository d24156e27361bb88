"""`batches`: what drivers and frameworks send when they connect and give back pins nobody.

Each works with three connections that stay open on one server, so that a pin that stays would keep
the others waiting, and says when it is done; then no session may be pinned. Real ones are run where
pip, npm or apt bring them: asyncpg's pool, SQLAlchemy on psycopg and asyncpg, node-postgres,
pgJDBC, ActiveRecord. What cannot be had here is played: Npgsql by what its source says it sends
(PostgresDatabaseInfo, the reset of NpgsqlConnector), abridged, and Prisma's own engine as it is
known to begin, not held against its source. Then
SQLAlchemy's and Django's own tests run, and the share of transactions behind which a session was
pinned is held against a bar.
"""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from tests.conformance import fetching, harness
from tests.conformance.batches import frameworks
from tests.conformance.rawsession import RawSession

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
WITHIN = 120.0
"""Seconds that one program may take."""

ALONE = {"pool.mode": "transparent", "limits.connection_limit": "1"}

NPGSQL_TYPES = (
    "SELECT version();\n"
    "SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull FROM pg_type AS t"
    " JOIN pg_namespace AS ns ON (ns.oid = t.typnamespace)"
    " LEFT JOIN pg_proc AS proc ON proc.oid = t.typreceive"
    " LEFT JOIN pg_range ON (pg_range.rngtypid = t.oid) ORDER BY t.typtype;\n"
    "-- Load field definitions for (free-standing) composite types\n"
    "SELECT typ.oid, att.attname, att.atttypid FROM pg_type AS typ"
    " JOIN pg_attribute AS att ON (att.attrelid = typ.typrelid) WHERE typ.typtype = 'c';\n"
    "-- Load enum fields\n"
    "SELECT pg_type.oid, enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid=enumtypid;"
)
NPGSQL_RESET = (
    "SET SESSION AUTHORIZATION DEFAULT;RESET ALL;CLOSE ALL;UNLISTEN *;"
    "SELECT pg_advisory_unlock_all();DISCARD SEQUENCES;DISCARD TEMP"
)
PLAYED = {
    "SQLAlchemy": (
        "BEGIN",
        "select pg_catalog.version()",
        "select current_schema()",
        "show standard_conforming_strings",
        "ROLLBACK",
        "BEGIN",
        "SELECT 1",
        "ROLLBACK",
    ),
    "Rails": (
        "SET client_min_messages TO 'warning'",
        "SET standard_conforming_strings = on",
        "SET intervalstyle = iso_8601",
        "SET SESSION timezone TO 'UTC'",
        "SHOW max_identifier_length",
        "SELECT t.oid, t.typname FROM pg_type AS t WHERE t.typname IN ('int2', 'uuid', 'jsonb')",
        "BEGIN",
        "SELECT 1",
        "COMMIT",
    ),
    "Rails, reset": ("SET SESSION timezone TO 'UTC'", "SELECT 1", "DISCARD ALL"),
    "JDBC": (
        "SET extra_float_digits = 3",
        "SET application_name = 'PostgreSQL JDBC Driver'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "BEGIN",
        "SELECT 1",
        "COMMIT",
    ),
    "Npgsql, DISCARD ALL": (NPGSQL_TYPES, "SELECT 1", "DISCARD ALL", "SELECT 2"),
    "Npgsql, with prepared statements": (NPGSQL_TYPES, "SELECT 1", NPGSQL_RESET, "SELECT 2"),
    "Prisma's own engine": (
        'SET search_path = "public"',
        "SELECT version()",
        "BEGIN",
        "SELECT 1",
        "COMMIT",
        "DEALLOCATE ALL",
    ),
    "asyncpg's reset after all that it undoes": (
        "SELECT pg_advisory_lock(1)",
        "LISTEN a",
        "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
        "SET lock_timeout = 1",
        "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;",
    ),
    "DISCARD ALL after all that it undoes": (
        "SELECT pg_advisory_lock(1)",
        "LISTEN a",
        "PREPARE p AS SELECT 1",
        "CREATE TEMP TABLE t (id int)",
        "SET ROLE pg_monitor",
        "SELECT set_config('lock_timeout', '1' || 's', false)",
        "DISCARD ALL",
    ),
}


@dataclass(frozen=True, slots=True)
class Program:
    """A driver or framework as a program that says "ready" and waits for the end of its input."""

    name: str
    prepare: Callable[[], tuple[list[str], dict[str, str]]]
    """Its command and its variables; raises Missing."""
    scheme: str = "postgresql"


def _node() -> tuple[list[str], dict[str, str]]:
    binary, variables = fetching.node()
    return [str(binary), str(HERE / "pooled.cjs")], variables


def _java() -> tuple[list[str], dict[str, str]]:
    fetching.program("javac", "default-jdk-headless")
    java = fetching.program("java", "default-jdk-headless")
    jar = fetching.file("/usr/share/java/postgresql.jar", "libpostgresql-jdbc-java")
    return [str(java), "-cp", str(jar), str(HERE / "Pooled.java")], {}


def _ruby() -> tuple[list[str], dict[str, str]]:
    ruby = fetching.program("ruby", "ruby")
    for package in ("ruby-pg", "ruby-activerecord"):
        fetching.package(package)
    return [str(ruby), str(HERE / "pooled.rb")], {}


def _python(script: str) -> Callable[[], tuple[list[str], dict[str, str]]]:
    return lambda: ([str(frameworks.python()), str(HERE / script)], {})


PROGRAMS = (
    Program("asyncpg's own pool", _python("pooled_asyncpg.py")),
    Program("SQLAlchemy on psycopg", _python("pooled_sqlalchemy.py"), "postgresql+psycopg"),
    Program("SQLAlchemy on asyncpg", _python("pooled_sqlalchemy.py"), "postgresql+asyncpg"),
    Program("node-postgres", _node),
    Program("pgJDBC", _java),
    Program("ActiveRecord", _ruby),
)
SHORT = PROGRAMS[:4]
"""Those of the short form: pip and npm alone bring them."""


def run(checks: harness.Checks, short: bool) -> None:
    """Programs, played batches, and (not in the short form) the suites of two frameworks."""
    with harness.postgres(max_connections=40) as server:
        with psycopg.connect(server.address.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE written (id serial PRIMARY KEY, body text)")
        for program in SHORT if short else PROGRAMS:
            with harness.Guard(server.address, ALONE) as guard:
                work(checks, program, guard)
        with harness.Guard(server.address, ALONE) as guard:
            asyncio.run(asyncio.wait_for(play(checks, guard), WITHIN))
    if not short:
        frameworks.run(checks)


def work(checks: harness.Checks, program: Program, guard: harness.Guard) -> None:
    """One program: its end, its pins when it is done, and the share of transactions with any."""
    try:
        command, variables = program.prepare()
    except harness.Missing as missing:
        checks.claim(False, f"{program.name} can run", str(missing))
        return
    url = guard.address.url.replace("postgresql", program.scheme, 1)
    process = subprocess.Popen(
        command,
        env=harness.clean_environment()
        | guard.address.environment()
        | variables
        | {"POOLED_URL": url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    if said.strip() != "ready":
        process.kill()
        checks.claim(False, f"{program.name} works", process.communicate()[1][-1500:])
        return
    claim_no_pins(checks, guard, program.name)
    _, complaints = process.communicate(timeout=WITHIN)
    checks.claim(process.returncode == 0, f"{program.name} ends", complaints[-500:] or "well")


def claim_no_pins(checks: harness.Checks, guard: harness.Guard, name: str) -> None:
    pins = guard.api("pins")["pins"]
    said = "; ".join(f"{pin['reason']}: {pin['statement']}" for pin in pins)
    metrics = guard.metrics()
    total = metrics.total("transactions_total")
    pinned = metrics.total("pinned_transactions_total")
    peak = max(metrics.by("client_server_connections_peak", "client").values(), default=0)
    figure = f"{said or 0} ({total:.0f} transactions, {pinned:.0f} pinned, {peak:.0f} servers)"
    checks.claim(not pins and peak <= 1, f"{name}: pins", figure, "0, on 1 server")


async def play(checks: harness.Checks, guard: harness.Guard) -> None:
    """One server, two sessions: what one leaves behind would keep the other one waiting."""
    for name, texts in PLAYED.items():
        session = await RawSession.open(guard.address, application_name="a")
        other = await RawSession.open(guard.address, application_name="a")
        for text in texts:
            await session.query(text)
        await other.query("SELECT 1")
        await asyncio.to_thread(claim_no_pins, checks, guard, name)
        session.vanish("fin")
        other.vanish("fin")
