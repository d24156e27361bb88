"""Unix sockets on both sides, with a real Postgres and real drivers."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import pytest
from commands import environment, pgguard
from guard import until

from pgguard.core.states import SessionState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Database
    from guard import RunningGuard

    from pgguard.launch.embedded import EmbeddedPostgres

pytestmark = pytest.mark.slow

SLEEP = "SELECT pg_sleep(30)"


def url_over(directory: str, database: Any) -> str:
    """The URL of the test server over one of its unix sockets."""
    login = f"{database.user}:{database.password}"
    return f"postgresql://{login}@/{database.name}?host={directory}&port={database.port}"


@pytest.fixture(params=["directory", "abstract"])
def upstream(request: pytest.FixtureRequest, postgres: EmbeddedPostgres, database: Database) -> str:
    abstract = f"@pgguard-tests-{os.getpid()}"
    data = str(postgres.directory / "data")
    return url_over(data if request.param == "directory" else abstract, database)


def test_a_server_is_reached_over_its_unix_socket(
    upstream: str, start_guard: Callable[..., RunningGuard]
) -> None:
    guard = start_guard(upstream)
    with guard.connect("tcp") as connection:
        row = connection.execute("SELECT inet_server_addr(), current_user").fetchone()
        assert row == (None, "pgguard")
        connection.execute("CREATE TABLE t (x int)")
        with connection.cursor().copy("COPY t FROM STDIN") as copy:
            for number in range(10_000):
                copy.write_row((number,))
        assert connection.execute("SELECT sum(x) FROM t").fetchone() == (49_995_000,)
        with cancelled(connection), pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(SLEEP)


@contextmanager
def cancelled(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """The statement that runs inside is cancelled."""
    timer = threading.Timer(0.2, connection.cancel_safe)
    timer.start()
    yield
    timer.join()


async def ask_asyncpg(directory: Path, port: int, database: Database) -> Any:
    connection = await asyncpg.connect(
        host=str(directory),
        port=port,
        user=database.user,
        password=database.password,
        database=database.name,
    )
    try:
        return await connection.fetchval("SELECT $1::int", 7)
    finally:
        await connection.close()


async def test_clients_come_in_over_a_unix_socket_alone(
    database: Database, sockets: Path, start_guard: Callable[..., RunningGuard]
) -> None:
    guard = start_guard(
        database.url,
        listen__address="off",
        listen__unix=str(sockets),
        clients__identify=["process", "address"],
    )
    assert guard.guard.listen == (str(sockets), 6433)
    assert await ask_asyncpg(sockets, 6433, database) == 7
    with psycopg.connect(guard.guard.url, autocommit=True) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        (session,) = guard.ask(lambda g: list(g.hub.places.of(SessionState.LINKED)))
        assert (session.peer_pid, session.peer_uid) == (os.getpid(), os.getuid())
        assert session.process is not None
        assert session.process.pid == os.getpid()
        assert session.client.rule == "process"
        with cancelled(connection), pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(SLEEP)
    guard.idle()
    guard.stop()
    assert os.listdir(sockets) == []  # noqa: PTH208


def test_a_wrong_password_is_refused_over_a_unix_socket_too(
    database: Database, sockets: Path, start_guard: Callable[..., RunningGuard]
) -> None:
    guard = start_guard(database.url, listen__unix=str(sockets))
    place = f"host={sockets} port={guard.guard.listen.port} user=pgguard dbname={database.name}"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"{place} password=wrong")
    with psycopg.connect(f"{place} password={database.password} sslmode=require") as connection:
        # libpq asks for no TLS over a unix socket.
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_who_is_let_in_by_its_uid_comes_in_over_a_socket_of_the_same_user_only(
    postgres: EmbeddedPostgres,
    database: Database,
    sockets: Path,
    start_guard: Callable[..., RunningGuard],
) -> None:
    data = postgres.directory / "data"
    rules = data / "pg_hba.conf"
    rules.write_text("local all knownbyuid trust\n" + rules.read_text())
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE knownbyuid LOGIN")
        connection.execute("SELECT pg_reload_conf()")
    upstream = f"postgresql://knownbyuid@/{database.name}?host={data}&port={database.port}"
    until(lambda: enters(upstream), "the new rule")
    guard = start_guard(upstream, listen__unix=str(sockets))
    port = guard.guard.listen.port
    with psycopg.connect(f"postgresql://knownbyuid@/{database.name}?host={sockets}&port={port}"):
        pass
    with pytest.raises(psycopg.OperationalError, match="Peer authentication failed"):
        psycopg.connect(guard.url())
    guard.idle()
    guard.stop()
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP ROLE knownbyuid")


def enters(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_run_leads_a_command_that_uses_a_socket_over_one_of_its_own(
    tmp_path: Path, upstream: str, database: Database
) -> None:
    code = (
        "import os, psycopg; c = psycopg.connect(os.environ['DATABASE_URL']);"
        "print(c.info.host, c.execute('SELECT 1').fetchone());"
        "d = psycopg.connect(user=c.info.user, password=c.info.password, dbname=c.info.dbname);"
        "print(d.info.host == c.info.host)"
    )
    env = environment(DATABASE_URL=upstream, PGAPPNAME="suite")
    done = pgguard("run", "--", sys.executable, "-c", code, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    shown, _, answer = done.stdout.splitlines()[0].partition(" ")
    assert shown.startswith("/tmp/pgguard-")
    assert (answer, done.stdout.splitlines()[1]) == ("(1,)", "True")
    assert not os.path.exists(shown)  # noqa: PTH110
    first, second = done.stderr.splitlines()[:2]
    assert f" and {shown}/.s.PGSQL." in first
    assert f"/.s.PGSQL.{database.port} from DATABASE_URL)" in second


def test_a_socket_without_a_server_is_named_by_run_and_doctor(tmp_path: Path) -> None:
    env = environment(DATABASE_URL="postgresql://u@/d?host=/nowhere", PGGUARD_UPSTREAM__WAIT="0s")
    done = pgguard("run", "--", "true", cwd=tmp_path, env=env)
    assert done.returncode == 3
    assert "/nowhere/.s.PGSQL.5432 (from DATABASE_URL): No such file or directory" in done.stderr
    assert "start Postgres there, or correct the directory and port" in done.stderr
    done = pgguard("doctor", cwd=tmp_path, env=env)
    assert done.returncode == 1
    assert "host=/nowhere&port=5432 (from DATABASE_URL): No such file or directory" in done.stdout
