"""The service connection: our own look-ups as the upstream URL's user, simple protocol, text rows.

Opened for a look-up and closed after a second without one, so that no CREATE or DROP DATABASE
fails because of us; while one of those runs none is opened (transparency T27). Only the one to
database `postgres` lasts: by its name other guards recognise this one. Laws: one connection for
each database, one look-up at a time; every step has a time limit; an error closes it, and what does
not answer is not waited for a second time.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from pgguard.core import loginevents
from pgguard.core.types import Recent
from pgguard.errors import ProtocolViolation, ServerUnavailable
from pgguard.net.dialer import Address, log_in, open_channel
from pgguard.wire import backend, codes, frontend
from pgguard.wire.codes import BACKEND_LIMIT
from pgguard.wire.scan import Framer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pgguard.core.hub import Hub
    from pgguard.core.server_login import ServerLogin
    from pgguard.net.channel import Channel

AT_ONCE = 2
"""Connections that are open at the same time, as far as they are not all in use, beside the one
that lasts."""
LASTING = "postgres"
"""The database that everybody has and nobody drops."""
IDLE = 1.0
LOOK_EVERY = 0.25
TIMEOUT = 10.0
CLOSE_WITHIN = 2.0
POLL = 0.02
OBJECT_IN_USE = "55006"
"""What Postgres says of a database that is connected to."""
BUSY = "55000"
Rows = list[list[str | None]]
T = TypeVar("T")


class Connection:
    """One logged-in connection that runs one look-up after the other."""

    def __init__(self, channel: Channel, rest: bytes, login: ServerLogin) -> None:
        self.method = login.method
        self._channel = channel
        self._framer = Framer(BACKEND_LIMIT, "server")
        self._framer.push(rest)
        self.pid = login.pid
        self.version = login.parameters.get("server_version", "")
        superuser = login.parameters.get("is_superuser") == "on"
        self.may_pass_over = superuser and loginevents.has_them(login.parameters)
        """Whether the next one can log in without setting off event triggers."""
        self.used_at = 0.0

    @property
    def tls(self) -> str:
        """The version of TLS, `TLSv1.3`; empty in plain text."""
        return self._channel.tls

    async def query(self, sql: str, values: Sequence[str] | None = None) -> Rows:
        """The rows of one statement, with bound text values if there are any.

        Raises ServerUnavailable with Postgres's error.
        """
        if values is None:
            said = frontend.query(sql.encode())
        else:
            said = b"".join(
                (
                    frontend.parse_message(b"", sql.encode()),
                    frontend.bind_message(b"", b"", [value.encode() for value in values]),
                    frontend.execute_message(b""),
                    frontend.sync(),
                )
            )
        await self._channel.send(said)
        rows: Rows = []
        failed: dict[str, str] | None = None
        while True:
            while (message := self._framer.take()) is None:
                data = await self._channel.receive(65536)
                if not data:
                    raise ServerUnavailable("the service connection was closed")
                self._framer.push(data)
            kind, body = message
            if kind == codes.DATA_ROW:
                rows.append(
                    [
                        None if v is None else v.decode("utf-8", "replace")
                        for v in backend.decode_row(body)
                    ]
                )
            elif kind == codes.ERROR_RESPONSE:
                failed = backend.decode_fields(body)
            elif kind == codes.READY_FOR_QUERY:
                if failed is not None:
                    raise ServerUnavailable(failed.get("M", ""), fields=failed, temporary=False)
                return rows

    async def close(self) -> None:
        """Terminate, and wait until Postgres has closed its side too."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN):
                await self._channel.send(frontend.terminate())
                while await self._channel.receive(65536):
                    pass
        self.abort()

    def abort(self) -> None:
        self._channel.close()


async def open_connection(address: Address, parameters: dict[str, str], hub: Hub) -> Connection:
    """Raises ServerUnavailable."""
    channel = await open_channel(address)
    try:
        secret = hub.secrets.get(parameters["user"])
        salted, mode = hub.secrets.salted, address.binding
        login, rest = await log_in(channel, parameters, secret, salted=salted, mode=mode)
    except ProtocolViolation as error:
        channel.close()
        raise ServerUnavailable(error.message, temporary=False) from error
    except BaseException:
        channel.close()
        raise
    return Connection(channel, rest, login)


