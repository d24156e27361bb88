"""Drivers through a guard as they would be directly: data, errors, settings, identities."""

from __future__ import annotations

import asyncio
import hashlib
import io
import socket
import threading
from typing import TYPE_CHECKING, Any

import asyncpg
import pg8000.dbapi
import psycopg
import psycopg2
import pytest
import sqlalchemy
from guard import until
from rawsession import RawSession

from pgguard.wire import backend, codes, frontend
from pgguard.wire.startup import build_cancel, build_startup

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from guard import RunningGuard

pytestmark = pytest.mark.slow

LARGE = 8 << 20


def with_asyncpg(
    guard: RunningGuard, work: Callable[[asyncpg.Connection], Awaitable[Any]], **options: Any
) -> Any:
    async def session() -> Any:
        connection = await asyncpg.connect(guard.url(), ssl=False, **options)
        try:
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(session())


def with_pg8000(guard: RunningGuard) -> Any:
    there = guard.guard.upstream
    host, port = guard.guard.listen
    return pg8000.dbapi.connect(there.user, host, there.database, port, there.password)


# psycopg 3


def test_simple_and_extended_queries_are_answered(guard: RunningGuard) -> None:
    with guard.connect() as session:
        assert session.execute("SELECT 1; SELECT 2").fetchone() == (1,)
        assert session.execute("SELECT %s::int + 1", [1]).fetchone() == (2,)
        assert session.execute("SELECT 1 WHERE false").fetchall() == []
        cursor = session.execute("SELECT %b::bytea", [b"\x00\xff"])
        assert cursor.fetchone() == (b"\x00\xff",)


def test_prepared_statements_are_kept(guard: RunningGuard) -> None:
    with guard.connect() as session:
        for number in range(8):
            row = session.execute("SELECT %s::int * 2", [number], prepare=True).fetchone()
            assert row == (number * 2,)
        (prepared,) = session.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
        assert prepared >= 1
        session.execute("DEALLOCATE ALL")


def test_a_pipeline_of_many_statements_is_answered_in_order(guard: RunningGuard) -> None:
    with guard.connect() as session:
        session.execute("CREATE TEMPORARY TABLE t (a int)")
        with session.pipeline():
            cursors = [session.execute("SELECT %s::int", [number]) for number in range(200)]
            session.execute("INSERT INTO t VALUES (1)")
        assert [cursor.fetchone() for cursor in cursors] == [(number,) for number in range(200)]
        fails, follows = "SELECT 1 / 0", "INSERT INTO t VALUES (2)"
        with pytest.raises(psycopg.errors.DivisionByZero), session.pipeline():
            list(map(session.execute, [fails, follows]))
        assert session.execute("SELECT count(*) FROM t").fetchone() == (1,)


def test_copy_goes_both_ways(guard: RunningGuard) -> None:
    lines = "".join(f"{number}\tword {number}\n" for number in range(20_000)).encode()
    with guard.connect() as session:
        session.execute("CREATE TEMPORARY TABLE t (a int, b text)")
        cursor = session.cursor()
        with cursor.copy("COPY t FROM STDIN") as copy:
            copy.write(lines)
        with cursor.copy("COPY t TO STDOUT") as copy:
            assert b"".join(bytes(piece) for piece in copy) == lines
        with (
            pytest.raises(psycopg.errors.InvalidTextRepresentation),
            cursor.copy("COPY t FROM STDIN") as copy,
        ):
            copy.write(b"no number\tx\n")
        with pytest.raises(RuntimeError, match="on purpose"), cursor.copy("COPY t FROM STDIN"):
            raise RuntimeError("on purpose")
        assert session.execute("SELECT count(*) FROM t").fetchone() == (20_000,)


def test_large_values_pass_both_ways_unchanged(guard: RunningGuard) -> None:
    value = hashlib.shake_256(b"seed").digest(LARGE)
    with guard.connect() as session:
        row = session.execute("SELECT md5(%b::bytea), %b::bytea", [value, value]).fetchone()
        assert row == (hashlib.md5(value).hexdigest(), value)
        text = "SELECT length('" + "x" * LARGE + "')"
        assert session.execute(text).fetchone() == (LARGE,)


