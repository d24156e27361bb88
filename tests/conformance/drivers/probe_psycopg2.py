"""psycopg2 as a probe: libpq with client-side binding, so everything is a simple Query."""

from __future__ import annotations

import io
import select
import threading
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2 import extensions

from tests.conformance.drivers import probe

if TYPE_CHECKING:
    from tests.conformance.harness import Address

_FIELDS = (
    "severity",
    "sqlstate",
    "message_primary",
    "message_detail",
    "message_hint",
    "statement_position",
    "context",
    "schema_name",
    "table_name",
    "column_name",
    "constraint_name",
    "source_line",
    "source_function",
)


def connect(address: Address, **options: str) -> Any:
    connection = psycopg2.connect(**address.libpq(**options), connect_timeout=30)
    connection.autocommit = True
    return connection


def failure(error: psycopg2.Error) -> list[str]:
    if error.pgcode is None:
        return [type(error).__name__, str(error)]
    return [type(error).__name__, *(f"{n}={getattr(error.diag, n)}" for n in _FIELDS)]


def _shown(row: tuple[Any, ...]) -> str:
    return repr([bytes(cell) if isinstance(cell, memoryview) else cell for cell in row])


def attempt(connection: Any, sql: str, values: Any = None) -> list[Any]:
    with connection.cursor() as cursor:
        try:
            cursor.execute(sql, values)
            rows = [_shown(row) for row in cursor.fetchall()] if cursor.description else []
            return [cursor.statusmessage, rows, connection.info.transaction_status]
        except psycopg2.Error as error:
            return [failure(error), connection.info.transaction_status]


def login(address: Address) -> list[Any]:
    connection = connect(address, options="-c statement_timeout=12345", client_encoding="LATIN1")
    names = ("server_version", "client_encoding", "TimeZone", "application_name")
    seen: list[Any] = [connection.get_parameter_status(name) for name in names]
    seen.append(attempt(connection, "SHOW statement_timeout"))
    seen.append(attempt(connection, "SELECT '\u00e9'"))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        seen.append(cursor.fetchone()[0] == connection.info.backend_pid)
    connection.close()
    for options in ({"password": "wrong"}, {"dbname": "nowhere"}):
        try:
            psycopg2.connect(**(address.libpq() | options)).close()
            seen.append("let in")
        except psycopg2.OperationalError as error:
            seen.append(str(error))
    return seen


def simple(address: Address) -> list[Any]:
    connection = connect(address)
    texts = (probe.VALUES, "", "SELECT 1; SELECT 2", probe.NOTICES, probe.TABLE)
    texts += ("SET TIME ZONE 'Asia/Tokyo'", "SELECT '%'")
    seen: list[Any] = [attempt(connection, text) for text in texts]
    seen.append(attempt(connection, "SELECT %s, %s, %s", (1, "a'\\b", None)))
    seen.append([connection.get_parameter_status("TimeZone"), connection.notices])
    connection.close()
    return seen


def copy(address: Address) -> list[Any]:
    connection = connect(address)
    seen: list[Any] = [attempt(connection, probe.TABLE)]
    lines = "".join(f"{n}\tname {n}\n" for n in range(100_000))
    with connection.cursor() as cursor:
        cursor.copy_expert("COPY item FROM STDIN", io.StringIO(lines))
        seen.append(cursor.statusmessage)
        out = io.StringIO()
        cursor.copy_expert("COPY (SELECT * FROM item ORDER BY id) TO STDOUT", out)
        seen.append(probe.digest(out.getvalue()))
        for text in ("x\tno number\n", "5\ttwice\n", "1\n"):
            try:
                cursor.copy_expert("COPY item FROM STDIN", io.StringIO(text))
            except psycopg2.Error as error:
                seen.append(failure(error))
    seen.append(attempt(connection, "SELECT count(*) FROM item"))
    connection.close()
    return seen


def cancel(address: Address) -> list[Any]:
    connection = connect(address)
    timer = threading.Timer(probe.CANCEL_AFTER, connection.cancel)
    timer.start()
    seen = [attempt(connection, probe.SLEEP)]
    timer.join()
    connection.cancel()
    seen.append(attempt(connection, "SELECT 'after'"))
    connection.close()
    return seen


def notify(address: Address) -> list[Any]:
    listener, sender = connect(address), connect(address)
    attempt(listener, "LISTEN conformance_psycopg2")
    attempt(sender, "NOTIFY conformance_psycopg2, 'one'")
    attempt(sender, "SELECT pg_notify('conformance_psycopg2', repeat('\u00fc', 3000))")
    while len(listener.notifies) < 2 and select.select([listener], [], [], 10)[0]:
        listener.poll()
    pid = sender.info.backend_pid
    seen = [
        [note.channel, probe.digest(note.payload), note.pid == pid] for note in listener.notifies
    ]
    listener.close()
    sender.close()
    return seen


def cursors(address: Address) -> list[Any]:
    connection = psycopg2.connect(**address.libpq())
    seen: list[Any] = []
    with connection, connection.cursor("moving", scrollable=True) as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT n FROM generate_series(1, %s) n", (1000,))
        seen.append([cursor.fetchmany(3), cursor.fetchone()])
        cursor.scroll(500)
        seen.append([cursor.fetchone(), sum(1 for _ in cursor)])
    with connection.cursor("held", withhold=True) as cursor:
        cursor.execute("SELECT 1")
        connection.commit()
        seen.append(cursor.fetchall())
    connection.close()
    return seen


def mistakes(address: Address) -> list[Any]:
    connection = connect(address)
    seen = [attempt(connection, probe.TABLE)]
    for text in probe.MISTAKES:
        seen += [attempt(connection, step) for step in (text, "BEGIN", text, "SELECT 1", "COMMIT")]
    for isolation in (extensions.ISOLATION_LEVEL_SERIALIZABLE, None):
        connection.set_session(isolation_level=isolation, autocommit=False)
        seen.append(attempt(connection, "SHOW transaction_isolation"))
        connection.rollback()
    connection.autocommit = True
    seen.append(attempt(connection, "SELECT pg_terminate_backend(pg_backend_pid())"))
    seen.append(connection.closed)
    return seen


def large(address: Address) -> list[Any]:
    connection = connect(address)
    with connection.cursor() as cursor:
        cursor.execute("SELECT md5(%s)", (probe.BLOCK * probe.MEGABYTES,))
        up = cursor.fetchone()
        cursor.execute(f"SELECT {probe.BLOCK_SQL}")
        return [up, probe.digest(cursor.fetchone()[0])]


def not_offered(_: Address) -> None:
    raise probe.Absent("psycopg2 binds on the client: no extended protocol")


PROBES = {
    "login": login,
    "simple": simple,
    "extended": not_offered,
    "prepared reuse": not_offered,
    "pipelining": not_offered,
    "COPY": copy,
    "cancel": cancel,
    "LISTEN/NOTIFY": notify,
    "cursors": cursors,
    "errors": mistakes,
    "100 MB values": large,
}

if __name__ == "__main__":
    probe.serve(PROBES)
