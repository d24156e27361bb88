"""SQLAlchemy as a probe: its pool, its reset on return, its insert batches, over psycopg 3."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from tests.conformance.drivers import probe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.harness import Address

_METADATA = sa.MetaData()
ITEM = sa.Table(
    "item",
    _METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("tree", sa.JSON),
    prefixes=["TEMPORARY"],
)


@contextmanager
def engine(address: Address, **options: Any) -> Iterator[sa.Engine]:
    url = address.url.replace("postgresql://", "postgresql+psycopg://")
    made = sa.create_engine(url, **options)
    try:
        yield made
    finally:
        made.dispose()


def attempt(connection: sa.Connection, sql: Any, values: Any = None) -> Any:
    statement = sa.text(sql) if isinstance(sql, str) else sql
    try:
        result = connection.execute(statement, values)
        return [repr(row) for row in result] if result.returns_rows else result.rowcount
    except DBAPIError as error:
        code = getattr(error.orig, "sqlstate", None)
        return [type(error).__name__, code, str(error.orig), error.connection_invalidated]


def login(address: Address) -> list[Any]:
    arguments = {"application_name": "conformance", "options": "-c statement_timeout=12345"}
    pinged = engine(address, connect_args=arguments, pool_pre_ping=True)
    with pinged as made, made.connect() as connection:
        seen: list[Any] = [repr(connection.dialect.server_version_info)]
        seen.append(repr(connection.default_isolation_level))
        seen += [
            attempt(connection, f"SHOW {name}")
            for name in ("application_name", "statement_timeout")
        ]
    wrong = sa.create_engine(
        address.url.replace("postgresql://", "postgresql+psycopg://"),
        connect_args={"password": "wrong"},
    )
    try:
        wrong.connect().close()
        seen.append("let in")
    except DBAPIError as error:
        seen.append(str(error.orig))
    return seen


def simple(address: Address) -> list[Any]:
    with engine(address, isolation_level="AUTOCOMMIT") as made, made.connect() as connection:
        return [
            attempt(connection, probe.VALUES.replace(":", "\\:")),
            attempt(connection, "SHOW transaction_isolation"),
            repr(connection.exec_driver_sql("SELECT '%%'").all()),
        ]


def extended(address: Address) -> list[Any]:
    with engine(address) as made, made.begin() as connection:
        _METADATA.create_all(connection, checkfirst=False)
        rows = [{"id": n, "name": f"name {n}", "tree": {"n": n}} for n in range(3000)]
        connection.execute(ITEM.insert(), rows)
        returned = connection.execute(
            ITEM.insert().returning(ITEM.c.id),
            [{"id": n, "name": "r", "tree": None} for n in range(5000, 7000)],
        )
        seen: list[Any] = [sum(row[0] for row in returned)]
        seen.append(attempt(connection, sa.select(sa.func.count()).where(ITEM.c.id > 100)))
        seen.append(attempt(connection, sa.select(ITEM).where(ITEM.c.id.in_([1, 2, 4000]))))
        with Session(bind=connection) as session:
            seen.append(repr(session.execute(sa.select(ITEM.c.tree).limit(2)).all()))
    return seen


def prepared(address: Address) -> list[Any]:
    with engine(address, connect_args={"prepare_threshold": 1}, pool_size=1) as made:
        seen: list[Any] = []
        for turn in range(6):
            with made.begin() as connection:
                seen.append(attempt(connection, "SELECT cast(:n as int) * 2", {"n": turn}))
        with made.begin() as connection:
            seen.append(attempt(connection, "SELECT statement FROM pg_prepared_statements"))
    return seen


def cursors(address: Address) -> list[Any]:
    with engine(address) as made, made.connect() as connection:
        streaming = connection.execution_options(stream_results=True, max_row_buffer=50)
        result = streaming.execute(sa.text("SELECT n FROM generate_series(1, 1000) n"))
        seen: list[Any] = [sum(row[0] for row in part) for part in result.partitions(300)]
        seen.append(repr(connection.execute(sa.text("SELECT 1")).all()))
    return seen


def mistakes(address: Address) -> list[Any]:
    seen: list[Any] = []
    with engine(address, pool_size=1, max_overflow=0) as made:
        with made.connect() as connection:
            _METADATA.create_all(connection, checkfirst=False)
            connection.commit()
            for text in probe.MISTAKES:
                with connection.begin_nested():
                    seen.append(attempt(connection, "SELECT 'kept'"))
                seen.append(attempt(connection, text.replace(":", "\\:")))
                seen.append(attempt(connection, "SELECT 1"))
                connection.rollback()
            with connection.begin():
                savepoint = connection.begin_nested()
                seen.append(attempt(connection, "SELECT 1/0"))
                savepoint.rollback()
                seen.append(attempt(connection, "SELECT 'after'"))
            seen.append(attempt(connection, "SELECT pg_terminate_backend(pg_backend_pid())"))
        with made.connect() as connection:
            seen.append(attempt(connection, "SELECT 'a new connection'"))
    return seen


def large(address: Address) -> list[Any]:
    with engine(address) as made, made.connect() as connection:
        value = probe.BLOCK * probe.MEGABYTES
        up = attempt(connection, "SELECT md5(:v)", {"v": value})
        down = connection.execute(sa.text(f"SELECT {probe.BLOCK_SQL}")).scalar_one()
        return [up, probe.digest(down)]


def driver_only(_: Address) -> None:
    raise probe.Absent("only through the driver below")


PROBES = {
    "login": login,
    "simple": simple,
    "extended": extended,
    "prepared reuse": prepared,
    "pipelining": driver_only,
    "COPY": driver_only,
    "cancel": driver_only,
    "LISTEN/NOTIFY": driver_only,
    "cursors": cursors,
    "errors": mistakes,
    "100 MB values": large,
}

if __name__ == "__main__":
    probe.serve(PROBES)