def test_errors_in_transactions_are_as_directly(guard: RunningGuard) -> None:
    with guard.connect(autocommit=False) as session:
        session.execute("CREATE TABLE t (a int PRIMARY KEY)")
        session.commit()
        session.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(psycopg.errors.UniqueViolation) as caught:
            session.execute("INSERT INTO t VALUES (1)")
        assert caught.value.diag.constraint_name == "t_pkey"
        assert caught.value.diag.message_detail == "Key (a)=(1) already exists."
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            session.execute("SELECT 1")
        session.rollback()
        with session.transaction(), session.transaction() as inner:
            session.execute("INSERT INTO t VALUES (2)")
            raise psycopg.Rollback(inner)
        assert session.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_cursors_of_the_server_work(guard: RunningGuard) -> None:
    with guard.connect(autocommit=False) as session, session.cursor("c") as cursor:
        cursor.itersize = 7
        cursor.execute("SELECT generate_series(1, 50)")
        assert [a for (a,) in cursor] == list(range(1, 51))


def test_a_cancel_ends_the_statement_and_the_session_lives(guard: RunningGuard) -> None:
    with guard.connect() as session:
        timer = threading.Timer(0.1, session.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute("SELECT pg_sleep(30)")
        timer.join()
        assert session.execute("SELECT 1").fetchone() == (1,)
        session.cancel_safe()
        assert session.execute("SELECT 2").fetchone() == (2,)


def test_a_cancel_with_a_wrong_secret_does_nothing(guard: RunningGuard) -> None:
    with RawSession.open(guard) as session:
        assert session.pid > 0
        session.send(frontend.query(b"SELECT pg_sleep(0.3)"))
        with RawSession(guard.guard.listen) as stranger:
            stranger.send(build_cancel(session.pid, bytes(4)))
            assert stranger.ended()
        assert codes.ERROR_RESPONSE not in [kind for kind, _ in session.until_ready()]


def test_notifications_reach_who_listens(guard: RunningGuard) -> None:
    with guard.connect() as listener, guard.connect() as speaker:
        listener.execute("LISTEN news")
        speaker.execute("SELECT pg_notify('news', 'extra')")
        (notice,) = listener.notifies(timeout=5, stop_after=1)
        assert (notice.channel, notice.payload) == ("news", "extra")
        assert notice.pid == speaker.info.backend_pid


def test_notices_of_the_server_pass(guard: RunningGuard) -> None:
    with guard.connect() as session:
        heard: list[str] = []
        session.add_notice_handler(lambda diagnostic: heard.append(diagnostic.message_primary))
        session.execute("DO $$ BEGIN RAISE NOTICE 'hear, hear'; END $$")
        assert heard == ["hear, hear"]


# Startup


def test_startup_parameters_and_options_take_effect(guard: RunningGuard) -> None:
    with guard.connect(
        "named", options="-c work_mem=7MB -c search_path=a,b", client_encoding="latin1"
    ) as session:
        shown = [
            session.execute(f"SHOW {name}").fetchone()[0]
            for name in ("work_mem", "search_path", "client_encoding", "application_name")
        ]
        assert shown == ["7MB", "a,b", "LATIN1", "named"]
        session.execute("SET work_mem = '9MB'")
        session.execute("RESET work_mem")
        assert session.execute("SHOW work_mem").fetchone() == ("7MB",)


def test_what_is_meant_for_pgguard_is_not_forwarded(guard: RunningGuard) -> None:
    with RawSession.open(
        guard,
        **{"pgguard.client": "me", "connection_limit": "3", "pgbouncer": "true", "schema": "x"},
    ) as session:
        rows = [body for kind, body in session.query("SHOW search_path") if kind == codes.DATA_ROW]
        assert backend.decode_row(rows[0]) == [b"x"] or backend.decode_row(rows[0]) == [b'"x"']
        assert guard.client("me").limits.connection_limit == 3


@pytest.mark.session_mode
def test_the_backend_pid_is_the_real_one(guard: RunningGuard) -> None:
    with RawSession.open(guard) as session:
        rows = [b for k, b in session.query("SELECT pg_backend_pid()") if k == codes.DATA_ROW]
        assert backend.decode_row(rows[0]) == [str(session.pid).encode()]
        assert len(session.secret) == 4


def test_parameters_are_told_as_the_server_tells_them(guard: RunningGuard, database: Any) -> None:
    with guard.connect() as session, psycopg.connect(database.url) as direct:
        for name in ("server_version", "server_encoding", "integer_datetimes", "TimeZone"):
            told = session.info.parameter_status(name)
            assert told is not None
            assert told == direct.info.parameter_status(name)


@pytest.mark.parametrize(("protocol", "secret"), [(0x30000, 4), (0x30002, 32)])
def test_both_protocols_are_spoken(guard: RunningGuard, protocol: int, secret: int) -> None:
    session = RawSession.log_in(guard, protocol=protocol)
    with session:
        session.until_ready()
        assert len(session.secret) == secret


def test_a_later_version_is_negotiated_down(guard: RunningGuard) -> None:
    session = RawSession(guard.guard.listen)
    with session:
        words = {"user": "u", "_pq_.colour": "blue"}
        session.send(build_startup(0x30009, words))
        kind, body = session.message()
        assert kind == codes.NEGOTIATE_PROTOCOL_VERSION
        assert backend.decode_negotiate(body)[1] == ["_pq_.colour"]


# Refusals of Postgres


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"password": "wrong"}, 'password authentication failed for user "pgguard"'),
        ({"user": "nobody"}, 'password authentication failed for user "nobody"'),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
    ],
    ids=["password", "user", "database"],
)
def test_a_login_fails_with_the_words_of_postgres(
    guard: RunningGuard, database: Any, wrong: dict[str, str], words: str
) -> None:
    with pytest.raises(psycopg.OperationalError) as through:
        guard.connect(**wrong)
    with pytest.raises(psycopg.OperationalError) as direct:
        psycopg.connect(
            database.url, **{k.replace("database", "dbname"): v for k, v in wrong.items()}
        )
    assert f"FATAL:  {words}" in str(through.value)
    assert str(through.value).partition("FATAL")[2] == str(direct.value).partition("FATAL")[2]
    guard.idle()


