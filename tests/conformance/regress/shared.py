"""What PostgreSQL's suites need where sessions share servers (`--mode transparent --cap N`).

The cap is that of a whole run, whatever its tests call themselves. Where a suite has fewer sessions
than that, others beside it make up for them: with more sessions than servers at every moment,
servers change hands all the time. Laws: each of those others has made a setting that nobody else
has, and looks whether it is still its own; they are in a database of their own and in no
transaction, so that no test can see them; a cap is raised only to what a suite cannot do without.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Self

import psycopg

from tests.conformance import harness

if TYPE_CHECKING:
    from collections.abc import Iterator

CAP = "limits.connection_limit"

LISTED = "PostgreSQL's suites where servers are shared"
"""Under this name `known` lists what differs there; which session loses its server to which other
one, and so whether it does, is chance."""

ISOLATION_NEEDS = 9
"""Servers without which deadlock-hard cannot run: each of its eight sessions has a transaction open
and waits for another one's lock, while one more looks whether they do."""

TOOLS_NEED = 5
"""`pg_dump -j 4` has five transactions open at once."""

PACE = 0.02
"""Seconds between two questions of the crowd, by one session after the other."""


def is_shared() -> bool:
    """Whether the guards of this run share servers between sessions."""
    return harness.FORCED.get("pool.mode") == "transparent"


def mode() -> str:
    """Behind the name of a suite."""
    if not is_shared():
        return ""
    return ", restless" if harness.FORCED.get("pool.restless") == "true" else ", shared"


def one_client() -> dict[str, str]:
    """Settings with which the cap counts for all tests together."""
    return {"clients.identify": '["address"]'} if is_shared() else {}


@contextlib.contextmanager
def at_least(servers: int) -> Iterator[None]:
    """No smaller cap than that, for the length of the block."""
    cap = harness.FORCED.get(CAP)
    if cap is None or int(cap) >= servers:
        yield
        return
    harness.FORCED[CAP] = str(servers)
    try:
        yield
    finally:
        harness.FORCED[CAP] = cap


class Crowd:
    """More sessions at an address than it may have servers, for the length of the block."""

    def __init__(self, checks: harness.Checks, address: harness.Address) -> None:
        self._checks = checks
        self._address = address
        self._number = int(harness.FORCED.get(CAP, "0")) + 1 if is_shared() else 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._talk)
        self._sessions: list[psycopg.Connection] = []
        self._asked = 0
        self._wrong = ""

    def __enter__(self) -> Self:
        for number in range(self._number):
            session = psycopg.connect(self._address.url, autocommit=True)
            session.execute("SELECT set_config('work_mem', %s, false)", (f"{2000 + number}kB",))
            self._sessions.append(session)
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._end.set()
        self._thread.join()
        for session in self._sessions:
            session.close()
        if kind is None and self._sessions:
            figure = f"{self._asked} answers to {self._number} sessions {self._wrong}".strip()
            right = self._asked > 0 and not self._wrong
            self._checks.claim(right, "sessions beside the suite kept what is theirs", figure)

    def _talk(self) -> None:
        while self._sessions and not self._wrong:
            for number, session in enumerate(self._sessions):
                if self._end.wait(PACE):
                    return
                try:
                    row = session.execute("SHOW work_mem").fetchone()
                except psycopg.Error as error:
                    self._wrong = f"session {number}: {error}"
                    return
                self._asked += 1
                if row != (f"{2000 + number}kB",):
                    self._wrong = f"session {number} was told {row}"
                    return
