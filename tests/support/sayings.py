"""What sessions say in random scenes: texts, batches, pipelines, copies, no token twice.

Laws: what is said is legal; `model_server` knows all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_server import CODE

from pgguard.wire import frontend
from pgguard.wire.scan import message

if TYPE_CHECKING:
    from random import Random

TEXTS = (
    "BEGIN",
    "BEGIN",
    "COMMIT",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "ROLLBACK TO SAVEPOINT s",
    "RELEASE s",
    "SELECT 1/0",
    "SELECT FROM",
    "SET lock_timeout = 1",
    "SET lock_timeout = 2",
    "SET statement_timeout = 3",
    "SET LOCAL lock_timeout = 4",
    "SET application_name = 'own'",
    "RESET lock_timeout",
    "RESET ALL",
    "RESET application_name",
    "SHOW lock_timeout",
    "SHOW lock_timeout",
    "SHOW statement_timeout",
    "LISTEN a",
    "UNLISTEN *",
    "SELECT pg_listening_channels()",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_advisory_unlock(1)",
    "SELECT pg_advisory_unlock_all()",
    "PREPARE p AS SELECT 'prepared'",
    "EXECUTE p",
    "DEALLOCATE p",
    "DEALLOCATE ALL",
    "DISCARD ALL",
)
CODED = (
    CODE,
    CODE,
    "SET lock_timeout = 8 -- why",
    "SET statement_timeout = 8 --",
    "SHOW lock_timeout",
    "SHOW statement_timeout",
)
BATCHES = (
    "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL",
    "SET lock_timeout = 5; SELECT 1/0",
    "BEGIN; SET lock_timeout = 6; COMMIT",
    "SET lock_timeout = 7; SHOW lock_timeout",
)
NAMES = (b"", b"a", b"a", b"b")
SYNC = frontend.sync()
FLUSH = frontend.flush()
COPY_ENDS = (message(ord("c")), message(ord("f"), b"no\0"))


def execution(name: bytes, *values: bytes) -> bytes:
    return (
        frontend.bind_message(b"", name, list(values))
        + frontend.describe_message(ord("P"), b"")
        + frontend.execute_message(b"")
    )


class Sayings:
    """What sessions say next, whole; no token twice."""

    def __init__(self, rng: Random, *, late: bool, coded: bool) -> None:
        self.rng = rng
        self.coded = coded
        """Code is among them, and texts with comments."""
        self.late = late
        """Ends of copies that are over are among them, as postgres.js sends them."""
        self._tokens = 0

    def token(self) -> bytes:
        self._tokens += 1
        return b"%06d" % self._tokens

    def text(self) -> bytes:
        if self.rng.random() < 0.4:
            return b"SELECT '" + self.token() + b"'"
        if self.coded and self.rng.random() < 0.6:
            return self.rng.choice(CODED).encode()
        return self.rng.choice(TEXTS).encode()

    def next(self) -> bytes:
        """One to three batches."""
        return b"".join(self._one() for _ in range(self.rng.choice((1, 1, 1, 2, 3))))

    def _one(self) -> bytes:
        return self.rng.choices(
            (self.simple, self.several, self.usual, self.pipelined, self.prepares, self.executes,
             self.names, self.copies, self.copies_extended, lambda: SYNC,
             self.copy_end),
            (4, 1, 4, 2, 4, 8, 1, 1, 1, 1, int(self.late)),
        )[0]()  # fmt: skip

    def simple(self) -> bytes:
        return frontend.query(self.text())

    def several(self) -> bytes:
        return frontend.query(self.rng.choice(BATCHES).encode())

    def usual(self) -> bytes:
        """As libpq and most drivers send it."""
        return frontend.parse_message(b"", self.text()) + execution(b"") + SYNC

    def pipelined(self) -> bytes:
        parse = frontend.parse_message(b"", b"SELECT $1::text")
        times = range(self.rng.randint(1, 3))
        return b"".join(parse + execution(b"", self.token()) for _ in times) + SYNC

    def prepares(self) -> bytes:
        text = self.rng.choice((b"SELECT $1::text", b"SELECT $1::text", self.text()))
        end = self.rng.choice((SYNC, FLUSH))
        return frontend.parse_message(self.rng.choice(NAMES), text) + end

    def executes(self) -> bytes:
        values = [self.token()] if self.rng.random() < 0.8 else []
        return execution(self.rng.choice(NAMES), *values) + self.rng.choice((SYNC, SYNC, FLUSH))

    def names(self) -> bytes:
        what = self.rng.choice((frontend.describe_message, frontend.close_message))
        return what(self.rng.choice(b"SP"), self.rng.choice(NAMES)) + SYNC

    def copies(self) -> bytes:
        data = message(ord("d"), b"row\n") * self.rng.randint(0, 3)
        return frontend.query(b"COPY t FROM STDIN") + data + self.rng.choice(COPY_ENDS)

    def copy_end(self) -> bytes:
        """Postgres reads it and answers nothing."""
        return self.rng.choice(COPY_ENDS)

    def copies_extended(self) -> bytes:
        data = message(ord("d"), b"row\n") + self.rng.choice(COPY_ENDS) + SYNC
        early = self.rng.choice((b"", SYNC, FLUSH))
        parse = frontend.parse_message(b"", b"COPY t FROM STDIN")
        # Nobody is to begin another copy with that statement: what follows would be no data.
        return parse + execution(b"") + early + data + frontend.close_message(ord("S"), b"") + SYNC