def test_a_setting_that_postgres_refuses_is_refused_in_its_words(guard: RunningGuard) -> None:
    with pytest.raises(psycopg.OperationalError, match='parameter "no_such_setting"'):
        guard.connect(options="-c no_such_setting=1")
    guard.idle()


# Other drivers


def test_asyncpg_works(guard: RunningGuard) -> None:
    async def work(session: asyncpg.Connection) -> None:
        assert await session.fetchval("SELECT $1::int + 1", 41) == 42
        assert await session.execute("CREATE TEMPORARY TABLE t (a int, b text)") == "CREATE TABLE"
        rows = [(number, str(number)) for number in range(5_000)]
        await session.executemany("INSERT INTO t VALUES ($1, $2)", rows)
        assert await session.copy_records_to_table("t", records=rows) == "COPY 5000"
        sink = io.BytesIO()
        await session.copy_from_query("SELECT a FROM t", output=sink)
        assert len(sink.getvalue().splitlines()) == 10_000
        statement = await session.prepare("SELECT generate_series(1, $1::int)")
        async with session.transaction():
            assert [r[0] async for r in statement.cursor(20, prefetch=3)] == list(range(1, 21))
        with pytest.raises(asyncpg.UniqueViolationError):
            async with session.transaction():
                await session.execute("CREATE UNIQUE INDEX ON t (a)")
        with pytest.raises(TimeoutError):
            await session.execute("SELECT pg_sleep(30)", timeout=0.1)
        heard: asyncio.Queue[str] = asyncio.Queue()
        await session.add_listener("news", lambda *said: heard.put_nowait(said[3]))
        await session.execute("NOTIFY news, 'extra'")
        assert await asyncio.wait_for(heard.get(), 5) == "extra"
        await session.reset()
        assert await session.fetchval("SELECT $1::text", "x" * LARGE) == "x" * LARGE

    with_asyncpg(guard, work, server_settings={"application_name": "asyncpg"})
    assert guard.client("asyncpg").counters.sessions == 1


