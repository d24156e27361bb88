"""`regress`: PostgreSQL's own suites directly and through pgguard; PASS when nothing differs.

The core schedule (every file), once with room for all and once with fewer server connections than
a group of parallel tests wants, so that sessions queue (over TLS on both sides where that Postgres
has it); the isolation schedule; libpq_pipeline with
its protocol traces; and the client programs. Direct and guarded runs have a new server each, with
the same settings. The full form does it for the system's own Postgres and for the wheel's.

Laws: the verdict is the server's own driver's; a file that fails on both sides must fail with the
same output; what differs has its cause in `known.py` or fails the run. What is otherwise where
sessions share servers stands in `shared`.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import trustme

from tests.conformance import harness, known
from tests.conformance.regress import kit as kits
from tests.conformance.regress import mirrors, pipeline, shared, tools
from tests.conformance.regress.pg_regress import SERVER, Outcome, drive, mine
from tests.conformance.regress.watch import Watched

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from tests.conformance.regress.kit import Kit

NARROW = {"limits.connection_limit": "2", "limits.total": "4"}
"""Fewer than the up to 20 tests that the core schedule runs together."""

SHOWN = 5
"""Differing files of which the beginning of the difference is printed."""

SHORT = """
    test_setup boolean char name varchar text int2 int4 int8 oid float4 float8 bit numeric enum
    strings numerology date time timetz timestamp timestamptz interval copy copyselect copydml
    insert insert_conflict create_index errors transactions portals arrays random create_aggregate
    select_distinct subselect union prepared_xacts async psql_crosstab psql_pipeline guc
    advisory_lock portals_p2 plancache limit plpgsql copy2 temp prepare truncate returning
    largeobject sequence json jsonb
