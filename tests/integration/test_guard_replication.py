"""Replication connections through a guard: walsenders, logical and physical, and their COPY BOTH.

Laws: commands of replication are no statements on tenant data, SQL beside them is; a walsender ends
as any server does, and leaves no slot.
"""

from __future__ import annotations

import signal
import struct
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest
from guard import WITHIN, until
from rawsession import RawSession

from pgguard.findings import Verdict
from pgguard.launch.embedded import EmbeddedPostgres
from pgguard.wire import backend, codes, frontend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from guard import RunningGuard

pytestmark = pytest.mark.slow

COPY_DATA, COPY_DONE, COPY_BOTH = ord("d"), ord("c"), ord("W")


@pytest.fixture(scope="module")
def walsender() -> Iterator[EmbeddedPostgres]:
    """A Postgres that decodes its WAL, with a table of tenants."""
    with EmbeddedPostgres(max_connections=20, settings={"wal_level": "logical"}) as server:
        with psycopg.connect(server.url, autocommit=True) as admin:
            admin.execute("CREATE TABLE notes (tenant_id int, word text)")
            admin.execute("CREATE ROLE copier LOGIN REPLICATION PASSWORD 'copies'")
        yield server


@pytest.fixture
def guard(start_guard: Callable[..., RunningGuard], walsender: EmbeddedPostgres) -> RunningGuard:
    return start_guard(walsender.url, tenancy__columns=["tenant_id"])


def message(kind: int, body: bytes = b"") -> bytes:
    return backend.message(kind, body)


def status_update(position: int, *, reply: bool) -> bytes:
    """A standby's status (manual, "Streaming Replication Protocol")."""
    return message(COPY_DATA, b"r" + struct.pack(">QQQQB", *[position] * 3, 0, reply))


def copied(session: RawSession, kind: bytes) -> bytes:
    """The next CopyData of a kind: `w` is WAL, `k` a keepalive; others are passed over."""
    while True:
        got, body = session.message()
        assert got == COPY_DATA, (got, body)
        if body.startswith(kind):
            return body


def of_columns(answer: list[tuple[int, bytes]]) -> list[bytes | None]:
    (row,) = [body for kind, body in answer if kind == codes.DATA_ROW]
    return backend.decode_row(row)


def has_begun(segment: Path) -> bool:
    """Whether something was written into a segment, which is zeros at first."""
    with segment.open("rb") as file:
        return any(file.read(16))


def verdicts(guard: RunningGuard, name: str) -> list[int]:
    until(lambda: guard.guard.hub.gate.waiting() == 0, "the verdicts")
    return list(guard.client(name).counters.statements)


def test_changes_are_decoded_and_acknowledged_both_ways(
    guard: RunningGuard, walsender: EmbeddedPostgres
) -> None:
    with RawSession.open(guard, replication="database", application_name="logical") as session:
        system = of_columns(session.query("IDENTIFY_SYSTEM"))
        assert system[3] == guard.guard.upstream.database.encode()
        made = session.query("CREATE_REPLICATION_SLOT s TEMPORARY LOGICAL test_decoding")
        assert of_columns(made)[0] == b"s"
        session.send(frontend.query(b"START_REPLICATION SLOT s LOGICAL 0/0"))
        assert session.message()[0] == COPY_BOTH
        with psycopg.connect(walsender.url, autocommit=True) as direct:
            direct.execute("INSERT INTO notes VALUES (1, 'hear, hear')")
        while b"hear, hear" not in (change := copied(session, b"w")):
            pass
        (position,) = struct.unpack_from(">Q", change, 1)
        session.send(status_update(position, reply=True))
        assert len(copied(session, b"k")) == 18
        session.send(message(COPY_DONE))
        while (got := session.message())[0] == COPY_DATA:
            pass
        assert got[0] == COPY_DONE
        assert session.until_ready()[-1] == (codes.READY_FOR_QUERY, b"I")
        rows = session.query("SELECT word FROM notes")
        assert b"hear, hear" in of_columns(rows)
        counted = verdicts(guard, "logical")
        assert counted[Verdict.unknown] == 0
        assert counted[Verdict.unscoped] == 1
    guard.idle()


def test_a_client_that_vanishes_while_it_copies_leaves_no_walsender(
    guard: RunningGuard, walsender: EmbeddedPostgres
) -> None:
    for how in ("reset", "close", "terminate"):
        session = RawSession.open(guard, replication="database")
        session.query("CREATE_REPLICATION_SLOT s TEMPORARY LOGICAL test_decoding")
        session.send(frontend.query(b"START_REPLICATION SLOT s LOGICAL 0/0"))
        assert session.message()[0] == COPY_BOTH
        if how == "terminate":
            session.send(frontend.terminate())
        if how == "reset":
            session.reset()
        session.socket.close()
        guard.idle()
    with psycopg.connect(walsender.url) as direct:
        assert direct.execute("SELECT pid FROM pg_stat_replication").fetchall() == []


