"""A Postgres with every kind of role, database and method, and the guards in front of it.

Methods are chosen by the name of the database (pg_hba.conf), so that one server has them all. Both
legs are alike: in plain text, in TLS, or over unix sockets.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import ssl
import tempfile
from dataclasses import dataclass, field
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
IDENTIFYING = {"ident": "ident", "peer": "peer", "mapped": "peer map=mapped"}
"""The same of those that ask who the client is at its own system; `peer` over unix sockets alone,
where `ident` is the same."""
CERTIFIED = {
    "cert": "cert",
    "dn": "cert clientname=DN map=names",
    "full": "scram-sha-256 clientcert=verify-full",
    "ca": "scram-sha-256 clientcert=verify-ca",
}
"""The same of those that want a client's certificate; in TLS alone."""
MAPPED = ("r_scram", "r_held", "r_nologin", "r_unknown")
SHOWN = {"its own": "r_scram", "another": "r_few", "none": "", "a foreign one": "r_scram"}
"""What a client shows → the common name in its certificate, in the folder of this name."""
LEGS = ("plain", "TLS", "unix")
OWN_USER = pwd.getpwuid(os.geteuid()).pw_name
OTHER_USER = unprivileged_account().name
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
    "own": Role(OWN_USER, RIGHT),
    "unknown": Role("r_unknown", RIGHT, "none"),
    "unknown_long": Role("u" * 80, RIGHT, "none"),
}
HELD = {"r_held": RIGHT, "r_held_verifier": verifier(RIGHT, 4096)}
"""auth.users of every guard."""


@dataclass(slots=True)
class World:
    """What is compared: Postgres, and guards by (kind of service role, leg)."""

    folder: Path
    authority: trustme.CA
    client_tls: ssl.SSLContext
    admin: harness.Address
    ports: dict[tuple[str, str], int] = field(default_factory=dict)
    logs: list[harness.Guard] = field(default_factory=list)

    def place(self, service: str, leg: str) -> Place:
        """Where to log in; without a `service` directly."""
        return self.at(self.ports[service, leg] if service else self.admin.port, leg)

    def at(self, port: int, leg: str) -> Place:
        if leg == "unix":
            return Place(path=f"{self.folder}/.s.PGSQL.{port}")
        return Place(port, tls=self.client_tls if leg == "TLS" else None)

    @contextlib.contextmanager
    def guard(self, service: str, leg: str) -> Iterator[None]:
        """`certified` shows a certificate to Postgres and asks its clients for one."""
        host = str(self.folder) if leg == "unix" else self.admin.host
        who = (self.admin.user, self.admin.password)
        if service == "ordinary":
            who = ("service", "service secret")
        settings = {
            "upstream.tls": "require" if leg == "TLS" else "disable",
            "listen.cert": str(self.folder / "cert.pem"),
            "listen.key": str(self.folder / "key.pem"),
            "listen.unix": str(self.folder),
            "auth.users": json.dumps(HELD),
        }
        if service == "certified":
            settings |= {
                "upstream.cert": str(self.folder / "its own/cert.pem"),
                "upstream.key": str(self.folder / "its own/key.pem"),
                "listen.client_ca": str(self.folder / "ca.pem"),
            }
        address = harness.Address(host, self.admin.port, *who, self.admin.database)
        with harness.Guard(address, settings) as guard:
            self.logs.append(guard)
            self.ports[service, leg] = guard.address.port
            yield


@contextlib.contextmanager
def world() -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="pgguard-logins-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        _give_to_server(folder)
        authority = trustme.CA()
        certificate(folder, authority, "localhost", "127.0.0.1")
        _write(folder / "ca.pem", authority.cert_pem.bytes().decode())
        _write(folder / "pg_hba.conf", _rules())
        _write(folder / "pg_ident.conf", _maps())
        server = stack.enter_context(
            harness.postgres(
                settings={
                    "ssl": "on",
                    "ssl_cert_file": str(folder / "cert.pem"),
                    "ssl_key_file": str(folder / "key.pem"),
                    "ssl_ca_file": str(folder / "ca.pem"),
                    "hba_file": str(folder / "pg_hba.conf"),
                    "ident_file": str(folder / "pg_ident.conf"),
                    "unix_socket_directories": str(folder),
                    "log_connections": "off",
                }
            )
        )
        _populate(server.address)
        context = ssl.create_default_context()
        authority.configure_trust(context)
        found = World(folder, authority, context, server.address)
        for service in ("superuser", "ordinary"):
            for leg in LEGS:
                stack.enter_context(found.guard(service, leg))
        for shown, name in SHOWN.items():
            if name:
                (folder / shown).mkdir()
                by = trustme.CA() if shown == "a foreign one" else authority
                certificate(folder / shown, by, "client", common_name=name)
        stack.enter_context(found.guard("certified", "TLS"))
        yield found


def _rules() -> str:
    lines = []
    for kind, address in (("local", ""), ("host", "127.0.0.1/32")):
        lines.append(f"{kind} postgres all {address} scram-sha-256")
        for suffix, method in (METHODS | IDENTIFYING).items():
            if kind == "local" or not method.startswith("peer"):
                names = ",".join(f"{kind}_{suffix}" for kind in (*DATABASES, "unknown"))
                lines.append(f"{kind} {names} all {address} {method}")
    for suffix, method in CERTIFIED.items():
        lines.append(f"hostssl ok_{suffix} all 127.0.0.1/32 {method}")
    return "\n".join(lines) + "\n"


def _maps() -> str:
    """Our own user is some others, too; a certificate's subject begins with its role's name."""
    lines = [f'mapped "{OWN_USER}" {name}' for name in MAPPED]
    return "\n".join([*lines, r'names "/^CN=([^,]*)" \1', ""])


def certificate(
    folder: Path, authority: trustme.CA, *names: str, common_name: str | None = None
) -> None:
    """`cert.pem` and `key.pem` in the folder."""
    made = authority.issue_cert(*names, common_name=common_name)
    _write(folder / "cert.pem", made.cert_chain_pems[0].bytes().decode())
    _write(folder / "key.pem", made.private_key_pem.bytes().decode())


def _write(file: Path, text: str) -> None:
    """Readable by the server alone, which is what it wants of a key."""
    file.write_text(text)
    file.chmod(0o600)
    _give_to_server(file)


def _give_to_server(file: Path) -> None:
    if os.geteuid() == 0:
        account = unprivileged_account()
        os.chown(file, account.uid, account.gid)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _populate(admin: harness.Address) -> None:
    with psycopg.connect(**admin.libpq(), autocommit=True) as connection:
        run = connection.execute
        run("CREATE ROLE service LOGIN PASSWORD 'service secret'")
        if os.geteuid() == 0:
            run(f"CREATE ROLE {quoted(OTHER_USER)} LOGIN")
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
        for suffix in CERTIFIED:
            run(f"CREATE DATABASE ok_{suffix}")
        for suffix in METHODS | IDENTIFYING:
            for kind in DATABASES:
                run(f"CREATE DATABASE {kind}_{suffix}")
            run(f"REVOKE CONNECT ON DATABASE closed_{suffix} FROM PUBLIC")
            run(f"ALTER DATABASE full_{suffix} CONNECTION LIMIT 0")
            run(f"ALTER DATABASE off_{suffix} ALLOW_CONNECTIONS false")
