"""Drivers of today through TLS, to the guard and from there to the server, on both loops."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
import threading
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import psycopg2
import pytest
import uvloop
from commands import environment, pgguard
from guard import until
from psycopg import sql
from tls import SSL, Files, TlsServer, client_context, files, server_context

from pgguard.settings import load
from pgguard.wire import codes, frontend
from pgguard.wire.auth import ScramClient
from pgguard.wire.codes import BACKEND_LIMIT
from pgguard.wire.scan import Framer
from pgguard.wire.startup import build_startup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from guard import RunningGuard

FACTORIES = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture
def pem(tmp_path: Path) -> Files:
    return files(tmp_path / "guard")


@pytest.fixture(params=FACTORIES, ids=["asyncio", "uvloop"])
def start_tls(
    request: pytest.FixtureRequest, start_guard: Callable[..., RunningGuard], pem: Files
) -> Callable[..., RunningGuard]:
    """Starts guards that speak TLS to clients, on each loop."""

    def start(upstream: str, /, **values: Any) -> RunningGuard:
        own = {"listen__cert": str(pem.cert), "listen__key": str(pem.key), **values}
        return start_guard(upstream, factory=request.param, **own)

    return start


@pytest.fixture
def guard(start_tls: Callable[..., RunningGuard], database: Any) -> RunningGuard:
    return start_tls(database.url)


@pytest.fixture
def upstream(database: Any, tmp_path: Path) -> Iterator[TlsServer]:
    """The test server with TLS in front of it."""
    made = files(tmp_path / "upstream")
    with TlsServer(database.port, server_context(made)) as server:
        yield server


def behind(database: Any, server: TlsServer) -> str:
    return str(database.url).replace(f":{database.port}/", f":{server.port}/")


def verified(pem: Files, **more: str) -> dict[str, str]:
    return {"sslmode": "verify-full", "sslrootcert": str(pem.ca), **more}


def speaks_tls(connection: Any) -> bool:
    return bool(connection.pgconn.ssl_in_use)


# Clients


def test_psycopg_verifies_the_guard(guard: RunningGuard, pem: Files) -> None:
    with guard.connect("a", **verified(pem)) as connection:
        assert speaks_tls(connection)
        assert connection.execute("SELECT 1").fetchone() == (1,)
    guard.idle()


def test_large_values_and_copy_pass_both_ways(guard: RunningGuard, pem: Files) -> None:
    blob = bytes(range(256)) * 12_000
    with guard.connect("a", **verified(pem)) as connection:
        assert connection.execute("SELECT %b::bytea", [blob]).fetchone() == (blob,)
        connection.execute("CREATE TABLE t (n int, x text)")
        with connection.cursor().copy("COPY t FROM STDIN") as copy:
            for number in range(5_000):
                copy.write_row((number, "x" * 100))
        with connection.cursor().copy("COPY t TO STDOUT") as copy:
            assert sum(len(piece) for piece in copy) > 500_000
    guard.idle()


def test_a_client_that_does_not_read_holds_its_own_server_only(
    guard: RunningGuard, pem: Files
) -> None:
    with (
        guard.connect("slow", **verified(pem)) as slow,
        guard.connect("fast") as fast,
        slow.cursor() as cursor,
    ):
        rows = cursor.stream("SELECT repeat('x', 1000) FROM generate_series(1, 30000)")
        assert next(rows)
        assert fast.execute("SELECT 1").fetchone() == (1,)
        assert sum(1 for _ in rows) == 29_999
    guard.idle()


def test_a_pipeline_and_notifications_pass(guard: RunningGuard, pem: Files) -> None:
    with guard.connect("a", **verified(pem)) as one, guard.connect("a", **verified(pem)) as other:
        with one.pipeline():
            cursors = [one.execute("SELECT %s::int", [n]) for n in range(300)]
        assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(300)]
        one.execute("LISTEN here")
        other.execute("NOTIFY here, 'word'")
        assert [note.payload for note in one.notifies(timeout=10, stop_after=1)] == ["word"]
    guard.idle()


def test_a_cancel_ends_the_statement(guard: RunningGuard, pem: Files) -> None:
    with guard.connect("a", **verified(pem)) as connection:
        timer = threading.Timer(0.2, connection.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(20)")
        timer.join()
        assert connection.execute("SELECT 2").fetchone() == (2,)
    guard.idle()


def test_libpq_begins_with_tls_at_once(guard: RunningGuard, pem: Files) -> None:
    with guard.connect("a", **verified(pem, sslnegotiation="direct")) as connection:
        assert speaks_tls(connection)


def test_asyncpg_and_psycopg2_speak_tls(guard: RunningGuard, pem: Files) -> None:
    async def ask(**options: Any) -> int:
        connection = await asyncpg.connect(guard.url(), ssl=client_context(pem), **options)
        try:
            return int(await connection.fetchval("SELECT 3"))
        finally:
            await connection.close()

    for factory in FACTORIES:
        with asyncio.Runner(loop_factory=factory) as runner:
            assert runner.run(ask()) == 3
            assert runner.run(ask(direct_tls=True)) == 3
    with contextlib.closing(psycopg2.connect(guard.url(**verified(pem)))) as connection:
        assert connection.info.ssl_in_use
    guard.idle()


def test_a_certificate_of_another_authority_is_noticed_by_the_client(
    guard: RunningGuard, tmp_path: Path
) -> None:
    other = files(tmp_path / "other", by="theirs")
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        guard.connect("a", **verified(other))
    guard.idle()


@pytest.mark.parametrize("binding", ["disable", "prefer", "require"])
def test_a_login_is_bound_to_the_certificate_as_the_client_wants(
    guard: RunningGuard, pem: Files, binding: str
) -> None:
    with guard.connect("a", **verified(pem, channel_binding=binding)) as connection:
        assert speaks_tls(connection)
    guard.idle()


def test_who_has_sent_everything_gets_the_answer(guard: RunningGuard, pem: Files) -> None:
    """A half-close in TLS: close_notify, then a last answer, as Postgres gives it."""
    there = guard.guard.upstream
    framer = Framer(BACKEND_LIMIT, "server")
    with guard.connect("a", **verified(pem)):
        pass
    sock = socket.create_connection(guard.guard.listen, 10)
    sock.sendall(SSL)
    assert sock.recv(1) == b"S"
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context(pem).wrap_bio(incoming, outgoing, server_hostname="localhost")

    def step(work: Callable[[], Any]) -> Any:
        while True:
            try:
                return work()
            except ssl.SSLWantReadError:
                if pending := outgoing.read():
                    sock.sendall(pending)
                data = sock.recv(65536)
                incoming.write(data) if data else incoming.write_eof()

    def message() -> tuple[int, bytes]:
        while (found := framer.take()) is None:
            framer.push(step(lambda: tls.read(65536)))
        return found

    def say(data: bytes) -> None:
        tls.write(data)
        sock.sendall(outgoing.read())

    step(tls.do_handshake)
    say(build_startup(codes.PROTOCOL_3_0, {"user": there.user, "database": there.database}))
    scram = ScramClient("", password=there.password or "", nonce=b"0123456789abcdef", salted={})
    message()
    say(frontend.sasl_initial(b"SCRAM-SHA-256", scram.first()))
    say(frontend.sasl_response(scram.final(message()[1][4:])))
    while message()[0] != codes.READY_FOR_QUERY:
        pass
    tls.write(frontend.query(b"SELECT 42 FROM pg_sleep(0.1)"))
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.unwrap()
    sock.sendall(outgoing.read())
    sock.shutdown(socket.SHUT_WR)
    kinds = []
    while not kinds or kinds[-1][0] != codes.READY_FOR_QUERY:
        kinds.append(message())
    assert b"42" in b"".join(body for kind, body in kinds if kind == codes.DATA_ROW)
    sock.close()
    guard.idle()


def test_require_takes_tls_alone(start_tls: Callable[..., RunningGuard], database: Any) -> None:
    guard = start_tls(database.url, listen__tls="require")
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry .* no encryption"):
        guard.connect("a", sslmode="disable")
    with guard.connect("a") as connection:
        assert speaks_tls(connection)


def test_a_client_certificate_is_demanded(
    start_tls: Callable[..., RunningGuard], database: Any, pem: Files, tmp_path: Path
) -> None:
    guard = start_tls(database.url, listen__client_ca=str(pem.ca))
    with pytest.raises(psycopg.OperationalError, match="requires a valid client certificate"):
        guard.connect("a", **verified(pem, sslcert=str(tmp_path / "none")))
    own = files(tmp_path / "client", "app")
    own.key.chmod(0o600)
    shown = verified(pem, sslcert=str(own.cert), sslkey=str(own.key))
    with guard.connect("a", **shown) as connection:
        assert speaks_tls(connection)
    guard.idle()


def test_certificates_are_read_again_and_nobody_is_dropped(
    start_tls: Callable[..., RunningGuard], database: Any, pem: Files, tmp_path: Path
) -> None:
    values: dict[str, Any] = {}

    def reread() -> Any:
        return load(config=None, env={}, flags=values, cwd=tmp_path).settings

    guard = start_tls(database.url, reread=reread)
    values |= {
        "upstream.url": database.url,
        "listen.address": "127.0.0.1:0",
        "http.address": "127.0.0.1:0",
        "listen.cert": str(pem.cert),
        "listen.key": str(pem.key),
    }
    with guard.connect("a", **verified(pem)) as before:
        renewed = files(pem.cert.parent, by="renewed")
        guard.run(guard.guard.reread())
        with guard.connect("a", **verified(renewed)) as after:
            assert speaks_tls(after)
        pem.cert.write_text("broken")
        guard.run(guard.guard.reread())
        with guard.connect("a", **verified(renewed)) as still:
            assert speaks_tls(still)
        assert before.execute("SELECT 1").fetchone() == (1,)
    guard.idle()


# The server


@pytest.mark.parametrize("negotiation", ["postgres", "direct"])
def test_everything_goes_to_the_server_in_tls(
    start_tls: Callable[..., RunningGuard],
    database: Any,
    upstream: TlsServer,
    pem: Files,
    negotiation: str,
) -> None:
    guard = start_tls(
        behind(database, upstream),
        upstream__tls="verify-full",
        upstream__ca=str(pem.ca),
        upstream__tls_negotiation=negotiation,
    )
    guard.run(guard.guard.wait_upstream())
    blob = bytes(range(256)) * 2_000
    with guard.connect("a", **verified(pem)) as tls, guard.connect("b") as plain:
        for connection in (tls, plain):
            assert connection.execute("SELECT %b::bytea", [blob]).fetchone() == (blob,)
        timer = threading.Timer(0.2, plain.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            plain.execute("SELECT pg_sleep(20)")
        timer.join()
        with pytest.raises(psycopg.errors.UndefinedTable):
            plain.execute("SELECT * FROM no_such_table")
        plain.execute("CREATE TABLE t (n int)")
        with plain.cursor().copy("COPY t FROM STDIN") as copy:
            for number in range(20_000):
                copy.write_row((number,))
        assert plain.execute("SELECT count(*) FROM t").fetchone() == (20_000,)
    guard.idle()
    assert set(upstream.spoken) == {"direct" if negotiation == "direct" else "TLSv1.3"}


def test_a_session_that_leaves_frees_its_slot_at_the_server(
    start_tls: Callable[..., RunningGuard], database: Any, upstream: TlsServer
) -> None:
    guard = start_tls(behind(database, upstream), upstream__tls="require")
    with psycopg.connect(database.url, autocommit=True) as direct:
        for _ in range(5):
            with guard.connect("a", application_name="leaver"):
                pass
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'leaver'"
        until(lambda: direct.execute(query).fetchone() == (0,))
    guard.idle()


@pytest.mark.session_mode
def test_a_server_that_is_killed_tells_its_session(
    start_tls: Callable[..., RunningGuard], database: Any, upstream: TlsServer
) -> None:
    guard = start_tls(behind(database, upstream), upstream__tls="require")
    with guard.connect("a") as connection:
        pid = connection.info.backend_pid
        with psycopg.connect(database.url, autocommit=True) as direct:
            direct.execute(sql.SQL("SELECT pg_terminate_backend({})").format(pid))
        with pytest.raises(psycopg.errors.AdminShutdown):
            connection.execute("SELECT 1")
    guard.idle()


def test_a_server_whose_certificate_does_not_hold_is_named(
    start_tls: Callable[..., RunningGuard], database: Any, upstream: TlsServer, tmp_path: Path
) -> None:
    other = files(tmp_path / "other", by="theirs")
    guard = start_tls(
        behind(database, upstream), upstream__tls="verify-full", upstream__ca=str(other.ca)
    )
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        guard.connect("a")
    guard.idle()


# Commands


def asks() -> tuple[str, ...]:
    program = (
        "import os, psycopg; url = os.environ['DATABASE_URL'];"
        "print(url.rpartition('?')[2], psycopg.connect(url).execute('SELECT 42').fetchone()[0])"
    )
    return (sys.executable, "-c", program)


def test_run_meets_what_the_url_asks_for_and_lowers_it_for_the_command(
    database: Any, upstream: TlsServer, pem: Files, tmp_path: Path
) -> None:
    url = f"{behind(database, upstream)}?sslmode=verify-full&sslrootcert={pem.ca}"
    done = pgguard("run", "--", *asks(), cwd=tmp_path, env=environment(DATABASE_URL=url))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "sslmode=disable 42\n"
    assert "DATABASE_URL: sslmode=verify-full: met between pgguard and the server" in done.stderr
    assert set(upstream.spoken) == {"TLSv1.3"}


def test_run_does_not_start_a_command_whose_demand_is_not_met(
    database: Any, tmp_path: Path
) -> None:
    env = environment(DATABASE_URL=f"{database.url}?sslmode=require")
    done = pgguard("run", "--", *asks(), cwd=tmp_path, env=env)
    assert done.returncode == 3
    assert "server does not support SSL, but SSL was required" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("how", ["sslmode=require", "sslmode=prefer"])
def test_doctor_says_what_tls_the_server_has(
    database: Any, upstream: TlsServer, tmp_path: Path, how: str
) -> None:
    port = upstream if how.endswith("require") else None
    url = behind(database, port) if port else database.url
    done = pgguard("doctor", "--upstream", f"{url}?{how}", cwd=tmp_path)
    said = "TLSv1.3 to the server, its certificate not verified" if port else "plain text"
    assert said in done.stdout, done.stdout + done.stderr


def test_a_certificate_that_cannot_be_read_is_exit_2(database: Any, tmp_path: Path) -> None:
    env = environment(PGGUARD_LISTEN__CERT=str(tmp_path / "no.pem"))
    done = pgguard("serve", "--upstream", database.url, cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert "no.pem: No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr
