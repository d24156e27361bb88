"""`orm`: what ORMs send for scoped code raises no alarm, and every leak that is planted is found.

SQLAlchemy, Django and Prisma (its client on the driver adapter, which needs no engine) run live
through a guard that observes; the Rails-like set is SQL in ActiveRecord's shapes from
tests/fixtures/tenancy/rails.txt. Each program does what is scoped as client `… good`, and each
leak as a client of its own. The short form leaves out what has to be fetched: Django and Prisma.

Laws: a leak is found if its client has a finding at error level; `good` may have none, and at most
1 % of its statements `unknown`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg

from tests.conformance import fetching, harness
from tests.conformance.suites.python_suites import make_environment
from tests.conformance.tenancy.measure import SERVER
from tests.conformance.tenancy.schemas import FIXTURES, SCHEMAS
from tests.conformance.tenancy.worlds import ME, Worlds

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS: Final = Path(__file__).parent / "orms"
DJANGO: Final = ("Django==5.2.19", "psycopg[binary]==3.3.4")
PRISMA: Final = {"prisma": "7.10.0", "@prisma/client": "7.10.0", "@prisma/adapter-pg": "7.10.0"}
WORLD: Final = "equal"
SETTINGS: Final = {
    "tenancy.shared": '["Template"]',
    "tenancy.global": '["Currency"]',
    "tenancy.owned": '{"BookingAddOn": "bookingId", "_BookingToTag": "A"}',
}
WITHIN: Final = 180.0
_ERRORS: Final = {"unscoped", "cross_tenant"}


@dataclass(slots=True)
class Told:
    """What the guard says of the clients of one ORM."""

    statements: int = 0
    unknown: int = 0
    alarms: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


def run(checks: harness.Checks, short: bool) -> None:
    """Each ORM that the form has, with both lists."""
    programs: dict[str, Callable[[str, str], list[str]]] = {"sqlalchemy": alchemy, "rails": rails}
    if not short:
        programs |= {"django": django, "prisma": prisma}
    with harness.postgres(settings=SERVER) as postgres:
        with Worlds(postgres.embedded, SCHEMAS["camel"]) as worlds:
            tenant = worlds.maker.tenant(ME)
        address = harness.Address.of(postgres.embedded.url_of(f"t_camel_{WORLD}"))
        for name, program in programs.items():
            with harness.Guard(address, SETTINGS) as guard:
                _until_it_knows(guard)
                done = program(guard.address.url, tenant)
                report(checks, name, told_of(guard, done))


def report(checks: harness.Checks, name: str, told: Told) -> None:
    """Both lists and the claims of one ORM."""
    for what, lines in (("alarm", told.alarms), ("note", told.notes), ("missed", told.missed)):
        for line in lines:
            checks.note(f"{name}, {what}: {line}")
    for line in told.found:
        checks.note(f"{name}, found: {line}")
    checks.claim(told.statements >= 20, f"{name}: scoped statements", told.statements)
    checks.claim(not told.alarms, f"{name}: alarms on scoped code", len(told.alarms), "0")
    share = 100 * told.unknown / max(told.statements, 1)
    checks.claim(share <= 1, f"{name}: unknown on scoped code", f"{share:.1f} %", "at most 1 %")
    planted = len(told.found) + len(told.missed)
    checks.claim(
        planted >= 10 and not told.missed,
        f"{name}: planted leaks found",
        f"{len(told.found)} of {planted}",
        "all",
    )


def told_of(guard: harness.Guard, done: list[str]) -> Told:
    """What the guard knows of the clients that a program was."""
    told = Told()
    findings: list[dict[str, Any]] = guard.api("findings")["findings"]
    for row in guard.api("clients")["clients"]:
        if row["client"].endswith(" good"):
            told.statements, told.unknown = row["statements"], row["unknown"]
    for client in done:
        mine = [row for row in findings if row["client"] == client]
        errors = [row for row in mine if row["severity"] == "error"]
        if client.endswith(" good"):
            told.alarms = [_line(row) for row in errors]
            told.notes = [_line(row) for row in mine if row["class"] == "unknown"]
        elif any(row["class"] in _ERRORS for row in errors):
            told.found.append(f"{client}: {_line(errors[0])}")
        else:
            told.missed.append(client)
    return told


def _line(row: dict[str, Any]) -> str:
    statement = row["statement"] or {}
    why = "; ".join(f"{r['name']}: {r['level']}, {r['why']}" for r in row["relations"])
    return (
        f"{row['code']} {row['class']}: {' '.join(statement.get('text', '').split())[:200]} ({why})"
    )


def _until_it_knows(guard: harness.Guard) -> None:
    """Wait for the guard to have read the catalogue, or everything is unknown."""

    def known() -> bool:
        with psycopg.connect(guard.address.url, autocommit=True) as connection:
            connection.execute('SELECT number FROM "Booking"')
        return any(row["class"] == "unscoped" for row in guard.api("findings")["findings"])

    assert asyncio.run(harness.eventually(known))


def _program(command: list[str], environment: dict[str, str]) -> list[str]:
    """Run it and return the clients that it was."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WITHIN)
    if done.returncode:
        raise AssertionError(f"{Path(command[1]).name} failed: {done.stderr.strip()[-1500:]}")
    return done.stdout.strip().split("\n")


