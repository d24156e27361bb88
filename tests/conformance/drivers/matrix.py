"""`drivers`: the same probes directly and through the guard; PASS when nothing differs.

Every driver runs in a process of its own, per target one, that prints an outcome per feature. A
feature that does not answer in time is itself an outcome; the rest goes on in a new process.
The guard logs in and lets in by SCRAM-SHA-256, with the secret of its upstream URL.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conformance import fetching, harness, known
from tests.conformance.drivers.probe import FEATURES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ANSWER_WITHIN = 60.0
"""Seconds that a feature may take."""

SHOWN = 160
"""Characters of a difference that are printed."""


@dataclass(frozen=True, slots=True)
class Driver:
    """How a probe is started: `prepare` returns command and variables, or raises Missing."""

    name: str
    prepare: Callable[[], tuple[list[str], dict[str, str]]]


def _python(module: str, *imports: str) -> Callable[[], tuple[list[str], dict[str, str]]]:
    def prepare() -> tuple[list[str], dict[str, str]]:
        for name in imports:
            fetching.python_module(name)
        return [sys.executable, "-m", f"tests.conformance.drivers.{module}"], {}

    return prepare


def _node(script: str) -> Callable[[], tuple[list[str], dict[str, str]]]:
    def prepare() -> tuple[list[str], dict[str, str]]:
        binary, variables = fetching.node()
        program = Path(__file__).parent / "node" / script
        return [str(binary), "--no-deprecation", str(program)], variables

    return prepare


def _psql() -> tuple[list[str], dict[str, str]]:
    program = fetching.program("psql", "postgresql-client", first=fetching.wheel_programs())
    command, variables = _python("probe_psql")()
    return command, variables | {"PROBE_PSQL": str(program)}


DRIVERS = (
    Driver("psql", _psql),
    Driver("psycopg 3", _python("probe_psycopg3", "psycopg")),
    Driver("psycopg2", _python("probe_psycopg2", "psycopg2")),
    Driver("asyncpg", _python("probe_asyncpg", "asyncpg")),
    Driver("pg8000", _python("probe_pg8000", "pg8000")),
    Driver("SQLAlchemy", _python("probe_sqlalchemy", "sqlalchemy", "psycopg")),
    Driver("node-postgres", _node("probe_pg.cjs")),
    Driver("postgres.js", _node("probe_postgres.cjs")),
)


def run(checks: harness.Checks, short: bool) -> None:
    """The whole table; the short form is the same, it takes less than a minute."""
    del short
    with harness.postgres(max_connections=60) as server:
        checks.note(f"Postgres {server.version}, SCRAM-SHA-256 on both legs")
        with harness.Guard(server.address) as guard:
            compare(checks, server.address, guard.address)
            checks.claim(guard.running, "the guard lives after all of it")


def compare(checks: harness.Checks, direct: harness.Address, guarded: harness.Address) -> None:
    """Run every probe on both addresses, print the table, claim that nothing differs."""
    rows, found = differing(DRIVERS, FEATURES, direct, guarded)
    checks.table(["driver", *FEATURES], rows)
    for text in found:
        checks.note(text)
    if any("known" in row for row in rows):
        checks.note(f"known: {known.INVENTED_PID}")
    checks.claim(not found, "nothing differs from direct", len(found), "0")


def differing(
    drivers: Sequence[Driver],
    features: Sequence[str],
    direct: harness.Address,
    guarded: harness.Address,
) -> tuple[list[list[str]], list[str]]:
    """A row of words for each driver, and every difference."""
    rows: list[list[str]] = []
    found: list[str] = []
    for driver in drivers:
        try:
            command, variables = driver.prepare()
        except harness.Missing as missing:
            rows.append([driver.name, *["missing"] * len(features)])
            found.append(f"{driver.name}: {missing}")
            continue
        plain = outcomes(command, variables, direct, features)
        through = outcomes(command, variables, guarded, features)
        cells = []
        for feature in features:
            word, wrong = verdict(f"{driver.name}, {feature}", plain[feature], through[feature])
            cells.append(word)
            found += wrong[:1]
        rows.append([driver.name, *cells])
    return rows, found


def verdict(name: str, direct: dict[str, Any], guarded: dict[str, Any]) -> tuple[str, list[str]]:
    """The word for the table, and what is wrong where it is not as it should be, beside what is
    known of `name` and the place."""
    if isinstance(direct.get("outcome"), dict):
        return "BROKEN", [f"{name}: the probe itself fails: {direct['outcome']}"]
    places = dict(differences(direct, guarded))
    found = [
        f"{name}: {where}: {how}"
        for where, how in places.items()
        if ("drivers", f"{name}{where}") not in known.KNOWN
    ]
    if found:
        return "DIFFERS", found
    return ("known" if places else "not offered" if "absent" in direct else "ok"), []


def outcomes(
    command: list[str],
    variables: dict[str, str],
    address: harness.Address,
    features: Sequence[str] = FEATURES,
) -> dict[str, dict[str, Any]]:
    """What one driver observed at one address, by feature."""
    seen: dict[str, dict[str, Any]] = {}
    while left := [feature for feature in features if feature not in seen]:
        for line in _lines([*command, *left], variables | {"PROBE_URL": address.url}):
            seen[line["feature"]] = line
        stuck = next((feature for feature in left if feature not in seen), None)
        if stuck is not None:
            late = f"no answer within {ANSWER_WITHIN:.0f} s, or it crashed"
            seen[stuck] = {"outcome": {"raised": late}}
    return seen


def _lines(command: list[str], variables: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The lines of one process until it ends or is late with the next one."""
    scram = {"PGREQUIREAUTH": "scram-sha-256"}
    environment = harness.clean_environment() | variables | scram
    with tempfile.TemporaryFile() as complaints, selectors.DefaultSelector() as selector:
        process = subprocess.Popen(
            command,
            cwd=harness.ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
        )
        assert process.stdout is not None
        selector.register(process.stdout, selectors.EVENT_READ)
        try:
            kept, end = b"", time.monotonic() + ANSWER_WITHIN
            while selector.select(max(0.0, end - time.monotonic())):
                data = os.read(process.stdout.fileno(), 1 << 20)
                if not data:
                    break
                *whole, kept = (kept + data).split(b"\n")
                for line in whole:
                    yield json.loads(line)
                    end = time.monotonic() + ANSWER_WITHIN
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            complaints.seek(0)
            sys.stderr.write(complaints.read().decode(errors="replace")[-2000:])


def difference(direct: Any, guarded: Any) -> str:
    """The first place where two outcomes part and how, or nothing when they are equal."""
    return next((f"{where}: {how}" for where, how in differences(direct, guarded)), "")


def differences(direct: Any, guarded: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every place where two outcomes part, and how."""
    if direct == guarded:
        return
    if isinstance(direct, dict) and isinstance(guarded, dict) and direct.keys() == guarded.keys():
        pairs = [(key, direct[key], guarded[key]) for key in direct]
    elif isinstance(direct, list) and isinstance(guarded, list) and len(direct) == len(guarded):
        pairs = [(index, *both) for index, both in enumerate(zip(direct, guarded, strict=True))]
    else:
        yield where, f"direct {str(direct)[:SHOWN]} / guarded {str(guarded)[:SHOWN]}"
        return
    for key, one, other in pairs:
        yield from differences(one, other, f"{where}[{key}]")