"""
"""Files of the core schedule in the short form: those that lean on the protocol the most."""


def run(checks: harness.Checks, short: bool) -> None:
    """Everything for each kit; the short form: some files of the core schedule, libpq_pipeline."""
    mirrors.run(checks)
    for kit in [kits.debian()] if short else [kits.debian(), kits.wheel()]:
        checks.note(f"PostgreSQL {kit.version}, test files of {kit.source_version}")
        with directory() as place:
            core(checks, kit, place, short=short)
            if not short:
                isolation(checks, kit, place)


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """A scratch directory that the servers' user may enter."""
    place = Path(tempfile.mkdtemp(prefix="pgguard-regress-"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def server(kit: Kit, settings: Mapping[str, str] | None = None) -> Iterator[harness.Postgres]:
    """A new server of that kit."""
    wanted = SERVER | dict(settings or {})
    with harness.postgres(
        settings=wanted, binaries=kit.binaries, variables=kit.environment
    ) as postgres:
        yield postgres


def core(checks: harness.Checks, kit: Kit, place: Path, *, short: bool) -> None:
    """The core schedule: direct, guarded with room, and (not in the short form) queueing.

    The client programs run on what the guarded run leaves, the regression database.
    """
    schedule = kit.suite("regress") / "parallel_schedule"
    if short:
        schedule = _choose(schedule, SHORT.split(), place / "schedule")
    files = _listed(schedule)
    selection = [f"--schedule={schedule}", "--max-concurrent-tests=20"]
    with server(kit) as postgres:
        direct = drive(kit, postgres.address, place / "direct", "regress", selection)
    with server(kit) as postgres:
        with Watched(checks, postgres, shared.one_client()) as guard:
            through = drive(kit, guard.address, place / "guarded", "regress", selection)
            compare(checks, f"core schedule{shared.mode()}", files, direct, through)
        with shared.at_least(shared.TOOLS_NEED), Watched(checks, postgres, {}) as guard:
            programs(checks, kit, place, postgres.address, guard.address, short=short)
    if short:
        return
    of_server, of_guard, of_libpq = encryption(place) if kit.encrypts else ({}, {}, {})
    with (
        server(kit, of_server) as postgres,
        Watched(checks, postgres, NARROW | of_guard | shared.one_client()) as guard,
    ):
        through = drive(
            kit, guard.address, place / "queueing", "regress", selection, variables=of_libpq
        )
        tls = ", TLS on both sides" if kit.encrypts else ""
        suite = f"core schedule, 4 servers{tls}{shared.mode()}"
        compare(checks, suite, files, direct, through)
        checks.claim(guard.waiting > 0, "sessions queued, at most", f"{guard.waiting:.0f}", "1")


def programs(
    checks: harness.Checks,
    kit: Kit,
    place: Path,
    direct: harness.Address,
    guarded: harness.Address,
    *,
    short: bool,
) -> None:
    """libpq_pipeline and, but in the short form, the client programs."""
    sides = {"direct": direct, "guarded": guarded}
    with shared.Crowd(checks, guarded):
        pipeline.run(checks, kit, place, sides)
        if not short:
            tools.run(checks, kit, place, sides)


Settings = dict[str, str]


def encryption(place: Path) -> tuple[Settings, Settings, Settings]:
    """What server, guard and libpq need to insist on TLS and to check each other's certificates."""
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1", "localhost")
    folder = place / "tls"
    folder.mkdir()
    ca, cert, key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
    authority.cert_pem.write_to_path(str(ca))
    cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    key.chmod(0o600)
    mine(key)
    return (
        {"ssl": "on", "ssl_cert_file": str(cert), "ssl_key_file": str(key)},
        {
            "upstream.tls": "verify-full",
            "upstream.ca": str(ca),
            "listen.tls": "require",
            "listen.cert": str(cert),
            "listen.key": str(key),
        },
        {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(ca)},
    )


def isolation(checks: harness.Checks, kit: Kit, place: Path, chosen: Collection[str] = ()) -> None:
    """The isolation schedule, or some of its files: several sessions of one test that block each
    other."""
    schedule = kit.suite("isolation") / "isolation_schedule"
    if chosen:
        schedule = _choose(schedule, chosen, place / "isolation_schedule")
    selection = [f"--schedule={schedule}"]
    with server(kit) as postgres:
        direct = drive(kit, postgres.address, place / "alone", "isolation", selection)
    with (
        server(kit) as postgres,
        shared.at_least(shared.ISOLATION_NEEDS),
        Watched(checks, postgres, shared.one_client()) as guard,
    ):
        with shared.Crowd(checks, guard.address):
            through = drive(kit, guard.address, place / "together", "isolation", selection)
        suite = f"isolation schedule{shared.mode()}"
        compare(checks, suite, _listed(schedule), direct, through)


def compare(
    checks: harness.Checks,
    suite: str,
    files: Collection[str],
    direct: Outcome,
    through: Outcome,
) -> None:
    """Print both sides' figures; claims that all files ran and only what is known differs."""
    differs = different(direct, through)
    listed = shared.LISTED if shared.is_shared() else suite
    for line in known.explained(listed, differs):
        checks.note(f"known: {line}")
    left = known.unexplained(listed, differs)
    for name in left[:SHOWN]:
        checks.note(f"differs: {name}")
        for line in through.differences.get(name, "").splitlines()[:40]:
            checks.note(f"  {line}")
    figure = (
        f"{len(direct.passed)} files, differences direct {len(direct.failed)}, "
        f"through pgguard {len(through.failed)}, only through pgguard {len(differs)}"
        f"{': ' + ', '.join(sorted(differs)) if differs else ''}"
        f" ({direct.seconds:.0f} s and {through.seconds:.0f} s)"
    )
    if direct.failed:
        checks.note(f"fail directly: {', '.join(direct.failed)}")
    whole = set(direct.passed) == set(files)
    if not whole:
        checks.note(f"the schedule has {len(files)} files; {direct.said[-2000:]}")
    checks.claim(whole and not left, suite, figure, "0 only through pgguard")
    if not shared.is_shared() and (stale := known.unused(suite, differs)):
        checks.claim(False, f"{suite}: what has a cause in known.py differs", ", ".join(stale))


def different(direct: Outcome, through: Outcome) -> list[str]:
    """Files that went another way through pgguard, or failed on both sides differently."""
    return [
        name
        for name in {**direct.passed, **through.passed}
        if direct.passed.get(name) is not through.passed.get(name)
        or direct.outputs.get(name) != through.outputs.get(name)
    ]


def _listed(schedule: Path) -> list[str]:
    """The files that a schedule names."""
    lines = [line.split() for line in schedule.read_text().splitlines()]
    return [name for words in lines if words[:1] == ["test:"] for name in words[1:]]


def _choose(schedule: Path, wanted: Collection[str], target: Path) -> Path:
    """The schedule with only the files that are wanted, in its own order and groups."""
    lines = []
    for line in schedule.read_text().splitlines():
        if line.startswith("test:"):
            names = [name for name in line.split()[1:] if name in wanted]
            lines += [f"test: {' '.join(names)}"] if names else []
    target.write_text("\n".join(lines) + "\n")
    return target
