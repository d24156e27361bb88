"""A Postgres with every kind of role, database and method, and the guards in front of it.

Methods are chosen by the name of the database (pg_hba.conf), so that one server has them all.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import trustme

from pgguard.launch.embedded import unprivileged_account
from tests.conformance import harness
from tests.conformance.logins.client import Place, verifier

if TYPE_CHECKING:
    from collections.abc import Iterator

RIGHT = "right horse"
ODD_USER = "Ödd \"na'me\\"
ODD_PASSWORD = "I\u00adX \u2168\u00a0ﬁ"
LONG_USER = "l" * 63
METHODS = {
    "trust": "trust",
    "reject": "reject",
    "password": "password",
    "md5": "md5",
    "scram": "scram-sha-256",
}
"""Suffix of a database's name → method of pg_hba.conf."""
DATABASES = ("ok", "closed", "full", "off")
"""Open to all; without CONNECT for anybody; with CONNECTION LIMIT 0; with ALLOW_CONNECTIONS off."""


@dataclass(frozen=True, slots=True)
class Role:
    """A role, its password and what CREATE ROLE says of it."""

    name: str
    password: str
    clause: str = ""


def _hashed(iterations: int) -> str:
    return f"PASSWORD '{verifier(RIGHT, iterations)}'"


def _plain(password: str) -> str:
    return "PASSWORD '" + password.replace("'", "''") + "'"


ROLES = {
    "scram": Role("r_scram", RIGHT, _plain(RIGHT)),
    "few": Role("r_few", RIGHT, _hashed(1)),
    "many": Role("r_many", RIGHT, _hashed(15000)),
    "md5": Role("r_md5", RIGHT, "md5"),
    "null": Role("r_null", RIGHT),
    "nologin": Role("r_nologin", RIGHT, f"NOLOGIN {_plain(RIGHT)}"),
    "expired": Role("r_expired", RIGHT, f"VALID UNTIL '2001-01-01' {_plain(RIGHT)}"),
    "valid": Role("r_valid", RIGHT, f"VALID UNTIL '2100-01-01' {_plain(RIGHT)}"),
    "limited": Role("r_limited", RIGHT, f"CONNECTION LIMIT 0 {_plain(RIGHT)}"),
    "odd": Role(ODD_USER, ODD_PASSWORD, _plain(ODD_PASSWORD)),
    "long": Role(LONG_USER, RIGHT, _plain(RIGHT)),
    "held": Role("r_held", RIGHT, _plain(RIGHT)),
    "held_verifier": Role("r_held_verifier", RIGHT, _hashed(4096)),
    "unknown": Role("r_unknown", RIGHT, "none"),
    "unknown_long": Role("u" * 80, RIGHT, "none"),
}
HELD = {"r_held": RIGHT, "r_held_verifier": verifier(RIGHT, 4096)}
"""auth.users of every guard."""


@dataclass(slots=True)
class World:
    """What is compared: Postgres, and guards by (kind of service role, TLS on both legs)."""

    direct: Place
    guards: dict[tuple[str, bool], Place]
    logs: list[harness.Guard]
    client_tls: ssl.SSLContext
    admin: harness.Address

    def place(self, guard: tuple[str, bool] | None, *, tls: bool) -> Place:
        there = self.direct if guard is None else self.guards[guard]
        return there.over(self.client_tls if tls else None)


@contextlib.contextmanager
def world() -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="pgguard-logins-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        authority = trustme.CA()
        cert, key = _certificate(folder, authority)
        _write(folder / "pg_hba.conf", _rules())
        server = stack.enter_context(
            harness.postgres(
                settings={
                    "ssl": "on",
                    "ssl_cert_file": str(cert),
                    "ssl_key_file": str(key),
                    "hba_file": str(folder / "pg_hba.conf"),
                    "log_connections": "off",
                }
            )
        )
        _populate(server.address)
        context = ssl.create_default_context()
        authority.configure_trust(context)
        found = World(Place(server.address.port), {}, [], context, server.address)
        for service in ("superuser", "ordinary"):
            for tls in (False, True):
                address = server.address
                if service == "ordinary":
                    name, secret = "service", "service secret"
                    address = harness.Address(
                        address.host, address.port, name, secret, address.database
                    )
                guard = harness.Guard(
                    address,
                    {
                        "upstream.tls": "require" if tls else "disable",
                        "listen.cert": str(cert),
                        "listen.key": str(key),
                        "auth.users": json.dumps(HELD),
                    },
                )
                stack.enter_context(guard)
                found.guards[service, tls] = Place(guard.address.port)
                found.logs.append(guard)
        yield found


def _rules() -> str:
    lines = ["host postgres all 127.0.0.1/32 scram-sha-256"]
    for suffix, method in METHODS.items():
        names = ",".join(f"{kind}_{suffix}" for kind in (*DATABASES, "unknown"))
        lines.append(f"host {names} all 127.0.0.1/32 {method}")
    return "\n".join(lines) + "\n"


def _certificate(folder: Path, authority: trustme.CA) -> tuple[Path, Path]:
    made = authority.issue_cert("localhost", "127.0.0.1")
    cert, key = folder / "cert.pem", folder / "key.pem"
    _write(cert, made.cert_chain_pems[0].bytes().decode())
    _write(key, made.private_key_pem.bytes().decode())
    return cert, key


def _write(file: Path, text: str) -> None:
    """Readable by the server alone, which is what it wants of a key."""
    file.write_text(text)
    file.chmod(0o600)
    if os.geteuid() == 0:
        account = unprivileged_account()
        os.chown(file, account.uid, account.gid)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _populate(admin: harness.Address) -> None:
    with psycopg.connect(**admin.libpq(), autocommit=True) as connection:
        run = connection.execute
        run("CREATE ROLE service LOGIN PASSWORD 'service secret'")
        for role in ROLES.values():
            if role.clause == "none":
                continue
            login = "" if "NOLOGIN" in role.clause else "LOGIN"
            clause = role.clause
            if clause == "md5":
                run("SET password_encryption = md5")
                clause = _plain(role.password)
            run(f"CREATE ROLE {quoted(role.name)} {login} {clause}")
            run("RESET password_encryption")
        for suffix in METHODS:
            for kind in DATABASES:
                run(f"CREATE DATABASE {kind}_{suffix}")
            run(f"REVOKE CONNECT ON DATABASE closed_{suffix} FROM PUBLIC")
            run(f"ALTER DATABASE full_{suffix} CONNECTION LIMIT 0")
            run(f"ALTER DATABASE off_{suffix} ALLOW_CONNECTIONS false")