def test_a_walsender_that_copies_is_ended_when_the_guard_stops(
    guard: RunningGuard, walsender: EmbeddedPostgres
) -> None:
    with RawSession.open(guard, replication="database") as session:
        session.query("CREATE_REPLICATION_SLOT s TEMPORARY LOGICAL test_decoding")
        session.send(frontend.query(b"START_REPLICATION SLOT s LOGICAL 0/0"))
        assert session.message()[0] == COPY_BOTH
        guard.stop(grace=0.1)
        while (told := session.error()["C"]) == "57014":
            # The cancel of what still ran; its end is waited for, but not for long.
            pass
        assert told == "57P01"
        assert session.ended()
    with psycopg.connect(walsender.url) as direct:
        until(lambda: direct.execute("TABLE pg_replication_slots").fetchall() == [], "the slot")


@pytest.mark.parametrize("database", ["replication", "postgres"])
def test_a_physical_walsender_has_no_database(guard: RunningGuard, database: str) -> None:
    """libpq's programs name one that is none."""
    name = f"physical-{database}"
    with RawSession.open(
        guard, replication="true", database=database, application_name=name
    ) as session:
        assert of_columns(session.query("IDENTIFY_SYSTEM"))[3] is None
        session.send(frontend.query(b"TIMELINE_HISTORY 1; SELECT 1"))
        assert session.error()["C"] == "42601"
        session.until_ready()
        counted = verdicts(guard, name)
        assert counted[Verdict.unknown] == 0
    guard.idle()


def test_a_base_backup_and_wal_are_received(
    guard: RunningGuard, walsender: EmbeddedPostgres, tmp_path: Path
) -> None:
    program, url = walsender.binaries.directory, guard.url(application_name="backup")
    base, wal = tmp_path / "base", tmp_path / "wal"
    wal.mkdir()
    backup = [program / "pg_basebackup", "-d", url, "-D", base, "-X", "stream", "-c", "fast"]
    subprocess.run([*backup, "--no-sync"], check=True, timeout=3 * WITHIN)
    assert (base / "backup_manifest").exists()
    receive = [program / "pg_receivewal", "-d", url, "-D", wal, "--no-loop", "--no-sync"]
    with subprocess.Popen(receive) as receiving, psycopg.connect(walsender.url) as direct:
        try:
            direct.execute("INSERT INTO notes VALUES (2, 'more')")
            direct.commit()
            until(lambda: any(map(has_begun, wal.iterdir())), "WAL")
            receiving.send_signal(signal.SIGINT)
            assert receiving.wait(WITHIN) == 0
        finally:
            receiving.kill()
    counted = verdicts(guard, "backup")
    assert counted[Verdict.unknown] == 0
    guard.idle()


def test_lines_for_replication_alone_let_a_walsender_in(
    start_guard: Callable[..., RunningGuard], walsender: EmbeddedPostgres
) -> None:
    """`all` of pg_hba.conf does not mean replication: its lines alone have the word."""
    hba = walsender.directory / "data" / "pg_hba.conf"
    before = hba.read_text()
    guard = start_guard(walsender.url)
    with psycopg.connect(walsender.url, autocommit=True) as admin:
        hba.write_text(
            "host all pgguard all scram-sha-256\nhost replication copier all scram-sha-256\n"
        )
        admin.execute("SELECT pg_reload_conf()")
        until(lambda: refused(walsender), "the new lines")
        login = {"user": "copier", "password": "copies", "replication": "true"}
        try:
            with psycopg.connect(guard.url(**login), autocommit=True) as session:
                row = psycopg.ClientCursor(session).execute("IDENTIFY_SYSTEM").fetchone()
                assert row is not None
                assert row[3] is None
            with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
                psycopg.connect(guard.url(user="copier", password="copies"))
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(guard.url(**{**login, "password": "wrong"}))
        finally:
            hba.write_text(before)
            admin.execute("SELECT pg_reload_conf()")


def refused(server: EmbeddedPostgres) -> bool:
    """Whether the new lines are read: the copier may not come in as anybody else does."""
    there = f"host={server.host} port={server.port} dbname=postgres user=copier password=copies"
    try:
        psycopg.connect(there).close()
    except psycopg.OperationalError as error:
        return "no pg_hba.conf entry" in str(error)
    return False
