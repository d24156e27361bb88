"""One connection of our own for a command that asks Postgres something and ends.

Laws: logged in within the time limit or not at all; closed in order, whatever happens meanwhile.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pgguard.core.secrets import Secret
from pgguard.errors import ServerUnavailable
from pgguard.net.dialer import Address, log_in, open_channel
from pgguard.net.service import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgguard.net.certificates import Encryption
    from pgguard.settings.upstream import UpstreamAddress


@asynccontextmanager
async def connected(
    address: UpstreamAddress, seconds: float, tls: Encryption | None, *, name: str
) -> AsyncIterator[Connection]:
    """A connection as the URL's user, with the application_name `name`.

    Raises ServerUnavailable, ProtocolViolation and OSError.
    """
    place = Address(address.host, address.port, seconds, tls)
    secret = Secret(address.password) if address.password else None
    parameters = {
        "user": address.user,
        "database": address.database,
        "application_name": name,
        "client_encoding": "UTF8",
        "standard_conforming_strings": "on",
    }
    try:
        async with asyncio.timeout(seconds):
            channel = await open_channel(place)
            try:
                login, rest = await log_in(channel, parameters, secret, mode=place.binding)
            except BaseException:
                channel.close()
                raise
    except TimeoutError:
        raise ServerUnavailable(f"no answer within {seconds:g} s") from None
    connection = Connection(channel, rest, login)
    connection.version = connection.version or "0"
    try:
        yield connection
        await connection.close()
    finally:
        connection.abort()
