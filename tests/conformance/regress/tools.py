"""Postgres's own client programs on the regression database, directly and through pgguard.

pg_dump and pg_restore in every format, alone and in parallel; psql's commands that use the protocol
in ways of their own; pgbench in its three query modes; the maintenance programs; pg_basebackup.
Both sides work on one server, one after the other: each step's exit code, output and files must be
the same.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conformance import harness, known
from tests.conformance.regress.pg_regress import as_server_user, mine

if TYPE_CHECKING:
    from tests.conformance.regress.kit import Kit

SUITE = "tools"
WITHIN = 240.0

PSQL = Path(__file__).with_name("tools.sql")
PSQL_NEWER = Path(__file__).with_name("tools_bind.sql")
"""Commands that psql has since PostgreSQL 18: named statements and pipelines."""

PGBENCH_PIPELINE = r"""
\set aid random(1, 100000)
\startpipeline
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
\endpipeline
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One program's run. Words in braces: {db}, {dir} (one for each side)."""

    name: str
    command: str
    stdin: str = ""
    """What it reads; also to be found as the file {dir}/stdin."""
    file: str = ""
    """What it writes below {dir}, compared as well."""
    silent: bool = False
    """Its output holds times or numbers of chance: only its exit code and file are compared."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one step did on one side."""

    code: int
    said: str
    written: str = ""


def steps(kit: Kit) -> list[Step]:
    """All steps, in an order in which later ones use what earlier ones left."""
    scripts = [PSQL] if kit.major < 18 else [PSQL, PSQL_NEWER]
    return [
        Step("createdb", "createdb -T template0 {db}"),
        Step("pg_dump plain", "pg_dump -f {dir}/plain.sql regression", file="plain.sql"),
        Step("pg_dump inserts", "pg_dump --inserts -f {dir}/ins.sql regression", file="ins.sql"),
        Step("pg_dump custom", "pg_dump -Fc -f {dir}/custom regression"),
        Step("pg_dump directory, 4 jobs", "pg_dump -Fd -j 4 -f {dir}/files regression"),
        Step("pg_dumpall globals", "pg_dumpall -g -f {dir}/globals.sql", file="globals.sql"),
        Step("pg_restore", "pg_restore -d {db} {dir}/custom", silent=True),
        Step("pg_dump of it", "pg_dump -f {dir}/again.sql {db}", file="again.sql"),
        Step("dropdb, restored", "dropdb {db}"),
        Step("createdb for 4 jobs", "createdb -T template0 {db}"),
        Step("pg_restore, 4 jobs", "pg_restore -j 4 -d {db} {dir}/files", silent=True),
        Step("pg_dump of that", "pg_dump -f {dir}/jobs.sql {db}", file="jobs.sql"),
        Step("vacuumdb, 4 jobs", "vacuumdb -j 4 -z {db}"),
        Step("reindexdb, 2 jobs", "reindexdb -q -j 2 -S public {db}", silent=True),
        Step("clusterdb", "clusterdb {db}"),
        Step("dropdb", "dropdb -f {db}"),
        Step("createuser", "createuser --no-login {db}_role"),
        Step("dropuser", "dropuser {db}_role"),
        Step("createdb for psql", "createdb {db}"),
        *(
            Step(f"psql {mode}, {file.name}", f"psql -X {mode} -f - {{db}}", file.read_text())
            for file in scripts
            for mode in ("-a -v ECHO=all", "-q -At", "-1 -b")
        ),
        Step("pgbench -i", "pgbench -i -q {db}", silent=True),
        Step("pgbench simple", "pgbench -n -c 4 -t 50 -M simple {db}"),
        Step("pgbench extended", "pgbench -n -c 4 -t 50 -M extended {db}"),
        Step("pgbench prepared", "pgbench -n -c 4 -j 2 -t 50 -M prepared {db}"),
        Step("pgbench -C", "pgbench -n -c 2 -t 10 -C -S {db}"),
        Step(
            "pgbench pipeline",
            "pgbench -n -c 4 -t 50 -M extended -f {dir}/stdin {db}",
            PGBENCH_PIPELINE,
        ),
        Step("pg_isready", "pg_isready -q"),
        Step("pg_basebackup", "pg_basebackup -D {dir}/base -X stream -c fast --no-sync"),
        Step("pg_verifybackup", "pg_verifybackup {dir}/base"),
        Step("pg_basebackup tar", "pg_basebackup -D {dir}/tar -F t -X fetch -c fast --no-sync"),
        Step("dropdb at the end", "dropdb {db}"),
    ]


