"""TLS on both legs, where Postgres has it: a certificate, the settings, and the proof of it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgguard.launch.binaries import find_binaries
from pgguard.launch.embedded import unprivileged_account
from tests.conformance import fetching

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from pgguard.launch.binaries import Binaries

BACKEND = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@contextlib.contextmanager
def certificate() -> Iterator[Path]:
    """`cert.pem`, `key.pem` and `ca.pem` for 127.0.0.1, fit for Postgres and for the guard."""
    fetching.python_module("trustme")
    import trustme

    with tempfile.TemporaryDirectory(prefix="pgguard-conformance-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1", "localhost")
        authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        (directory / "cert.pem").write_bytes(issued.cert_chain_pems[0].bytes())
        issued.private_key_pem.write_to_path(str(directory / "key.pem"))
        (directory / "key.pem").chmod(0o600)
        if os.geteuid() == 0:
            account = unprivileged_account()
            os.chown(directory / "key.pem", account.uid, account.gid)
        yield directory


def of_postgres(files: Path) -> dict[str, str]:
    return {
        "ssl": "on",
        "ssl_cert_file": str(files / "cert.pem"),
        "ssl_key_file": str(files / "key.pem"),
    }


def to_clients(files: Path, *, how: str = "require") -> dict[str, str]:
    """Settings of a guard."""
    return {
        "listen.tls": how,
        "listen.cert": str(files / "cert.pem"),
        "listen.key": str(files / "key.pem"),
    }


def to_postgres(files: Path) -> dict[str, str]:
    """Settings of a guard."""
    return {"upstream.tls": "verify-full", "upstream.ca": str(files / "ca.pem")}


def programs() -> Binaries:
    """A Postgres that can TLS, from apt where there is none; that of the wheel cannot."""
    place = fetching.program("initdb", "postgresql-15", first=Path("/usr/lib/postgresql/15/bin"))
    return find_binaries({"PGGUARD_PG_BIN": str(place.parent)})


def is_on_both_legs(connection: psycopg.Connection[Any]) -> bool:
    """Whether client and Postgres both say so, of one connection through the guard."""
    return connection.pgconn.ssl_in_use and connection.execute(BACKEND).fetchone() == (True,)
