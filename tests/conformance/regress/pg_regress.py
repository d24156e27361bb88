"""Runs pg_regress or pg_isolation_regress against one address and reads its verdicts.

Laws: driver, psql and server run as the same user, because tests write files from both sides;
each run has a database server and an output directory of its own; a run that does not end in time
is ended with all its children.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgguard.launch.embedded import unprivileged_account
from tests.conformance import harness

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.conformance.regress.kit import Kit

WITHIN = 1500.0
"""Seconds that a whole schedule may take."""

SERVER = {
    "max_prepared_transactions": "2",
    "log_lock_waits": "on",
    "log_temp_files": "128kB",
    "synchronous_commit": "on",
    "jit": "off",
}
"""What pg_regress gives a server that it starts itself or expects; no compiler at run time."""

_LINES = (
    re.compile(rb"^(?:test )?\s*(\S+)\s+\.\.\. (ok|FAILED|failed \(ignored\))", re.MULTILINE),
    re.compile(rb"^(ok|not ok) \d+\s+[-+] (\S+)", re.MULTILINE),
)
"""A verdict up to PostgreSQL 15, and in the Test Anything Protocol since 16."""


@dataclass(slots=True)
class Outcome:
    """What one run of a schedule said, by test file."""

    passed: dict[str, bool] = field(default_factory=dict)
    outputs: dict[str, bytes] = field(default_factory=dict)
    """The results of files that failed, to compare with the other side's."""
    differences: dict[str, str] = field(default_factory=dict)
    """How their results differ from what is expected."""
    said: str = ""
    seconds: float = 0.0

    @property
    def failed(self) -> list[str]:
        return [name for name, passed in self.passed.items() if not passed]


def drive(
    kit: Kit,
    address: harness.Address,
    directory: Path,
    suite: str,
    selection: Sequence[str],
    variables: Mapping[str, str] | None = None,
) -> Outcome:
    """Run a suite (`regress`, `isolation`) at an address.

    `selection` is further options, `variables` what libpq is to do otherwise.
    """
    names = {"regress": "regress/pg_regress", "isolation": "isolation/pg_isolation_regress"}
    databases = {"regress": "regression", "isolation": "isolation_regression"}
    directory.mkdir()
    mine(directory)
    command = [
        str(kit.driver(names[suite])),
        f"--bindir={kit.programs}",
        f"--dlpath={kit.built}",
        f"--inputdir={kit.suite(suite)}",
        f"--outputdir={directory}",
        f"--host={address.host}",
        f"--port={address.port}",
        f"--user={address.user}",
        f"--dbname={databases[suite]}",
        *selection,
    ]
    started = time.monotonic()
    environment = kit.environment | address.environment() | dict(variables or {})
    said = _run(command, directory, environment)
    outcome = Outcome(said=said.decode(errors="replace"), seconds=time.monotonic() - started)
    outcome.passed = dict(_verdicts(said))
    for name in outcome.failed:
        result = directory / "results" / f"{name}.out"
        with contextlib.suppress(OSError):
            outcome.outputs[name] = result.read_bytes()
    outcome.differences = _differences(directory / "regression.diffs")
    return outcome


def _differences(file: Path) -> dict[str, str]:
    """The parts of `regression.diffs` by test file."""
    text = file.read_text(errors="replace") if file.exists() else ""
    parts = re.split(r"^diff .*/results/(\S+)\.out$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def mine(directory: Path) -> None:
    """Give a directory to the user that servers run as."""
    if os.geteuid() == 0:
        account = unprivileged_account()
        os.chown(directory, account.uid, account.gid)


def as_server_user() -> dict[str, Any]:
    """Options of subprocess with which a program runs as the user that servers run as."""
    if os.geteuid() != 0:
        return {}
    account = unprivileged_account()
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def _verdicts(said: bytes) -> list[tuple[str, bool]]:
    older, newer = _LINES
    found = [(m[1].decode(), m[2] == b"ok") for m in older.finditer(said)]
    return found or [(m[2].decode(), m[1] == b"ok") for m in newer.finditer(said)]


def _run(command: list[str], directory: Path, variables: dict[str, str]) -> bytes:
    """What the driver printed; it is ended, and all it started, after `WITHIN`."""
    log = directory / "driver.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            # Root's home is closed to the servers' user, and libpq looks there.
            env=harness.clean_environment() | variables | {"HOME": str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **as_server_user(),
        )
        try:
            process.wait(WITHIN)
        except subprocess.TimeoutExpired:
            output.write(f"\nended after {WITHIN:.0f} s\n".encode())
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return log.read_bytes()
