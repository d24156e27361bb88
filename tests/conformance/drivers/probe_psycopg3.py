"""psycopg 3 as a probe: every feature, over libpq."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors, pq

from tests.conformance.drivers import probe

if TYPE_CHECKING:
    from tests.conformance.harness import Address

_FIELDS = list(pq.DiagnosticField)


def connect(address: Address, **options: str) -> psycopg.Connection[Any]:
    return psycopg.connect(**address.libpq(**options), autocommit=True, connect_timeout=30)  # type: ignore[arg-type]


def failure(error: psycopg.Error) -> list[str]:
    """Class and every field of Postgres's report; without one, the client's own text."""
    result = error.pgresult
    if result is None:
        return [type(error).__name__, str(error)]
    fields = [f"{field.name}={result.error_field(field)!r}" for field in _FIELDS]
    return [type(error).__name__, *fields]


def attempt(connection: psycopg.Connection[Any], sql: str, values: Any = None) -> list[Any]:
    try:
        cursor = connection.execute(sql, values)
        rows = [repr(row) for row in cursor] if cursor.description else []
        return [cursor.statusmessage, rows, connection.info.transaction_status.name]
    except psycopg.Error as error:
        return [failure(error), connection.info.transaction_status.name]


def login(address: Address) -> list[Any]:
    seen: list[Any] = []
    with connect(address, options="-c search_path=pg_catalog -c work_mem=1MB") as connection:
        names = ("server_version", "client_encoding", "TimeZone", "DateStyle", "is_superuser")
        names += ("application_name", "session_authorization", "integer_datetimes")
        seen += [[name, connection.info.parameter_status(name)] for name in names]
        pid = connection.execute("SELECT pg_backend_pid()").fetchone()
        seen.append(pid == (connection.info.backend_pid,))
        seen.append(attempt(connection, "SELECT current_setting('search_path'), user"))
        seen.append(attempt(connection, "SHOW work_mem"))
    wrong = ({"password": "wrong"}, {"user": "nobody", "password": "x"}, {"dbname": "nowhere"})
    for options in (*wrong, {"options": "-c nonsense=1"}, {"options": "-c work_mem=x"}):
        try:
            psycopg.connect(**(address.libpq() | options), connect_timeout=30).close()  # type: ignore[arg-type]
            seen.append("let in")
        except psycopg.OperationalError as error:
            seen.append(str(error))
    return seen


def simple(address: Address) -> list[Any]:
    notices: list[list[Any]] = []
    with connect(address) as connection:
        connection.add_notice_handler(
            lambda told: notices.append(
                [told.severity, told.sqlstate, told.message_primary, told.message_detail]
            )
        )
        texts = (probe.VALUES, "", ";", "SELECT 1; SELECT 2", probe.NOTICES, probe.TABLE)
        texts += ("SET TIME ZONE 'Asia/Tokyo'", "SELECT '\u00df' -- note", "/* only */")
        seen: list[Any] = [attempt(connection, text) for text in texts]
        seen.append(connection.info.parameter_status("TimeZone"))
        cursor = connection.execute("SELECT 1; INSERT INTO item VALUES (1, 'a'); SELECT 'x'")
        seen.append(
            [
                repr(result.fetchall()) if result.description else result.statusmessage
                for result in cursor.results()
            ]
        )
    return [seen, notices]


def extended(address: Address) -> list[Any]:
    with connect(address) as connection:
        seen = [attempt(connection, probe.TABLE)]
        seen += [
            attempt(connection, "INSERT INTO item VALUES (%s, %s)", values)
            for values in ((1, "a"), (2, None), (3, "\u00fc"), (3, "again"))
        ]
        seen.append(attempt(connection, "SELECT %s::int + 1, %s::text", (41, "b")))
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            cursor.execute(probe.VALUES + " WHERE %s", (True,))
            seen.append([repr(cursor.fetchall()), str(cursor.description)])
        cursor = connection.cursor()
        cursor.executemany("INSERT INTO item VALUES (%s, %s)", [(n, "m") for n in range(10, 60)])
        seen.append(attempt(connection, "SELECT count(*) FROM item WHERE id > %s", (0,)))
        seen.append(attempt(connection, "SELECT %s", ("x" * 70_000,)))
    return seen


def prepared(address: Address) -> list[Any]:
    with connect(address) as connection:
        connection.prepare_threshold = 0
        connection.prepared_max = 3
        seen = [attempt(connection, "SELECT %s::int * 2", (n,)) for n in range(5)]
        seen += [attempt(connection, f"SELECT {n} + %s::int", (n,)) for n in range(6)]
        names = "SELECT name, statement FROM pg_prepared_statements ORDER BY name"
        seen.append([repr(row) for row in connection.execute(names, prepare=False)])
        seen.append(attempt(connection, probe.TABLE))
        seen.append(attempt(connection, "SELECT * FROM item WHERE id = %s", (1,)))
        seen.append(attempt(connection, "ALTER TABLE item ADD COLUMN more int"))
        seen.append(attempt(connection, "SELECT * FROM item WHERE id = %s", (1,)))
        seen.append(attempt(connection, "DISCARD ALL"))
        seen.append(attempt(connection, "SELECT %s::int * 2", (9,)))
    return seen


def pipelining(address: Address) -> list[Any]:
    seen: list[Any] = []
    with connect(address) as connection:
        with connection.pipeline() as pipeline:
            cursors = [connection.execute("SELECT %s::int", (n,)) for n in range(200)]
            pipeline.sync()
            seen.append(probe.digest(repr([cursor.fetchone() for cursor in cursors])))
        for wrong in ("SELECT 1/%s", "SELEC %s"):
            try:
                with connection.pipeline():
                    first = connection.execute("SELECT %s::int", (1,))
                    connection.execute(wrong, (0,))
                    connection.execute("SELECT %s::int", (3,))
            except psycopg.Error as error:
                seen.append([failure(error), first.fetchone()])
            seen.append(attempt(connection, "SELECT 'after'"))
    return seen


def copy(address: Address) -> list[Any]:
    lines = b"".join(b"%d\tname %d\n" % (n, n) for n in range(100_000))
    with connect(address) as connection:
        seen: list[Any] = [attempt(connection, probe.TABLE)]
        cursor = connection.cursor()
        with cursor.copy("COPY item FROM STDIN") as into:
            into.write(lines)
        seen.append(cursor.statusmessage)
        with cursor.copy("COPY (SELECT * FROM item ORDER BY id) TO STDOUT") as out:
            seen.append(probe.digest(b"".join(bytes(part) for part in out)))
        with cursor.copy("COPY (SELECT 1, 'b'::text) TO STDOUT (FORMAT BINARY)") as out:
            seen.append(repr(b"".join(bytes(part) for part in out)))
        for text in (b"x\tno number\n", b"5\ttwice\n", b"1\n", b""):
            try:
                with cursor.copy("COPY item FROM STDIN") as into:
                    into.write(text)
                seen.append(cursor.statusmessage)
            except psycopg.Error as error:
                seen.append(failure(error))
        try:
            with cursor.copy("COPY item FROM STDIN") as into:
                into.write(b"200000\ta\n")
                raise KeyError
        except KeyError:
            seen.append("given up")
        seen.append(attempt(connection, "SELECT count(*) FROM item"))
        try:
            with cursor.copy(
                "COPY (SELECT 1/(n-50) FROM generate_series(1,99) n) TO STDOUT"
            ) as out:
                seen.append([bytes(part) for part in out])
        except psycopg.Error as error:
            seen.append(failure(error))
        seen.append(attempt(connection, "SELECT 'after'"))
    return seen


def cancel(address: Address) -> list[Any]:
    with connect(address) as connection:
        seen: list[Any] = []
        for how in (connection.cancel, connection.cancel_safe):
            timer = threading.Timer(probe.CANCEL_AFTER, how)
            timer.start()
            seen.append(attempt(connection, probe.SLEEP))
            timer.join()
        connection.cancel_safe()
        seen.append(attempt(connection, "SELECT 'after'"))
        attempt(connection, "BEGIN")
        timer = threading.Timer(probe.CANCEL_AFTER, connection.cancel_safe)
        timer.start()
        seen.append(attempt(connection, probe.SLEEP))
        timer.join()
        seen.append(attempt(connection, "SELECT 1"))
        seen.append(attempt(connection, "ROLLBACK"))
    return seen


def notify(address: Address) -> list[Any]:
    with connect(address) as listener, connect(address) as sender:
        listener.execute('LISTEN "conformance psycopg"')
        for payload in ("one", "zwei \u00fc", "x" * 7000):
            sender.execute("SELECT pg_notify('conformance psycopg', %s)", (payload,))
        told = listener.notifies(timeout=10, stop_after=3)
        seen: list[Any] = [
            [note.channel, probe.digest(note.payload), note.pid == sender.info.backend_pid]
            for note in told
        ]
        listener.execute("NOTIFY \"conformance psycopg\", 'own'")
        seen += [note.payload for note in listener.notifies(timeout=10, stop_after=1)]
        listener.execute("UNLISTEN *")
        sender.execute("NOTIFY \"conformance psycopg\", 'unheard'")
        seen.append([note.payload for note in listener.notifies(timeout=0.2)])
    return seen


def cursors(address: Address) -> list[Any]:
    seen: list[Any] = []
    with connect(address) as connection:
        with connection.transaction(), connection.cursor("moving", scrollable=True) as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT n FROM generate_series(1, %s) n", (1000,))
            seen.append([repr(cursor.fetchmany(3)), cursor.fetchone()])
            cursor.scroll(500)
            seen.append([cursor.fetchone(), sum(1 for _ in cursor)])
        with connection.cursor("held", withhold=True) as cursor:
            cursor.execute("SELECT n FROM generate_series(1, 10) n")
            seen.append(repr(cursor.fetchall()))
        seen.append(
            [
                row[0]
                for row in connection.cursor().stream(
                    "SELECT n FROM generate_series(1, %s) n", (50,)
                )
            ]
        )
        seen.append(attempt(connection, "FETCH 1 FROM moving"))
    return seen


def mistakes(address: Address) -> list[Any]:
    seen: list[Any] = []
    with connect(address) as connection:
        seen.append(attempt(connection, probe.TABLE))
        for text in probe.MISTAKES:
            seen.append(attempt(connection, text))
            seen.append(attempt(connection, "BEGIN"))
            seen.append(attempt(connection, text))
            seen.append(attempt(connection, "SELECT 1"))
            seen.append(attempt(connection, "COMMIT"))
        seen.append(attempt(connection, "BEGIN; SAVEPOINT a"))
        seen.append(attempt(connection, "SELECT 1/0"))
        seen.append(attempt(connection, "ROLLBACK TO a"))
        seen.append(attempt(connection, "INSERT INTO item VALUES (7, 'kept')"))
        seen.append(attempt(connection, "COMMIT"))
        seen.append(attempt(connection, "SELECT * FROM item"))
        seen.append(attempt(connection, "SELECT pg_terminate_backend(pg_backend_pid())"))
        try:
            connection.execute("SELECT 1")
        except errors.OperationalError as error:
            seen.append([connection.closed, connection.broken, str(error)])
    return seen


def large(address: Address) -> list[Any]:
    value = probe.BLOCK * probe.MEGABYTES
    with connect(address) as connection:
        up = connection.execute("SELECT md5(%s)", (value,)).fetchone()
        echo = connection.execute("SELECT %b::bytea", (value.encode(),)).fetchone()
        down = connection.execute(f"SELECT {probe.BLOCK_SQL}").fetchone()
        inlined = psycopg.ClientCursor(connection).execute("SELECT md5(%s)", (value,)).fetchone()
        assert up
        assert echo
        assert down
        assert inlined
        return [up, probe.digest(echo[0]), probe.digest(down[0]), inlined]


PROBES = {
    "login": login,
    "simple": simple,
    "extended": extended,
    "prepared reuse": prepared,
    "pipelining": pipelining,
    "COPY": copy,
    "cancel": cancel,
    "LISTEN/NOTIFY": notify,
    "cursors": cursors,
    "errors": mistakes,
    "100 MB values": large,
}

if __name__ == "__main__":
    probe.serve(PROBES)
