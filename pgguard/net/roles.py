"""What pg_authid says of the users that log in, read through the service connection.

Read anew for each login, for all at once that wait together; nothing is remembered but whether the
role of the upstream URL may read pg_authid at all. Laws: names are bound values and every name in
the text is qualified, so that nothing of a session, and no search_path, has a say (reliability R12,
R13); whoever's role cannot be read is left to Postgres itself (transparency T2).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from pgguard.core.secrets import Role, role_of
from pgguard.errors import ServerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgguard.core.hub import Hub
    from pgguard.core.session import Session
    from pgguard.net.service import Rows, Services

log = logging.getLogger("pgguard.net")

LOOK_AGAIN_AFTER = 60.0
"""Seconds after which it is tried again whether pg_authid may be read."""
PATIENCE = 2.0
"""Seconds for which a login waits for its look-up, before Postgres itself is asked."""
TOGETHER = 100
INSUFFICIENT_PRIVILEGE = "42501"
ROLES_QUERY = (
    "SELECT asked.place, role.rolname IS NOT NULL, role.rolpassword,"
    " coalesce(role.rolvaliduntil OPERATOR(pg_catalog.<) pg_catalog.now(), false),"
    " coalesce(pg_catalog.current_setting('scram_iterations', true), '4096'),"
    " pg_catalog.concat_ws(' ', role.oid, role.rolcanlogin, role.rolsuper,"
    " (SELECT pg_catalog.string_agg(made.setting::pg_catalog.text, ' ' ORDER BY made.setting)"
    " FROM (SELECT one AS setting FROM pg_catalog.pg_db_role_setting AS one"
    " WHERE one.setrole OPERATOR(pg_catalog.=) ANY (ARRAY[0::pg_catalog.oid, role.oid])) AS made),"
    " (SELECT pg_catalog.string_agg(base.datname::pg_catalog.text, ' ' ORDER BY base.datname)"
    " FROM pg_catalog.pg_database AS base WHERE pg_catalog.to_jsonb(base)"
    " OPERATOR(pg_catalog.->>) 'dathasloginevt' OPERATOR(pg_catalog.=) 'true'))"
    " FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY AS asked(name, place)"
    " LEFT JOIN pg_catalog.pg_authid AS role"
    " ON role.rolname OPERATOR(pg_catalog.=) asked.name::pg_catalog.name"
)


class Roles:
    """The look-ups of one guard."""

    def __init__(
        self,
        hub: Hub,
        services: Services,
        database: str,
        user: str,
        spawn: Callable[..., object],
    ) -> None:
        self._hub = hub
        self._services = services
        self._database = database
        self._user = user
        self._spawn = spawn
        self._waiting: list[Session] = []
        self._refused_at: float | None = None
        """When Postgres last said that we may not."""
        self._told = False

    def want(self, session: Session) -> bool:
        """Whether the role of the session's user will be read: hub.role_known follows."""
        if not self._may() or not _is_text(session.user) or self._hub.upstream.single:
            return False
        if self._hub.blocking and self._hub.secrets.get(session.user) is not None:
            # A service connection would have to wait for CREATE or DROP DATABASE (T27).
            return False
        self._waiting.append(session)
        if len(self._waiting) == 1:
            self._spawn(self._read_all(), "roles")
        return True

    def _may(self) -> bool:
        refused = self._refused_at
        return refused is None or self._hub.clock() - refused > LOOK_AGAIN_AFTER

    async def _read_all(self) -> None:
        while self._waiting:
            sessions, count = self._waiting, len(self._waiting[:TOGETHER])
            asked = sessions[:count]
            roles: Sequence[Role | None] | None = await self._read([s.user for s in asked])
            if roles is None and count > 1:
                # One name that Postgres cannot read must not speak for the others.
                alone = [await self._read([session.user]) for session in asked]
                roles = [found[0] if found else None for found in alone]
            del sessions[:count]
            for session, role in zip(asked, roles or [None] * count, strict=True):
                self._hub.role_known(session, role)

    async def _read(self, users: list[str]) -> list[Role] | None:
        """The roles of users; None if they could not be read."""
        if not self._may():
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                (rows,) = await self._services.query(
                    self._database, ROLES_QUERY, values=[_array(users)]
                )
            return _understood(rows, len(users))
        except ServerUnavailable as error:
            if error.fields.get("C") == INSUFFICIENT_PRIVILEGE:
                self._refused()
            else:
                log.debug("roles not looked up: %s", error)
        except TimeoutError:
            log.debug("roles not looked up within %g s", PATIENCE)
        except (ValueError, IndexError, TypeError) as error:
            log.warning("roles not understood, logins are left to Postgres: %r", error)
        return None

    def _refused(self) -> None:
        self._refused_at = self._hub.clock()
        if not self._told:
            self._told = True
            log.info(
                "role %r of the upstream URL may not read pg_authid: users whose secret is in"
                " neither the URL nor auth.users log in at Postgres itself, each on a server"
                " connection of its own (relayed login)",
                self._user,
            )


def _understood(rows: Rows, count: int) -> list[Role]:
    """Raises ValueError, IndexError or TypeError for rows that were not asked for."""
    roles: list[Role | None] = [None] * count
    for place, found, verifier, expired, iterations, begins in rows:
        role = role_of(found == "t", verifier, expired == "t", int(iterations or 0))
        roles[int(place or 0) - 1] = replace(role, begins=begins or "")
    if None in roles:
        raise ValueError("a role is missing")
    return [role for role in roles if role is not None]


def _is_text(user: str) -> bool:
    """Names that are no UTF-8 can only be told to Postgres in a startup packet."""
    try:
        user.encode()
    except UnicodeEncodeError:
        return False
    return True


def _array(texts: list[str]) -> str:
    """An array of texts as Postgres reads it."""
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"
