"""Clients by hand: pipelines, half messages, slow readers, cancels, ways to leave no driver has.

Each operation sends requests that carry tokens and compares every reply with what it must be.
"""

from __future__ import annotations

import asyncio
import struct
import time
from typing import TYPE_CHECKING

from tests.conformance.rawsession import RawSession, ServerError, fields_of
from tests.conformance.stress.world import Crossed, Ended, Left

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from tests.conformance.stress.world import World

ENDS = ("fin", "reset", "terminate")
BAD_CAST = "22P02"


class Client:
    """One session after the other, until the storm is over."""

    def __init__(self, world: World, number: int, rng: Random) -> None:
        self.world, self.rng = world, rng
        self.name = f"raw {number}"
        self.address = world.near if number % 2 else world.straight
        self.application = f"storm {number % 20}"
        self.channel = f"channel_{number}"
        self.names = 0
        self.limit = ""
        """What the session has made of `from_collapse_limit`."""
        self.lock = number
        """The key of an advisory lock that no other client takes."""

    async def run(self) -> None:
        while not self.world.over:
            await self.one_session()

    async def one_session(self) -> None:
        opened = time.monotonic()
        pid = 0
        session: RawSession | None = None
        self.limit = "8"
        try:
            session = await _limited(self.open())
            pid = session.pid
            self.world.opened(pid)
            for _ in range(self.rng.randint(4, 16)):
                operation = self.rng.choices(OPERATIONS, WEIGHTS)[0]
                self.world.counts[operation.__name__] += 1
                await _limited(operation(self, session))
                if self.world.over:
                    break
            if self.rng.random() < 0.3:
                session.vanish(self.rng.choice(ENDS))
            else:
                await _limited(session.close())
        except Left:
            pass
        except (Crossed, TimeoutError) as error:
            self.world.fault(f"{self.name}: {str(error) or 'no reply within 60 s'}")
        except ServerError as error:
            ended = Ended(error.fields["C"], error.fields["M"])
            self.world.ended(self.name, pid, opened, ended)
        except (OSError, EOFError) as error:
            self.world.ended(self.name, pid, opened, Ended("", repr(error)))
        finally:
            self.world.closed(pid)
            if session is not None:
                session.vanish("reset")
        await asyncio.sleep(self.rng.random() * 0.05)

    async def open(self) -> RawSession:
        return await RawSession.open(self.address, application_name=self.application)

    def token(self) -> str:
        return self.world.token(self.rng)


async def _limited(work: Awaitable[RawSession] | Awaitable[None]) -> RawSession:
    """A reply that has not come after a minute is lost. Raises TimeoutError."""
    async with asyncio.timeout(60):
        return await work  # type: ignore[return-value]


# What comes back


def _cells(body: bytes) -> list[str]:
    (count,) = struct.unpack_from("!H", body)
    pos, cells = 2, []
    for _ in range(count):
        (size,) = struct.unpack_from("!i", body, pos)
        pos += 4
        cells.append(body[pos : pos + size].decode())
        pos += size
    return cells


async def _reply(session: RawSession) -> list[object]:
    """Everything up to ReadyForQuery: kinds, rows as lists, errors as (SQLSTATE, message)."""
    told: list[object] = []
    while True:
        kind, body = await session.message()
        if kind == b"D":
            told.append(_cells(body))
        elif kind == b"E":
            fields = fields_of(body)
            if fields["V"] in ("FATAL", "PANIC"):
                raise ServerError(fields)
            told.append((fields["C"], fields["M"]))
        elif kind == b"C":
            told.append("C " + body[:-1].decode())
        elif kind == b"Z":
            told.append("Z" + body.decode())
            return told
        elif kind == b"A":
            channel, payload = body[4:-1].split(b"\0")
            told.append(f"A {channel.decode()} {payload.decode()}")
        elif kind != b"S":
            told.append(kind.decode())


def _query(session: RawSession, text: str) -> None:
    session.send(b"Q", text.encode() + b"\0")


