"""`matrix`: PostgreSQL 14 to 18, each on both event loops: nothing differs from direct.

Per version and loop a Postgres and a guard of their own, and five groups: the features of three
drivers, sessions by hand in protocols 3.0 and 3.2, TLS on both sides, a crash of the server, and
caps. The short form takes the oldest version on one loop and the newest on the other, with one
driver, without caps and large values.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import time
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg

from tests.conformance import caps, encryption, fetching, harness
from tests.conformance.drivers import matrix as drivers
from tests.conformance.drivers.probe import FEATURES
from tests.conformance.rawsession import RawSession, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPS = "uvloop", "asyncio"
DRIVERS = "psycopg 3", "asyncpg", "pg8000"
SERVED_WITHIN = 5.0
"""Seconds after a crash, within which the next client is served."""

PROTOCOLS = {"3.0": 0x30000, "3.2": 0x30002}
SPEAKS_3_2 = 18
"""The oldest Postgres that does; the guard does in front of older ones, too: it need not know what
it is in front of before it answers a client, and 3.2 is a longer key for its own cancels."""
OUR_OWN = ("negotiated", "length of the key")
"""What is not compared for that reason."""

Differences = list[str]


def run(checks: harness.Checks, short: bool) -> None:
    """Every version on every loop."""
    versions = list(fetching.POSTGRES_VERSIONS)
    pairs = [(version, loop) for version in versions for loop in LOOPS]
    if short:
        pairs = [(versions[0], LOOPS[1]), (versions[-1], LOOPS[0])]
    rows = []
    for version, loop in pairs:
        programs = fetching.postgres(version)
        with _environment(PGGUARD_PG_BIN=str(programs), PGGUARD_LOOP=loop):
            found = _groups(checks, short)
        words = [f"{len(differing)} differ" if differing else "ok" for differing in found.values()]
        rows.append([f"{fetching.POSTGRES_VERSIONS[version]} {loop}", *words])
        for group, differing in found.items():
            for text in differing:
                checks.note(f"{version} {loop}, {group}: {text}")
        count = sum(map(len, found.values()))
        checks.claim(
            count == 0, f"Postgres {version} on {loop}: differences from direct", count, "0"
        )
    checks.table(["Postgres, loop", *found], rows)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Variables of this process, and so of what it starts, for the length of the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _groups(checks: harness.Checks, short: bool) -> dict[str, Differences]:
    """Group → what differs, on the Postgres and the loop of the environment."""
    found: dict[str, Differences] = {}
    with harness.postgres(max_connections=60) as server, harness.Guard(server.address) as guard:
        for name, group in (("drivers", _drivers), ("protocol", _protocol), ("crash", _crash)):
            found[name] = group(server, guard, short)
        if not guard.running:
            found["crash"].append("the guard has ended")
    found["TLS"] = _tls()
    found["caps"] = [] if short else _caps(checks)
    return found


def _drivers(server: harness.Postgres, guard: harness.Guard, short: bool) -> Differences:
    features = [name for name in FEATURES if not (short and name == "100 MB values")]
    chosen = [driver for driver in drivers.DRIVERS if driver.name in DRIVERS[: 1 if short else 3]]
    _, differences = drivers.differing(chosen, features, server.address, guard.address)
    return differences


# Sessions by hand


def _protocol(server: harness.Postgres, guard: harness.Guard, short: bool) -> Differences:
    del short
    differences = []
    for name, version in PROTOCOLS.items():
        direct = asyncio.run(_session(server.address, version))
        guarded = asyncio.run(_session(guard.address, version))
        if name == "3.2" and int(server.version.partition(".")[0]) < SPEAKS_3_2:
            for told in OUR_OWN:
                direct.pop(told), guarded.pop(told)
        if difference := drivers.difference(direct, guarded):
            differences.append(f"{name}{difference}")
    return differences


async def _session(address: harness.Address, version: int) -> dict[str, Any]:
    """All that a session by hand is told, and what becomes of its cancel."""
    session = await RawSession.dial(address, version=version, application_name="by hand")
    await session.authenticate()
    seen: dict[str, Any] = {"negotiated": session.negotiated}
    greeting = await session.ready()
    seen["order"] = [kind for kind, _ in greeting]
    seen["parameters"] = sorted(body for kind, body in greeting if kind == b"S")
    key = next(body for kind, body in greeting if kind == b"K")
    seen["length of the key"] = len(key)
    seen["simple"] = await session.query("SELECT 1, 'ü'; SELECT 2 WHERE false; SET jit TO off")
    for kind, body in ((b"P", b"\0SELECT $1::int + 1\0\0\0"), (b"B", _bind(b"41"))):
        session.send(kind, body)
    session.send(b"D", b"P\0")
    session.send(b"E", b"\0\0\0\0\0")
    session.send(b"S")
    seen["extended"] = await session.ready()
    try:
        await session.query("SELECT 1/0")
    except ServerError as error:
        seen["error"] = error.fields
    session.send(b"Q", b"SELECT pg_sleep(20)\0")
    await asyncio.sleep(0.2)
    await session.cancel()
    try:
        await session.ready()
    except ServerError as error:
        seen["cancelled"] = error.fields
    seen["after it"] = await session.query("SELECT 'unharmed'")
    await session.close()
    return seen


def _bind(value: bytes) -> bytes:
    return b"\0\0\0\0\0\1" + len(value).to_bytes(4, "big") + value + b"\0\0"


# A crash


def _crash(server: harness.Postgres, guard: harness.Guard, short: bool) -> Differences:
    """A backend is killed: Postgres ends every session and recovers."""
    del short
    differences = []
    for statement in ("", "SELECT pg_sleep(20)"):
        for name, address in (("direct", server.address), ("guarded", guard.address)):
            if not asyncio.run(_ends_in_crash(server.address, address, statement)):
                differences.append(f"{name}: a session outlives its server, {statement or 'idle'}")
            _wait_until_served(server.address)
        started = time.monotonic()
        _wait_until_served(guard.address)
        if (took := time.monotonic() - started) > SERVED_WITHIN:
            differences.append(f"the next client was served after {took:.1f} s")
    return differences


async def _ends_in_crash(server: harness.Address, address: harness.Address, statement: str) -> bool:
    """Whether a session ends when the server crashes.

    What it is told is not compared: where Postgres just closes the connection, the guard says why.
    """
    session = await RawSession.open(address)
    if statement:
        session.send(b"Q", statement.encode() + b"\0")
    with _connect(server) as victim, contextlib.suppress(psycopg.Error):
        query = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = %s"
        end = time.monotonic() + SERVED_WITHIN
        while statement and victim.execute(query, (statement,)).fetchone() != (1,):
            if time.monotonic() > end:
                raise AssertionError(f"{statement} does not run")
            await asyncio.sleep(0.01)
        os.kill(victim.info.backend_pid, signal.SIGKILL)
        victim.execute("SELECT 1")
    try:
        async with asyncio.timeout(SERVED_WITHIN):
            while True:
                await session.message()
    except (asyncio.IncompleteReadError, ConnectionError):
        return True
    except TimeoutError:
        return False
    finally:
        session.vanish("fin")


def _wait_until_served(address: harness.Address) -> None:
    end = time.monotonic() + 4 * SERVED_WITHIN
    while True:
        try:
            with _connect(address) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def _connect(address: harness.Address, **options: str) -> psycopg.Connection[Any]:
    return psycopg.connect(**address.libpq(**options), autocommit=True)  # type: ignore[arg-type]


# TLS


def _tls() -> Differences:
    """verify-full from client to guard and from guard to Postgres, by libpq and by asyncpg."""
    with encryption.certificate() as files:
        authority = str(files / "ca.pem")
        settings = encryption.to_clients(files) | encryption.to_postgres(files)
        with (
            harness.postgres(settings=encryption.of_postgres(files)) as server,
            harness.Guard(server.address, settings) as guard,
        ):
            direct, guarded = (
                [_by_libpq(address, authority), asyncio.run(_by_asyncpg(address, authority))]
                for address in (server.address, guard.address)
            )
    difference = drivers.difference(direct, guarded)
    return [difference] if difference else []


QUESTIONS = (
    "SELECT ssl, version, bits FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    "SELECT string_agg(md5(n::text), ',') FROM generate_series(1, 5000) n",
)


def _by_libpq(address: harness.Address, authority: str) -> list[Any]:
    options = {"sslmode": "verify-full", "sslrootcert": authority}
    with _connect(address, **options) as connection:
        seen: list[Any] = [connection.execute(text).fetchall() for text in QUESTIONS]
        seen += [connection.pgconn.ssl_in_use, connection.info.parameter_status("server_version")]
    return seen


async def _by_asyncpg(address: harness.Address, authority: str) -> list[Any]:
    context = ssl.create_default_context(cafile=authority)
    connection = await asyncpg.connect(address.url, ssl=context, timeout=30)
    try:
        return [[tuple(row) for row in await connection.fetch(text)] for text in QUESTIONS]
    finally:
        await connection.close()


# Caps


def _caps(checks: harness.Checks) -> Differences:
    """The short form of `caps`, whose claims stand among ours."""
    before = checks.failed
    caps.run(checks, short=True)
    return [f"{checks.failed - before} claims failed"] if checks.failed > before else []
