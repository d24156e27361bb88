"""The catalogue that `pgguard check` judges by: of a database, or of a file with its schema.

Laws: a database is only read; a schema is loaded into a throw-away Postgres, statement by
statement, and what that cannot execute is said and left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from pgguard.errors import LaunchError, ServerUnavailable, SettingsError
from pgguard.sql.split import split
from pgguard.tenancy.catalogue import CATALOGUE_QUERIES, Catalogue, catalogue_from_rows
from pgguard.tenancy.rowpolicies import DatabaseRole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pgguard.net.certificates import Encryption
    from pgguard.net.service import Connection
    from pgguard.settings.upstream import UpstreamAddress

NAME: Final = "pgguard/check"
SECONDS: Final = 15.0
UNDEFINED_OBJECT: Final = "42704"

_ROLE: Final = re.compile(r'^role "(.+)" does not exist$')
_SKIPPED: Final = re.compile(
    r"(begin|start\s+transaction|commit|end|rollback|copy)\b", re.IGNORECASE
)


class Script(NamedTuple):
    """A file with a schema."""

    path: str
    text: str


async def of_database(address: UpstreamAddress, tls: Encryption | None) -> Catalogue:
    """What the database at `address` says of itself. Raises ServerUnavailable."""
    from pgguard.net.asking import connected

    try:
        async with connected(address, SECONDS, tls, name=NAME) as connection:
            return await _read(connection)
    except OSError as error:
        what = error.strerror or error
        raise ServerUnavailable(f"cannot reach {address.masked}: {what}") from error


async def of_scripts(scripts: Sequence[Script], say: Callable[[str], None]) -> Catalogue:
    """What a throw-away Postgres says that has executed the scripts; `say` gets what failed.

    Raises LaunchError, with the way out where there is no Postgres to start.
    """
    from pgguard.launch.embedded import EmbeddedPostgres
    from pgguard.net.asking import connected
    from pgguard.net.certificates import encryption
    from pgguard.settings.encryption import Demand
    from pgguard.settings.upstream import parse_url

    try:
        server = EmbeddedPostgres(max_connections=5)
        async with server:
            address, tls = parse_url(server.url), encryption(Demand("disable"))
            async with connected(address, SECONDS, tls, name=NAME) as connection:
                for script in scripts:
                    await _load(connection, script, say)
            async with connected(address, SECONDS, tls, name=NAME) as connection:
                catalogue = await _read(connection)
            # A schema is not owned by a superuser where it is used.
            catalogue.roles.known[server.user] = DatabaseRole(
                server.user, has=frozenset({server.user})
            )
            return catalogue
    except LaunchError as error:
        raise LaunchError(
            f"{error} (--schema needs a Postgres to read it; --dsn URL asks one that runs)"
        ) from error


def read_script(path: Path) -> Script:
    """Raises SettingsError."""
    try:
        return Script(str(path), path.read_text("utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}", where="--schema") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8", where="--schema") from None


async def _read(connection: Connection) -> Catalogue:
    await connection.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    rows = {name: await connection.query(sql) for name, sql in CATALOGUE_QUERIES.items()}
    await connection.query("COMMIT")
    return catalogue_from_rows(rows)


async def _load(connection: Connection, script: Script, say: Callable[[str], None]) -> None:
    for piece in split(script.text):
        if piece.command or _SKIPPED.match(script.text, piece.first):
            # Each statement stands alone, so that one that fails takes no other with it.
            continue
        wrong = await _execute(connection, piece.text)
        if wrong:
            line = script.text.count("\n", 0, piece.first) + 1
            say(f"{script.path}:{line}: not loaded: {wrong}")


async def _execute(connection: Connection, sql: str) -> str:
    """Execute one statement, with the roles that it needs; what went wrong."""
    made: set[str] = set()
    while True:
        try:
            await connection.query(sql)
        except ServerUnavailable as error:
            message = error.fields.get("M", "")
            role = _ROLE.match(message)
            if error.fields.get("C") != UNDEFINED_OBJECT or role is None or role[1] in made:
                return message or str(error)
            made.add(role[1])
            quoted = role[1].replace('"', '""')
            await connection.query(f'CREATE ROLE "{quoted}"')
        else:
            return ""