def _bind(session: RawSession, statement: str, *values: str) -> None:
    packed = b"".join(struct.pack("!I", len(v)) + v.encode() for v in values)
    head = b"\0" + statement.encode() + b"\0" + struct.pack("!HH", 0, len(values))
    session.send(b"B", head + packed + b"\0\0")
    session.send(b"E", b"\0\0\0\0\0")


def _bad(token: str) -> tuple[str, str]:
    return (BAD_CAST, f'invalid input syntax for type integer: "{token}"')


# Operations


async def simple(client: Client, session: RawSession) -> None:
    token = client.token()
    _query(session, f"SELECT '{token}'")
    client.world.check(["T", [token], "C SELECT 1", "ZI"], await _reply(session), "simple")


async def several(client: Client, session: RawSession) -> None:
    tokens = [client.token() for _ in range(client.rng.randint(2, 5))]
    _query(session, ";".join(f"SELECT '{token}'" for token in tokens))
    wanted = [part for token in tokens for part in ("T", [token], "C SELECT 1")]
    client.world.check([*wanted, "ZI"], await _reply(session), "several statements")


async def failing(client: Client, session: RawSession) -> None:
    token = client.token()
    _query(session, f"SELECT '{token}'::int")
    client.world.check([_bad(token), "ZI"], await _reply(session), "error")


async def pipelined(client: Client, session: RawSession) -> None:
    """Batches with a Sync each, sent at once; some fail."""
    batches = []
    for _ in range(client.rng.randint(2, 10)):
        token = client.token()
        fails = client.rng.random() < 0.2
        kind = "int" if fails else "text"
        session.send(b"P", f"\0SELECT $1::{kind}\0\0\0".encode())
        _bind(session, "", token)
        session.send(b"S")
        head = ["1"] if fails else ["1", "2", [token], "C SELECT 1"]
        # Where the parameter is bad depends on its type: Bind reads it.
        batches.append([*head, *([_bad(token)] if fails else []), "ZI"])
    for number, wanted in enumerate(batches):
        came = [part for part in await _reply(session) if part != "T"]
        client.world.check(wanted, came, f"batch {number} of {len(batches)}")


async def prepared(client: Client, session: RawSession) -> None:
    """A named statement, run with Flush between and one Sync at the end."""
    client.names += 1
    name = f"s{client.names}"
    session.send(b"P", name.encode() + b"\0SELECT $1::text\0\0\0")
    tokens = [client.token() for _ in range(client.rng.randint(1, 6))]
    for token in tokens:
        _bind(session, name, token)
        if client.rng.random() < 0.3:
            session.send(b"H")
    session.send(b"C", b"S" + name.encode() + b"\0")
    session.send(b"S")
    wanted = [part for token in tokens for part in ("2", [token], "C SELECT 1")]
    client.world.check(["1", *wanted, "3", "ZI"], await _reply(session), "prepared")


async def transaction(client: Client, session: RawSession) -> None:
    token = client.token()
    world = client.world
    world.undone.add(token)
    _query(session, "BEGIN")
    world.check(["C BEGIN", "ZT"], await _reply(session), "BEGIN")
    _query(session, f"INSERT INTO ledger VALUES ('{token}')")
    world.check(["C INSERT 0 1", "ZT"], await _reply(session), "INSERT")
    if client.rng.random() < 0.3:
        _query(session, "ROLLBACK")
        world.check(["C ROLLBACK", "ZI"], await _reply(session), "ROLLBACK")
        return
    # From here on nobody can say, until the answer has come.
    world.undone.discard(token)
    _query(session, "COMMIT")
    world.check(["C COMMIT", "ZI"], await _reply(session), "COMMIT")
    world.committed.add(token)


async def copy_out(client: Client, session: RawSession) -> None:
    token, count = client.token(), client.rng.randint(1, 400)
    _query(session, f"COPY (SELECT '{token}-' || n FROM generate_series(1, {count}) n) TO STDOUT")
    wanted = [f"{token}-{number}" for number in range(1, count + 1)]
    lines = []
    while True:
        kind, body = await session.message()
        if kind == b"d":
            lines.append(body[:-1].decode())
        elif kind == b"c":
            break
        elif kind == b"E":
            raise ServerError(fields_of(body))
    client.world.check(wanted, lines, "COPY TO")
    client.world.check([f"C COPY {count}", "ZI"], await _reply(session), "end of COPY TO")


async def copy_in(client: Client, session: RawSession) -> None:
    tokens = [client.token() for _ in range(client.rng.randint(1, 40))]
    fails = client.rng.random() < 0.3
    _query(session, "COPY ledger FROM STDIN")
    kind, body = await session.message()
    if kind == b"E":
        raise ServerError(fields_of(body))
    client.world.check([b"G"], [kind], "COPY FROM")
    client.world.undone.update(tokens)
    for token in tokens:
        session.send(b"d", token.encode() + b"\n")
    if fails:
        session.send(b"f", tokens[0].encode() + b"\0")
        error = ("57014", f"COPY from stdin failed: {tokens[0]}")
        client.world.check([error, "ZI"], await _reply(session), "COPY that fails")
        return
    client.world.undone.difference_update(tokens)
    session.send(b"c")
    client.world.check([f"C COPY {len(tokens)}", "ZI"], await _reply(session), "COPY FROM")
    client.world.committed.update(tokens)


async def large(client: Client, session: RawSession) -> None:
    """Rows of many kilobytes, by a reader that takes its time now and then."""
    token, times = client.token(), client.rng.choice((10, 500, 3000))
    count = client.rng.randint(1, 6)
    slow = client.rng.random() < 0.3
    what = f"SELECT n, repeat('{token}', {times}) FROM generate_series(1, {count}) n"
    _query(session, what)
    told: list[object] = []
    while not told or told[-1] != "Z":
        kind, body = await session.message()
        if kind == b"E":
            raise ServerError(fields_of(body))
        told.append(_cells(body) if kind == b"D" else kind.decode())
        if slow:
            await asyncio.sleep(0.05)
    rows = [[str(number), token * times] for number in range(1, count + 1)]
    client.world.check(["T", *rows, "C", "Z"], told, "large rows")


async def notified(client: Client, session: RawSession) -> None:
    token, channel = client.token(), client.channel
    _query(session, f"LISTEN {channel}")
    client.world.check(["C LISTEN", "ZI"], await _reply(session), "LISTEN")
    _query(session, f"NOTIFY {channel}, '{token}'")
    told = await _reply(session)
    client.world.check(["C NOTIFY", f"A {channel} {token}", "ZI"], told, "NOTIFY")
    _leave_now_and_then(client, session)
    _query(session, f"UNLISTEN {channel}")
    client.world.check(["C UNLISTEN", "ZI"], await _reply(session), "UNLISTEN")


def _leave_now_and_then(client: Client, session: RawSession) -> None:
    """With all that the session has made still there. Raises Left."""
    if client.rng.random() < 0.5:
        session.vanish(client.rng.choice(ENDS))
        raise Left


async def _row(client: Client, session: RawSession, text: str, *cells: str) -> None:
    _query(session, text)
    client.world.check(["T", [*cells], "C SELECT 1", "ZI"], await _reply(session), text)


async def _done(client: Client, session: RawSession, text: str, tag: str) -> None:
    _query(session, text)
    client.world.check([f"C {tag}", "ZI"], await _reply(session), text)


async def setting(client: Client, session: RawSession) -> None:
    """What it has set is there, and nothing of anybody else; what was rolled back is not."""
    name, new = "from_collapse_limit", str(client.rng.randint(9, 999))
    await _row(client, session, f"SELECT current_setting('{name}')", client.limit)
    if client.rng.random() < 0.3:
        _query(session, f"BEGIN; SET {name} = {new}; ROLLBACK")
        wanted = ["C BEGIN", "C SET", "C ROLLBACK", "ZI"]
        client.world.check(wanted, await _reply(session), "SET that is rolled back")
    elif client.rng.random() < 0.3:
        await _done(client, session, f"RESET {name}", "RESET")
        client.limit = "8"
    else:
        await _done(client, session, f"SET {name} = {new}", "SET")
        client.limit = new
    await _row(client, session, f"SELECT current_setting('{name}')", client.limit)


