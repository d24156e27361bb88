"""`memory`: what one side does not take must not pile up in the guard.

A reader that stops while 500 MB wait for it, as rows, as a COPY and (200 MB) as a single value;
and a COPY, a value and a statement that come faster than the server takes them; the single value
both ways with TLS on both legs, too. All go on afterwards and must find every byte in place. The
guard's resident memory is sampled every 20 ms; growth counts from just before the load, after one
round of warming up.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import psycopg

from tests.conformance import encryption, harness
from tests.conformance.slowrelay import SlowRelay

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1024 * 1024
LIMIT = 32 * MIB
STALL = 6.0
"""Seconds for which the reader does not read and the server hardly takes anything."""

ROWS = 500_000
VALUE = 200_000_000
ROW = "x" * 992
"""A row of 1,000 bytes on the wire and with its newline in a COPY's text, roughly."""


class Growth:
    """Watches one process's resident memory from another thread; a context manager."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before = self.highest = 0

    def __enter__(self) -> Self:
        self.before = self.highest = harness.resident(self._pid)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self.highest = max(self.highest, harness.resident(self._pid))

    def claim(self, checks: harness.Checks, what: str) -> None:
        grown = self.highest - self.before
        figure = f"{grown / MIB:.1f} MiB on {self.before / MIB:.0f} MiB"
        checks.claim(grown < LIMIT, f"growth of the guard, {what}", figure, "< 32 MiB")


def run(checks: harness.Checks, short: bool) -> None:
    """All parts; the short form sends the COPY 200 MB instead of 500."""
    with harness.postgres(max_connections=30) as server:
        with harness.Guard(server.address) as guard:
            _warm_up(guard.address)
            for how in ("rows", "COPY", "one value"):
                _stopped_reader(checks, server, guard, how)
        asyncio.run(_slow_server(checks, server, 200_000 if short else ROWS))
    _in_tls(checks)


def _in_tls(checks: harness.Checks) -> None:
    """200 MB each way, through two connections in TLS."""
    with (
        encryption.certificate() as files,
        harness.postgres(
            max_connections=30,
            settings=encryption.of_postgres(files),
            binaries=encryption.programs(),
        ) as server,
    ):
        settings = encryption.to_clients(files) | encryption.to_postgres(files)
        with harness.Guard(server.address, settings) as guard:
            with _connect(guard.address) as connection:
                both = encryption.is_on_both_legs(connection)
            checks.claim(both, "TLS on both legs")
            _warm_up(guard.address)
            _stopped_reader(checks, server, guard, "one value", ", TLS")
        asyncio.run(_slow_server(checks, server, 0, settings))


def _connect(address: harness.Address) -> psycopg.Connection[Any]:
    return psycopg.connect(**address.libpq(), autocommit=True)  # type: ignore[arg-type]


def _warm_up(address: harness.Address) -> None:
    with _connect(address) as connection:
        connection.execute("SELECT repeat('x', 1000) FROM generate_series(1, 20000)")


def _stopped_reader(
    checks: harness.Checks,
    server: harness.Postgres,
    guard: harness.Guard,
    how: str,
    tls: str = "",
) -> None:
    """libpq sends the query and then reads nothing from the socket until we ask it to."""
    select = f"SELECT n, repeat('x', 992) FROM generate_series(1, {ROWS}) n"
    texts = {
        "rows": select,
        "COPY": f"COPY ({select}) TO STDOUT",
        "one value": f"SELECT 1, repeat('x', {VALUE})",
    }
    with _connect(guard.address) as connection, Growth(guard.pid) as growth:
        wire = connection.pgconn
        wire.send_query(texts[how].encode())
        if how == "rows":
            wire.set_single_row_mode()
        wire.flush()
        time.sleep(STALL)
        with _connect(server.address) as witness:
            query = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
            row = witness.execute(query, (wire.backend_pid,)).fetchone()
        checks.claim(row == ("ClientWrite",), "Postgres waits for the reader", row)
        came = _copied(wire) if how == "COPY" else _received(wire)
    growth.claim(checks, f"reader stopped, {how}{tls}")
    wanted = VALUE if how == "one value" else ROWS * len(ROW)
    checks.claim(came == wanted, "bytes that came after all", came, str(wanted))


def _received(wire: Any) -> int:
    """Bytes of the second column, all rows together."""
    count = 0
    while (result := wire.get_result()) is not None:
        if result.ntuples:
            count += len(result.get_value(0, 1)) * result.ntuples
    return count


def _copied(wire: Any) -> int:
    """Bytes of the second column, in lines of a number, a tab and the filler."""
    count = 0
    wire.get_result()
    while True:
        size, line = wire.get_copy_data(0)
        if size < 0:
            break
        count += len(bytes(line).split(b"\t")[1]) - 1
    while wire.get_result() is not None:
        pass
    return count


async def _slow_server(
    checks: harness.Checks,
    server: harness.Postgres,
    rows: int,
    tls: dict[str, str] | None = None,
) -> None:
    """The client sends as fast as it can; the server's side takes 4 MB a second, then all.

    With the settings of `tls` it is one value alone.
    """
    with _connect(server.address) as connection:
        connection.execute("CREATE UNLOGGED TABLE sink (n int, filler text)")
    loads: list[tuple[str, int, Callable[[harness.Address], Any], Any]] = [
        ("COPY", rows * len(ROW), lambda address: _copy_in(address, rows), f"COPY {rows}"),
        ("one value", VALUE, _send_value, (VALUE,)),
        ("one statement", VALUE, _send_statement, (VALUE,)),
    ]
    loads = loads if tls is None else loads[1:2]
    async with SlowRelay(server.address, rate=1e9) as relay:
        guard = harness.Guard(relay.address, tls)
        await asyncio.to_thread(guard.__enter__)
        try:
            await asyncio.to_thread(_warm_up, guard.address)
            for what, whole, send, wanted in loads:
                relay.passed, relay.rate = 0, 4e6
                with Growth(guard.pid) as growth:
                    sending = asyncio.create_task(asyncio.to_thread(send, guard.address))
                    await asyncio.sleep(STALL)
                    taken, relay.rate = relay.passed, 1e12
                    said = await asyncio.wait_for(sending, 60)
                growth.claim(checks, f"slow server, {what}{', TLS' if tls else ''}")
                figure = f"{taken / 1e6:.0f} of {whole / 1e6:.0f} MB taken"
                checks.claim(taken < whole / 4, "the server was slow", figure)
                checks.claim(said == wanted, "what the server said at the end", said, str(wanted))
        finally:
            await asyncio.to_thread(guard.stop)
    if tls is None:
        _claim_rows(checks, server, rows)


def _claim_rows(checks: harness.Checks, server: harness.Postgres, rows: int) -> None:
    with _connect(server.address) as connection:
        query = "SELECT count(*), sum(n), min(md5(filler)), max(md5(filler)) FROM sink"
        row = connection.execute(query).fetchone()
    digest = hashlib.md5(ROW.encode()).hexdigest()
    right = (rows, rows * (rows - 1) // 2, digest, digest)
    checks.claim(row == right, "every row arrived whole", row[0] if row else None, str(rows))


def _send_value(address: harness.Address) -> Any:
    with _connect(address) as connection:
        return connection.execute("SELECT length(%b::bytea)", (b"x" * VALUE,)).fetchone()


def _send_statement(address: harness.Address) -> Any:
    with _connect(address) as connection:
        return connection.execute(f"SELECT length('{'x' * VALUE}')").fetchone()


def _copy_in(address: harness.Address, rows: int) -> str | None:
    with _connect(address) as connection, connection.cursor() as cursor:
        with cursor.copy("COPY sink FROM STDIN") as copy:
            for start in range(0, rows, 100):
                copy.write("".join(f"{n}\t{ROW}\n" for n in range(start, start + 100)))
        return cursor.statusmessage