def test_psycopg2_works(guard: RunningGuard) -> None:
    session = psycopg2.connect(guard.url(application_name="two"))
    cursor = session.cursor()
    cursor.execute("CREATE TEMPORARY TABLE t (a int)")
    cursor.copy_expert("COPY t FROM STDIN", io.StringIO("1\n2\n3\n"))
    sink = io.StringIO()
    cursor.copy_expert("COPY t TO STDOUT", sink)
    assert sink.getvalue() == "1\n2\n3\n"
    session.commit()
    with pytest.raises(psycopg2.errors.UndefinedTable):
        cursor.execute("SELECT * FROM no_such_table")
    session.rollback()
    with session.cursor("server_side") as named:
        named.execute("SELECT generate_series(1, 5)")
        assert named.fetchall() == [(1,), (2,), (3,), (4,), (5,)]
    session.close()


def test_pg8000_works(guard: RunningGuard) -> None:
    session = with_pg8000(guard)
    cursor = session.cursor()
    cursor.execute("SELECT %s::int + 1, %s::bytea", (41, b"\0\1"))
    assert cursor.fetchone() == [42, b"\0\1"]
    cursor.execute("CREATE TEMPORARY TABLE t (a int)")
    cursor.execute("COPY t FROM STDIN", stream=io.BytesIO(b"1\n2\n"))
    cursor.execute("SELECT sum(a) FROM t")
    assert cursor.fetchone() == [3]
    session.commit()
    with pytest.raises(pg8000.dbapi.DatabaseError):
        cursor.execute("SELECT 1/0")
    session.rollback()
    session.close()


def test_sqlalchemy_works_with_a_pool_of_its_own(guard: RunningGuard) -> None:
    url = guard.url(application_name="alchemy").replace("postgresql:", "postgresql+psycopg:")
    engine = sqlalchemy.create_engine(url, pool_size=3)
    with engine.begin() as session:
        session.execute(sqlalchemy.text("CREATE TABLE t (a int)"))
        session.execute(sqlalchemy.text("INSERT INTO t VALUES (:a)"), [{"a": 1}, {"a": 2}])
    with engine.connect() as one, engine.connect() as two:
        text = sqlalchemy.text("SELECT sum(a) FROM t")
        assert one.execute(text).scalar() == two.execute(text).scalar() == 3
        assert guard.client("alchemy").share.held == 2
    engine.dispose()
    guard.idle()


def test_the_stock_loop_serves_as_well(start_guard: Any, database: Any) -> None:
    guard = start_guard(database.url, factory=asyncio.new_event_loop)
    with guard.connect("a") as session:
        assert session.execute("SELECT %s::text", ["x" * LARGE]).fetchone() == ("x" * LARGE,)
    with RawSession.open(guard) as raw:
        raw.send(frontend.query(b"SELECT pg_sleep(0.05), 7"))
        raw.socket.shutdown(socket.SHUT_WR)
        assert codes.DATA_ROW in [kind for kind, _ in raw.until_ready()]
    raw = RawSession.open(guard)
    raw.send(frontend.query(b"SELECT pg_sleep(30)"))
    raw.reset()
    guard.idle()


@pytest.mark.session_mode
def test_set_application_name_is_seen_by_postgres(guard: RunningGuard, database: Any) -> None:
    with guard.connect("before") as session, psycopg.connect(database.url) as direct:
        session.execute("SET application_name = 'after'")
        seen = direct.execute(
            "SELECT application_name FROM pg_stat_activity WHERE pid = %s",
            [session.info.backend_pid],
        ).fetchone()
        assert seen == ("after",)
        (open_now,) = guard.ask(lambda g: [s.application_name for s in g.hub.sessions])
        assert open_now == "after"
        until(lambda: guard.client("before").sessions, "the session of its client")