async def temporary(client: Client, session: RawSession) -> None:
    """A temporary table of a name that all use: nobody finds another one's."""
    token = client.token()
    mine = "relname = 'mine' AND relnamespace = pg_my_temp_schema()"
    await _row(client, session, f"SELECT count(*) FROM pg_class WHERE {mine}", "0")
    await _done(client, session, "CREATE TEMP TABLE mine (token text)", "CREATE TABLE")
    await _done(client, session, f"INSERT INTO mine VALUES ('{token}')", "INSERT 0 1")
    await _row(client, session, "SELECT token FROM mine", token)
    _leave_now_and_then(client, session)
    await _done(client, session, "DROP TABLE mine", "DROP TABLE")


async def locked(client: Client, session: RawSession) -> None:
    """An advisory lock that only this client takes: one that is left behind would hang it."""
    await _row(client, session, f"SELECT pg_advisory_lock({client.lock})", "")
    held = f"locktype = 'advisory' AND objid = {client.lock}"
    await _row(client, session, f"SELECT count(*) FROM pg_locks WHERE {held}", "1")
    _leave_now_and_then(client, session)
    await _row(client, session, f"SELECT pg_advisory_unlock({client.lock})", "t")


async def cancelled(client: Client, session: RawSession) -> None:
    """A cancel ends this statement or comes too late; it never ends another one."""
    token = client.token()
    _query(session, f"SELECT '{token}' FROM pg_sleep(0.3)")
    await asyncio.sleep(client.rng.random() * 0.35)
    await session.cancel()
    came = await _reply(session)
    ended: list[object] = [("57014", "canceling statement due to user request"), "ZI"]
    if came[-2:] == ended:
        # The description of the row may have been sent before.
        client.world.counts["cancels that came in time"] += 1
        came = ["T", *came] if came[0] != "T" else came
        client.world.check(["T", *ended], came, "cancelled")
        return
    # It may still be on its way: Postgres may take it for whatever this session does next.
    client.world.check(["T", [token], "C SELECT 1", "ZI"], came, "too late a cancel")
    await asyncio.sleep(0.2)
    _query(session, f"SELECT '{token}'")
    came = await _reply(session)
    if came != ended:
        client.world.check(["T", [token], "C SELECT 1", "ZI"], came, "after a cancel")


async def leaves(client: Client, session: RawSession) -> None:
    """In the middle of whatever; nothing of it may reach anybody else."""
    token = client.token()
    begun = client.rng.choice(
        (
            lambda: _query(session, f"SELECT '{token}' FROM pg_sleep(0.2)"),
            lambda: _query(session, f"COPY ledger FROM STDIN; SELECT '{token}'"),
            lambda: _query(session, f"SELECT repeat('{token}', 20000)"),
            lambda: session.write(b"Q\0\0\0\x40SELECT '" + token.encode()),
            lambda: session.write(b"B\0\0\1\0"),
            lambda: _query(session, f"BEGIN; INSERT INTO ledger VALUES ('{token}')"),
            lambda: session.send(b"P", f"\0SELECT '{token}'\0\0\0".encode()),
        )
    )
    begun()
    client.world.undone.add(token)
    await asyncio.sleep(client.rng.choice((0.0, 0.0, 0.05)))
    session.vanish(client.rng.choice(ENDS))
    raise Left


OPERATIONS: list[Callable[[Client, RawSession], Awaitable[None]]] = [
    simple,
    several,
    failing,
    pipelined,
    prepared,
    transaction,
    copy_out,
    copy_in,
    large,
    notified,
    cancelled,
    leaves,
    setting,
    temporary,
    locked,
]
WEIGHTS = [8, 4, 4, 8, 6, 6, 4, 4, 3, 3, 1, 2, 4, 1, 1]