def run(checks: harness.Checks, kit: Kit, place: Path, sides: dict[str, harness.Address]) -> None:
    """All steps on one address, then on the other; claims that only what is known differs."""
    direct, guarded = (
        _side(kit, place / f"tools-{side}", address) for side, address in sides.items()
    )
    differs = {name: seen for name, seen in guarded.items() if seen != direct[name]}
    for name in known.unexplained(SUITE, differs):
        checks.note(f"differs: {name}")
        checks.note(f"  direct:  {_first_difference(direct[name], differs[name])}")
        checks.note(f"  guarded: {_first_difference(differs[name], direct[name])}")
    for line in known.explained(SUITE, differs):
        checks.note(f"known: {line}")
    failed = [[name for name, seen in side.items() if seen.code] for side in (direct, guarded)]
    if failed[0]:
        checks.note(f"exit with an error directly: {', '.join(failed[0])}")
    figure = (
        f"{len(direct)} runs of client programs, with an error direct {len(failed[0])}, "
        f"through pgguard {len(failed[1])}, different {len(differs)}"
    )
    checks.claim(not known.unexplained(SUITE, differs), SUITE, figure, "0 different")


def _side(kit: Kit, directory: Path, address: harness.Address) -> dict[str, Seen]:
    directory.mkdir()
    mine(directory)
    seen: dict[str, Seen] = {}
    for step in steps(kit):
        assert step.name not in seen
        seen[step.name] = _do(step, kit, directory, address)
    return seen


def _do(step: Step, kit: Kit, directory: Path, address: harness.Address) -> Seen:
    # One name on both sides: it is in what the programs print.
    words = [word.format(db="tools", dir=directory) for word in step.command.split()]
    words[0] = str(Path(kit.programs) / words[0])
    (directory / "stdin").write_text(step.stdin)
    variables = kit.environment | address.environment() | {"PGTZ": "UTC"}
    try:
        done = subprocess.run(
            words,
            cwd=directory,
            env=harness.clean_environment() | variables,
            input=step.stdin.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=WITHIN,
            **as_server_user(),
        )
        code, said = done.returncode, done.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as late:
        code, said = -1, f"not done after {WITHIN:.0f} s: {(late.stdout or b'')[-400:]!r}"
    written = _neutral((directory / step.file).read_text()) if step.file and not code else ""
    return Seen(code, "" if step.silent else _neutral(_local(said, directory, address)), written)


def _local(said: str, directory: Path, address: harness.Address) -> str:
    """Without what differs because the two sides are two places."""
    return said.replace(str(directory), "DIR").replace(str(address.port), "PORT")


_CHANCE = tuple(
    (re.compile(pattern, re.MULTILINE), instead)
    for pattern, instead in (
        (r"^\\(un)?restrict \w+$", r"\\\1restrict KEY"),
        (r"^(latency|tps|initial connection time|average connection).*$", r"\1"),
        (r"^-- (Started|Completed|Dumped) .*$", ""),
        (r"^\w{3} \w{3} +\d+ [\d:]+ \d{4} (\(every .*\))$", r"\1"),
        (r"(server process with PID|^lo_import|^lo_unlink) \d+", r"\1"),
    )
)
"""What differs from run to run: keys, times, dates, processes, OIDs."""


def _neutral(text: str) -> str:
    for pattern, instead in _CHANCE:
        text = pattern.sub(instead, text)
    return text


def _first_difference(seen: Seen, other: Seen) -> str:
    """The exit code, and the line from which on the first thing that differs differs."""
    for mine_, theirs in ((seen.said, other.said), (seen.written, other.written)):
        if mine_ != theirs:
            lines, others = mine_.splitlines(), theirs.splitlines()
            pairs = enumerate(zip(lines, others, strict=False))
            at = next((i for i, (a, b) in pairs if a != b), min(len(lines), len(others)))
            return f"exit {seen.code}, line {at + 1}: {lines[at : at + 3]}"
    return f"exit {seen.code}"
