"""`transparent`: every suite again where sessions share servers; PASS when nothing differs.

`drivers`, `suites` and `regress` run through guards in `pool.mode = transparent`, twice: on fewer
servers than there are sessions, where a session keeps its server until another one needs it, and
restless, where each transaction gets the server that has rested longest, so that nothing of a
session is where it was. Laws: claims and bars are those of the runs themselves; what differs in
these modes alone is named with its cause in `known.py`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.conformance import harness
from tests.conformance.drivers import matrix as drivers
from tests.conformance.regress import kit as kits
from tests.conformance.regress import suites as regress
from tests.conformance.suites import matrix as suites

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARED = {"pool.mode": "transparent"}
RESTLESS = {"pool.mode": "transparent", "pool.restless": "true"}

DRIVERS_CAP, SUITES_CAP, REGRESS_CAP = 3, 5, 4
"""Servers for a driver, a driver's suite, a schedule of up to 20 tests at once."""

SUITES = ("asyncpg", "psycopg2", "pg8000", "sqlalchemy", "node-postgres")
"""Those that come by pip and npm."""

ISOLATION = """
    read-only-anomaly simple-write-skew deadlock-simple deadlock-hard eval-plan-qual
    insert-conflict-do-update async-notify nowait-4 skip-locked-4 prepared-transactions
"""
"""Files of the isolation schedule in the short form."""


def run(checks: harness.Checks, short: bool) -> None:
    """Both ways; the short form: restless, parts of PostgreSQL's own suites."""
    if short:
        with forced(RESTLESS, REGRESS_CAP), regress.directory() as place:
            kit = kits.debian()
            regress.core(checks, kit, place, short=True)
            regress.isolation(checks, kit, place, ISOLATION.split())
        return
    for way in (SHARED, RESTLESS):
        checks.note(" ".join(f"{key}={value}" for key, value in way.items()))
        with forced(way, DRIVERS_CAP):
            drivers.run(checks, short=False)
        with forced(way, SUITES_CAP):
            suites.run(checks, short=False, parts=SUITES)
        with forced(way, REGRESS_CAP):
            regress.run(checks, short=False)


@contextlib.contextmanager
def forced(way: dict[str, str], cap: int) -> Iterator[None]:
    """Every guard within is one of this kind, whatever the run itself sets."""
    before = dict(harness.FORCED)
    harness.FORCED.update(way | {"limits.connection_limit": str(cap)})
    try:
        yield
    finally:
        harness.FORCED.clear()
        harness.FORCED.update(before)
