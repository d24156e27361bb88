"""Database URLs: taken apart, and shown without their secrets.

Laws: no pydantic, no I/O (the environment is passed in or that of the process); no password in a
repr, a message or an error. What a URL leaves out is filled in as libpq does: PGHOST, PGPORT,
PGUSER, PGPASSWORD, PGDATABASE, then the manual's defaults (section "Connection Strings").
"""

from __future__ import annotations

import getpass
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlencode

from pgguard.errors import SettingsError
from pgguard.settings.values import Address, is_directory

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PORT = 5432
MASK = "***"

_URL = re.compile(
    r"(?P<scheme>(?:jdbc:)?postgres(?:ql)?(?:\+[a-z0-9_]+)?)://"
    r"(?:(?P<userinfo>[^@/?#]*)@)?(?P<host>[^/?#]*)(?:/(?P<database>[^?#]*))?"
    r"(?:\?(?P<query>[^#]*))?(?:#.*)?",
    re.IGNORECASE | re.DOTALL,
)
_SECRETS = frozenset({"password", "sslpassword", "passfile"})


@dataclass(frozen=True, slots=True)
class UpstreamAddress:
    """Where and as whom to connect; as with libpq a `host` that is a directory means a unix socket.

    `query` keeps every parameter but `host` and `port`, decoded, the last one wins.
    """

    host: str
    port: int
    user: str
    password: str | None = field(repr=False)
    database: str
    query: dict[str, str] = field(repr=False)
    scheme: str

    @property
    def masked(self) -> str:
        """The URL as it may be shown."""
        secret = f":{MASK}" if self.password else ""
        return self._url(f"{quote(self.user, safe='')}{secret}", _masked_query(self.query))

    @property
    def url(self) -> str:
        """The URL with its password: for drivers, never for people."""
        secret = f":{quote(self.password, safe='')}" if self.password else ""
        return self._url(f"{quote(self.user, safe='')}{secret}", self.query)

    def _url(self, userinfo: str, query: dict[str, str]) -> str:
        place = str(Address(self.host, self.port))
        if is_directory(self.host):
            # The form that most drivers read.
            place, query = "", {"host": self.host, "port": str(self.port), **query}
        tail = "?" + urlencode(query, safe="*/,:", quote_via=quote) if query else ""
        database = quote(self.database, safe="")
        return f"{self.scheme}://{userinfo}@{place}/{database}{tail}"


def is_postgres_url(text: str) -> bool:
    """Whether `text` begins like a URL that `parse_url` reads."""
    head, separator, _ = text.partition("://")
    return bool(separator) and _URL.fullmatch(head + "://") is not None


def parse_url(url: str, env: Mapping[str, str] | None = None) -> UpstreamAddress:
    """Take a database URL apart.

    `postgres:`, `postgresql:`, `postgresql+driver:` and `jdbc:postgresql:` are one scheme. Userinfo
    and database are percent-decoded; `[::1]` is an IPv6 host; `user`, `password` and `dbname` in
    the query stand in for what the URL lacks (JDBC has no userinfo); `host` and `port` there win
    over what stands before it, as with libpq. A host that begins with `/` or `@` is a directory.

    Raises SettingsError, which never shows the URL.
    """
    env = os.environ if env is None else env
    match = _URL.fullmatch(url.strip())
    if match is None:
        raise SettingsError(
            "not a Postgres URL", hint="postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        )
    query = dict(parse_qsl(match["query"] or "", keep_blank_values=True))
    name, colon, secret = (match["userinfo"] or "").partition(":")
    host, port = _split_host(match["host"])
    host = query.pop("host", "") or host or env.get("PGHOST", "") or "localhost"
    port = query.pop("port", "") or port or env.get("PGPORT", "")
    if "," in host:
        raise SettingsError("several hosts in one URL are not in this version")
    user = unquote(name) or query.get("user", "") or env.get("PGUSER", "") or _os_user()
    password = unquote(secret) if colon else query.get("password") or env.get("PGPASSWORD")
    database = unquote(match["database"] or "") or query.get("dbname", "")
    return UpstreamAddress(
        host=host.rstrip("/") if is_directory(host) else host,
        port=_read_port(port),
        user=user,
        password=password or None,
        database=database or env.get("PGDATABASE", "") or user,
        query=query,
        scheme=match["scheme"],
    )


def mask_url(url: str) -> str:
    """`url` without its secrets; what cannot be read is masked whole."""
    try:
        return parse_url(url, {}).masked
    except SettingsError:
        return MASK


def _masked_query(query: dict[str, str]) -> dict[str, str]:
    return {name: MASK if name in _SECRETS else value for name, value in query.items()}


def _split_host(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise SettingsError("the host is not readable", hint="an IPv6 host is written [::1]")
        return host, rest[1:]
    host, _, port = text.partition(":")
    return unquote(host), port


def _read_port(text: str) -> int:
    if not text:
        return DEFAULT_PORT
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise SettingsError("the port is not a number from 1 to 65535")
    return int(text)


def _os_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "postgres"
