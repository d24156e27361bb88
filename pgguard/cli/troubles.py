"""What can be wrong with an upstream or a port, in words for people and with what to do about it.

Laws: a line names the server and who named it, says each thing once, and ends with a remedy; no
number of an error, no address twice, no secret.
"""

from __future__ import annotations

import errno
import re
from itertools import takewhile
from typing import TYPE_CHECKING

from pgguard.errors import ServerUnavailable, SettingsError

if TYPE_CHECKING:
    from pgguard.app import Guard
    from pgguard.settings import Address

_NUMBER = re.compile(r"\[Errno -?\d+\] ")
_REMEDIES = {
    "28P01": "correct user and password of {source}",
    "28000": "let this user in by pg_hba.conf, or name another one",
    "3D000": "create the database, or name another one",
    "53300": "close what holds Postgres's connections",
    "57P03": "wait until Postgres has started",
}
_NO_HOST = "correct the host in {source}"
_NO_ANSWER = "start Postgres, or correct host and port of {source}"
_NO_SOCKET = "start Postgres there, or correct the directory and port of {source}"


def cause(error: BaseException, address: Address) -> str:
    """What happened to an attempt to reach `address`, without saying the address again."""
    return told((error.strerror if isinstance(error, OSError) else None) or str(error), address)


def told(text: str, address: Address) -> str:
    """The text of such an error, where the address stands before it."""
    text = text.removeprefix("service connection: ")
    text = text.removeprefix(f"cannot connect to {address}: ")
    return _NUMBER.sub("", text)


def remedy(error: BaseException, source: str = "the URL") -> str:
    """What to do about it; `source` is where the URL came from."""
    sqlstate = error.fields.get("C", "") if isinstance(error, ServerUnavailable) else ""
    other = _NO_HOST if "cannot resolve" in str(error) else _NO_ANSWER
    if ".s.PGSQL." in str(error):
        other = _NO_SOCKET
    return _REMEDIES.get(sqlstate, other).format(source=source)


def unavailable(
    error: ServerUnavailable, address: Address, origin: str, waited: str
) -> ServerUnavailable:
    """The end of a `run` that found no Postgres: one line.

    `origin` is where the address came from, `waited` the duration of `upstream.wait`.
    """
    what = cause(error, address)
    if error.temporary and "(upstream.wait)" not in what:
        what += f", tried for {waited} (upstream.wait)"
    text = f"{address} (from {origin}): {what}; CMD not started ({remedy(error, origin)})"
    return ServerUnavailable(text, fields=error.fields, temporary=error.temporary)


async def start(guard: Guard) -> None:
    """Start a guard. Raises SettingsError that names the holder of a port that is taken."""
    try:
        await guard.start()
    except SettingsError as error:
        settings = guard.settings
        wire = error.where == "--listen"
        address = settings.listen.address if wire else settings.http.address
        if address is None or error.where == "listen.unix":
            raise
        raise taken(error, address) from error.__cause__


def taken(error: SettingsError, address: Address) -> SettingsError:
    """The error of a port that could not be had, with the program that has it where readable."""
    cause = error.__cause__
    if not isinstance(cause, OSError) or cause.errno != errno.EADDRINUSE:
        return error
    holder = _holder(address.port)
    if not holder:
        return error
    way_out = error.hint.rpartition("; ")[2]
    message = f"cannot listen on {address}: {holder} has that port"
    return SettingsError(message, where=error.where, hint=way_out)


def _holder(port: int) -> str:
    """The process that listens on a TCP port; empty where it cannot be read."""
    from pgguard.net.peer import Peers

    found = Peers().find([port], 0).get(port)
    if found is None:
        return ""
    words = takewhile(lambda word: not word.startswith("-"), found.command.split())
    return f"{' '.join(words)} (pid {found.pid})"
