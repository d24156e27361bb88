"""`evasion`: every way around the guard, a named case each, blocked or unknown and never scoped.

A file of tests/fixtures/evasion: why it is a way around, `-- expected: blocked|unknown`,
`-- params: 'text', NULL` (the values of its parameters), `-- setup:` statements that the session
executed before, and the statement; `{NUL}` in it is that byte.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus

from pgguard.counters import ProcessCounters
from pgguard.findings import Verdict
from pgguard.tenancy.judge import Judge
from pgguard.tenancy.model import TenancySettings
from pgguard.tenancy.rehearsal import Rehearsal
from tests.conformance import harness
from tests.conformance.tenancy.schemas import FIXTURES, Schema, read_model

if TYPE_CHECKING:
    from pathlib import Path

    from pgguard.sql.statement import Statement
    from pgguard.tenancy.model import Model

PLACE: Final = FIXTURES / "evasion"
SCHEMA: Final = Schema(
    "evasion", TenancySettings(shared=("templates",), global_=("rates", "inbox", "numbered"))
)
SETTINGS: Final = {
    "tenancy.mode": "block",
    "tenancy.shared": '["templates"]',
    "tenancy.global": '["rates", "inbox", "numbered"]',
}
BLOCKED: Final = {Verdict.unscoped, Verdict.cross_tenant}
HARMLESS: Final = {Verdict.scoped, Verdict.scoped_fk, Verdict.no_tenant_data, Verdict.by_id}


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    why: str
    expected: str
    sql: str
    params: tuple[str | None, ...] | None
    setup: tuple[str, ...]

    def judged(self, model: Model) -> Statement:
        """What pgguard says, in a session of its own in which `setup` was executed."""
        judge = Judge(model.settings, ProcessCounters())
        judge.set_catalogue(model.catalogue)
        session = Rehearsal(judge)
        for text in self.setup:
            session.run(text)
        return session.judge(self.sql, self.params)

    def holds(self, statement: Statement) -> bool:
        """Whether the verdict is the expected one."""
        verdict = Verdict(statement.verdict)
        return verdict in (BLOCKED if self.expected == "blocked" else {Verdict.unknown})


def cases() -> list[Case]:
    return [_read(path) for path in sorted(PLACE.glob("*.sql")) if path.name != "schema.sql"]


def _read(path: Path) -> Case:
    why, *lines = path.read_text().rstrip("\n").split("\n")
    said: dict[str, list[str]] = {"params": [], "setup": [], "expected": []}
    while lines[0].startswith("-- "):
        word, _, value = lines[0].removeprefix("-- ").partition(": ")
        if word not in said:
            break
        said[word].append(value)
        del lines[0]
    sql = "\n".join(lines).replace("{NUL}", "\0")
    params = tuple(
        None if value == "NULL" else value.strip("'")
        for text in said["params"]
        for value in text.split(", ")
    )
    (expected,) = said["expected"]
    return Case(
        path.stem, why.removeprefix("-- "), expected, sql, params or None, tuple(said["setup"])
    )


def model_in(connection: psycopg.Connection) -> Model:
    """The model of the cases' schema, made in the database behind the connection."""
    connection.execute((PLACE / "schema.sql").read_bytes())
    return read_model(connection, SCHEMA)


def run(checks: harness.Checks, short: bool) -> None:
    """All cases: what is said of them, and what a guard that blocks lets through."""
    every = cases()
    with harness.postgres() as postgres:
        with psycopg.connect(postgres.address.url, autocommit=True) as connection:
            model = model_in(connection)
            # There must be something to give away.
            connection.execute("INSERT INTO tenants VALUES ('k', 'k'), ('b', 'b')")
        scoped, other = [], []
        for case in every:
            statement = case.judged(model)
            verdict = Verdict(statement.verdict)
            line = f"{case.name} ({case.why}): {verdict.name}, {statement.why}"
            if verdict in HARMLESS:
                scoped.append(line)
            elif not case.holds(statement):
                other.append(f"{line}; expected {case.expected}")
        with harness.Guard(postgres.address, SETTINGS) as guard:
            _until_it_knows(guard)
            passed = [
                f"{case.name} ({case.why}): passed by a guard that blocks"
                for case in every
                if case.expected == "blocked" and _passes(guard, case)
            ]
    for line in [*scoped, *other, *passed]:
        checks.note(line)
    blocked = sum(case.expected == "blocked" for case in every)
    checks.claim(len(every) >= 100, "named ways around", len(every), "at least 100")
    checks.claim(not scoped, "none is called scoped or harmless", len(scoped), "0")
    checks.claim(
        not other,
        "each is blocked or unknown as its case says",
        f"{len(every) - len(scoped) - len(other)} of {len(every)}",
        "all",
    )
    checks.claim(
        not passed,
        "a guard in mode block lets none through that is to be blocked",
        f"{blocked - len(passed)} of {blocked}",
        "all",
    )


def _until_it_knows(guard: harness.Guard) -> None:
    """Wait for the guard to have read the catalogue: before, it can only pass things on."""

    def known() -> bool:
        with psycopg.connect(guard.address.url, autocommit=True) as connection:
            result = connection.pgconn.exec_(b"SELECT * FROM orders")
            return result.error_field(DiagnosticField.SQLSTATE) == b"42501"

    assert asyncio.run(harness.eventually(known))


def _passes(guard: harness.Guard, case: Case) -> bool:
    """Whether the case reaches Postgres; what its set-up or itself fails with is the guard's."""
    if "\0" in case.sql:
        return False
    with psycopg.connect(guard.address.url, autocommit=True) as connection:
        for text in case.setup:
            connection.pgconn.exec_(text.encode())
        if case.params is None:
            result = connection.pgconn.exec_(case.sql.replace("$1", "'k'").encode())
        else:
            values = [None if value is None else value.encode() for value in case.params]
            result = connection.pgconn.exec_params(case.sql.encode(), values)
        return result.status != ExecStatus.FATAL_ERROR