def _cached(*pins: str) -> Path:
    """A directory for just these versions, outside of the repository."""
    digest = hashlib.sha256(" ".join(pins).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"pgguard-orm-{os.getuid()}-{digest}"


def alchemy(url: str, tenant: str) -> list[str]:
    """SQLAlchemy is among our own test dependencies."""
    program = str(PROGRAMS / "alchemy.py")
    return _program([sys.executable, program, url, tenant], harness.clean_environment())


def django(url: str, tenant: str) -> list[str]:
    """Django lives in a virtual environment of its own."""
    place = _cached(*DJANGO)
    if not (place / "complete").exists():
        make_environment(place, DJANGO)
        (place / "complete").touch()
    program = str(PROGRAMS / "django_app.py")
    python = str(place / "bin" / "python")
    return _program([python, program, url, tenant], harness.clean_environment())


def prisma(url: str, tenant: str) -> list[str]:
    """Prisma 7 from npm alone: its client needs no engine, and generating it none that runs."""
    binary, variables = fetching.node(PRISMA)
    modules = Path(variables["NODE_PATH"])
    environment = harness.clean_environment() | {
        "MODULES": str(modules.parent),
        "DATABASE_URL": url,
        "PRISMA_SCHEMA_ENGINE_BINARY": "/bin/true",
        "PRISMA_HIDE_UPDATE_MESSAGE": "1",
        "CHECKPOINT_DISABLE": "1",
    }
    # The schema has to lie where the packages are found from.
    shutil.copy(PROGRAMS / "schema.prisma", modules.parent)
    made = subprocess.run(
        [str(modules / ".bin" / "prisma"), "generate", "--schema", "schema.prisma"],
        env=environment,
        cwd=modules.parent,
        capture_output=True,
        text=True,
        timeout=WITHIN,
    )
    if made.returncode:
        raise harness.Missing(f"prisma generate: {made.stderr.strip()[-400:]}")
    return _program([str(binary), str(PROGRAMS / "prisma.mjs"), url, tenant], environment)


def rails(url: str, tenant: str) -> list[str]:
    """Statements in ActiveRecord's shapes, each leak over a connection of its own."""
    blocks = [
        block.split("\n")
        for block in (FIXTURES / "tenancy" / "rails.txt").read_text().strip().split("\n\n")[1:]
    ]
    names = list(dict.fromkeys(re.match(r"\[(.*?)\]", block[0])[1] for block in blocks))
    for name in names:
        with psycopg.connect(url, application_name=f"rails {name}") as connection:
            for title, sql, *values in blocks:
                if title.startswith(f"[{name}]"):
                    given = [v.strip().encode() for v in values[0].split("|")] if values else []
                    result = connection.pgconn.exec_params(sql.encode(), given)
                    assert not result.error_message, f"{title}: {result.error_message.decode()}"
            connection.rollback()
    return [f"rails {name}" for name in names]