class Services:
    """The service connections of one guard."""

    def __init__(self, hub: Hub, address: Address, user: str, application_name: str) -> None:
        self._hub = hub
        self._address = address
        self._user = user
        self._application_name = application_name
        self._open: dict[str, Connection] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._passes_over: bool | None = None
        """Whether logins say that they set off no event triggers; None = not known yet."""
        self._turn = asyncio.Lock()
        """Whose look-up it is, where only one can be."""
        self.announce: Callable[[], str] | None = None
        """The name of the connection that lasts; None = none does."""
        self.used_pids = Recent()
        """Of the newest service connections that there were."""
        self.server_version = ""
        """Of Postgres, as the newest connection was told."""

    @property
    def pids(self) -> list[int]:
        return [connection.pid for connection in self._open.values()]

    async def query(
        self, database: str, *statements: str, values: Sequence[str] | None = None
    ) -> list[Rows]:
        """Rows of each statement, `values` bound to it. Raises ServerUnavailable."""

        async def ask(connection: Connection) -> list[Rows]:
            return [await connection.query(sql, values) for sql in statements]

        return await self.converse(database, ask)

    async def converse(self, database: str, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What a dialogue of several statements comes to. Raises ServerUnavailable."""
        lock = self._locks.setdefault(database, asyncio.Lock())
        while True:
            await self._way_is_free()
            async with lock:
                if self._hub.upstream.single:
                    return await self._alone(database, work)
                if not self._hub.blocking:
                    return await self._converse(database, work)

    async def _alone(self, database: str, work: Callable[[Connection], Awaitable[T]]) -> T:
        """A look-up at a server with one backend: between two sessions, and gone at once."""
        hub = self._hub
        async with self._turn:
            hub.admission.ask_back(back=True, now=hub.clock())
            try:
                deadline = hub.clock() + TIMEOUT
                while hub.servers:
                    if hub.clock() > deadline:
                        raise ServerUnavailable("the only backend is in use", fields={"C": BUSY})
                    await asyncio.sleep(POLL)
                return await self._converse(database, work)
            finally:
                await self._drop(database)
                hub.granted(hub.admission.ask_back(back=False, now=hub.clock()))

    async def _way_is_free(self) -> None:
        """Wait until no statement about databases runs (T27), but not for ever."""
        deadline = self._hub.clock() + TIMEOUT
        while self._hub.blocking:
            if self._hub.clock() > deadline:
                raise ServerUnavailable(
                    "service connection: a statement about databases is still running",
                    fields={"C": OBJECT_IN_USE},
                )
            await asyncio.sleep(POLL)

    async def _converse(self, database: str, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(TIMEOUT):
                connection = await self._connection(database)
                result = await work(connection)
        except (OSError, TimeoutError, ProtocolViolation) as error:
            self._abandon(database)
            if isinstance(error, TimeoutError):
                reason = f"Postgres did not answer within {TIMEOUT:g} s"
            elif isinstance(error, OSError):
                reason = f"connection lost: {error.strerror or 'closed'}"
            else:
                reason = str(error)
            raise ServerUnavailable(f"service connection: {reason}") from error
        except ServerUnavailable:
            await self._drop(database)
            raise
        except BaseException:
            self._abandon(database)
            raise
        connection.used_at = self._hub.clock()
        return result

    async def version(self, database: str) -> str:
        """The server's version, by connecting. Raises ServerUnavailable."""
        await self.query(database, "SELECT 1")
        return self.server_version

    async def _connection(self, database: str) -> Connection:
        connection = self._open.get(database)
        if connection is None:
            name = self.announce() if self._lasts(database) and self.announce else None
            parameters = {
                "user": self._user,
                "database": database,
                "application_name": name or self._application_name,
                "client_encoding": "UTF8",
                "standard_conforming_strings": "on",
            }
            await self._make_room()
            # From here on it may be in somebody's way.
            self._hub.services = True
            connection = self._open[database] = await self._log_in(parameters)
            if connection.method is not None and not self._address.identifies:
                # Else a login without a challenge does not tell trust from what knows us (T3).
                self._hub.upstream.methods.learned(self._user, database, connection.method)
            self.used_pids.add(connection.pid)
            self.server_version = connection.version
        return connection

    async def _log_in(self, parameters: dict[str, str]) -> Connection:
        """A login is no client's, so it should set off no event trigger of theirs."""
        if self._passes_over:
            try:
                quiet = parameters | {"options": loginevents.OFF}
                return await open_connection(self._address, quiet, self._hub)
            except ServerUnavailable as error:
                if error.temporary or not error.fields:
                    raise
                # The role is no superuser any more, or a pooler in between takes no options.
                self._passes_over = False
        connection = await open_connection(self._address, parameters, self._hub)
        if self._passes_over is None:
            self._passes_over = connection.may_pass_over and not self._hub.upstream.single
        return connection

    async def is_alone(self, database: str) -> bool:
        """Whether the server refuses a second connection without a word, one being open."""
        parameters = {"user": self._user, "database": database}
        try:
            async with asyncio.timeout(TIMEOUT):
                second = await open_connection(self._address, parameters, self._hub)
        except ServerUnavailable as error:
            return not error.fields
        except OSError:
            return True
        except TimeoutError:
            return False
        self.used_pids.add(second.pid)
        await second.close()
        return False

    def _lasts(self, database: str) -> bool:
        return database == LASTING and self.announce is not None

    async def _make_room(self) -> None:
        """Many databases one after the other must not take the slots of sessions."""
        short = [name for name in self._open if not self._lasts(name)]
        unused = [name for name in short if not self._locks[name].locked()]
        for database in unused[: max(0, len(short) - AT_ONCE + 1)]:
            await self._drop(database)

    async def _drop(self, database: str) -> None:
        connection = self._open.pop(database, None)
        if connection is not None:
            await connection.close()
        self._hub.services = bool(self._open)

    def _abandon(self, database: str) -> None:
        """Close without a word what may not answer."""
        connection = self._open.pop(database, None)
        if connection is not None:
            connection.abort()
        self._hub.services = bool(self._open)

    async def run(self) -> None:
        """Close what has not been used for a second."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = self._hub.clock()
            for database, connection in list(self._open.items()):
                lock = self._locks[database]
                idle = now - connection.used_at > IDLE and not self._lasts(database)
                if idle and not lock.locked():
                    async with lock:
                        await self._drop(database)

    async def close_all(self) -> None:
        """T27: nothing of ours stands in the way; look-ups wait until `blocking` is empty."""
        for database, lock in list(self._locks.items()):
            async with lock:
                await self._drop(database)
        self._hub.services_closed()

    async def stop(self) -> None:
        """Close all; what is in the middle of a look-up is not waited for."""
        for database in list(self._open):
            if self._locks[database].locked():
                self._abandon(database)
            else:
                await self._drop(database)
