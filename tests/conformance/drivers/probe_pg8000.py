"""pg8000 as a probe: pure Python, one message at a time, waits for each answer."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

import pg8000.native
from pg8000.exceptions import DatabaseError, InterfaceError

from tests.conformance.drivers import probe

if TYPE_CHECKING:
    from tests.conformance.harness import Address


def connect(address: Address, **options: Any) -> pg8000.native.Connection:
    words: dict[str, Any] = {
        "user": address.user,
        "host": address.host,
        "port": address.port,
        "database": address.database,
        "password": address.password,
        "timeout": 50,
    }
    return pg8000.native.Connection(**words | options)


def failure(error: Exception) -> list[Any]:
    detail = error.args[0] if error.args else ""
    fields = sorted(detail.items()) if isinstance(detail, dict) else str(detail)
    return [type(error).__name__, fields]


def attempt(connection: pg8000.native.Connection, sql: str, **values: Any) -> list[Any]:
    try:
        rows = connection.run(sql, **values)
        return [
            repr(rows),
            connection.row_count,
            repr(
                connection.columns
                and [(column["name"], column["type_oid"]) for column in connection.columns]
            ),
        ]
    except (DatabaseError, InterfaceError) as error:
        return failure(error)


def login(address: Address) -> list[Any]:
    startup = {"search_path": "pg_catalog", "options": "-c statement_timeout=12345"}
    connection = connect(address, application_name="conformance", startup_params=startup)
    seen: list[Any] = [
        sorted((str(name), str(value)) for name, value in connection.parameter_statuses.items())
    ]
    seen += [
        attempt(connection, f"SHOW {name}")
        for name in ("search_path", "application_name", "statement_timeout")
    ]
    connection.close()
    for options in ({"password": "wrong"}, {"user": "nobody"}, {"database": "nowhere"}):
        try:
            connect(address, **options).close()
            seen.append("let in")
        except (DatabaseError, InterfaceError) as error:
            # The guard decides a login itself: no place in the server's source.
            kind, fields = failure(error)
            seen.append([kind, [field for field in fields if field[0] not in "FLR"]])
    return seen


def simple(address: Address) -> list[Any]:
    connection = connect(address)
    texts = (probe.VALUES, "", "SELECT 1; SELECT 2", probe.NOTICES, probe.TABLE)
    seen: list[Any] = [attempt(connection, text) for text in texts]
    notices = [sorted((str(k), str(v)) for k, v in told.items()) for told in connection.notices]
    connection.close()
    return [seen, notices]


def extended(address: Address) -> list[Any]:
    connection = connect(address)
    seen = [attempt(connection, probe.TABLE)]
    seen += [
        attempt(connection, "INSERT INTO item VALUES (:n, :name)", n=number, name=name)
        for number, name in ((1, "a"), (2, None), (3, "\u00fc"), (3, "again"))
    ]
    seen.append(attempt(connection, "SELECT cast(:a as int) + 1, cast(:b as text)", a=1, b="b"))
    seen.append(attempt(connection, "SELECT length(:x)", x="x" * 70_000))
    connection.close()
    return seen


def prepared(address: Address) -> list[Any]:
    connection = connect(address)
    statement = connection.prepare("SELECT cast(:n as int) * 2")
    seen: list[Any] = [statement.run(n=n) for n in range(5)]
    seen.append(attempt(connection, "SELECT count(*) FROM pg_prepared_statements"))
    statement.close()
    seen.append(attempt(connection, "SELECT count(*) FROM pg_prepared_statements"))
    connection.close()
    return seen


def copy(address: Address) -> list[Any]:
    connection = connect(address)
    seen = [attempt(connection, probe.TABLE)]
    lines = "".join(f"{n}\tname {n}\n" for n in range(20_000)).encode()
    connection.run("COPY item FROM STDIN", stream=io.BytesIO(lines))
    out = io.BytesIO()
    connection.run("COPY (SELECT * FROM item ORDER BY id) TO STDOUT", stream=out)
    seen.append([connection.row_count, probe.digest(out.getvalue())])
    for text in (b"x\tno number\n", b"5\ttwice\n", b"1\n"):
        try:
            connection.run("COPY item FROM STDIN", stream=io.BytesIO(text))
        except DatabaseError as error:
            seen.append(failure(error))
    seen.append(attempt(connection, "SELECT count(*) FROM item"))
    connection.close()
    return seen


def notify(address: Address) -> list[Any]:
    listener, sender = connect(address), connect(address)
    listener.run("LISTEN conformance_pg8000")
    sender.run("NOTIFY conformance_pg8000, 'one'")
    end = time.monotonic() + 10
    while not listener.notifications and time.monotonic() < end:
        listener.run("SELECT 1")
    seen = [[channel, payload] for _, channel, payload in listener.notifications]
    listener.close()
    sender.close()
    return seen


def cursors(address: Address) -> list[Any]:
    connection = connect(address)
    texts = (
        "BEGIN",
        "DECLARE moving SCROLL CURSOR FOR SELECT n FROM generate_series(1, 1000) n",
        "FETCH 3 FROM moving",
        "MOVE 500 FROM moving",
        "FETCH BACKWARD 2 FROM moving",
        "DECLARE held CURSOR WITH HOLD FOR SELECT 1",
        "COMMIT",
        "FETCH ALL FROM held",
        "FETCH 1 FROM moving",
        "CLOSE held",
    )
    seen = [attempt(connection, text) for text in texts]
    connection.close()
    return seen


def mistakes(address: Address) -> list[Any]:
    connection = connect(address)
    seen = [attempt(connection, probe.TABLE)]
    for text in probe.MISTAKES:
        seen += [attempt(connection, step) for step in (text, "BEGIN", text, "SELECT 1", "COMMIT")]
    seen.append(attempt(connection, "SELECT 1 / cast(:n as int)", n=0))
    seen.append(attempt(connection, "SELECT 1"))
    connection.close()
    return seen


def large(address: Address) -> list[Any]:
    connection = connect(address)
    up = connection.run("SELECT md5(:v)", v=probe.BLOCK * probe.MEGABYTES)
    down = connection.run(f"SELECT {probe.BLOCK_SQL}")
    return [up, probe.digest(down[0][0])]


def no_cancel(_: Address) -> None:
    raise probe.Absent("pg8000 sends no cancel requests")


def no_pipeline(_: Address) -> None:
    raise probe.Absent("pg8000 waits for each answer")


PROBES = {
    "login": login,
    "simple": simple,
    "extended": extended,
    "prepared reuse": prepared,
    "pipelining": no_pipeline,
    "COPY": copy,
    "cancel": no_cancel,
    "LISTEN/NOTIFY": notify,
    "cursors": cursors,
    "errors": mistakes,
    "100 MB values": large,
}

if __name__ == "__main__":
    probe.serve(PROBES)
