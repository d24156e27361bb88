"""`startup`: how long a command takes, as a multiple of `python -c pass` in the same run.

All commands take their turn in every round; the floors of at least ten rounds are compared. On a
machine that is busy with something else there are more, until no floor moves any more.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

from tests.bench import measure
from tests.conformance import harness

ROUNDS, MOST_ROUNDS, STEADY = 10, 40, 5
"""Rounds at least and at most, and how many must pass without moving a floor by 2 %."""

BARS = {"run -- true": 30.0, "--help": 6.0, "healthcheck": 8.0}


def run(checks: harness.Checks, short: bool) -> None:
    """The short form has wider bars."""
    with harness.postgres() as server, harness.Guard(server.address) as guard:
        pgguard = [sys.executable, "-m", "pgguard"]
        bare = "python -c pass"
        commands = {
            bare: [sys.executable, "-c", "pass"],
            "run -- true": [*pgguard, "run", "--upstream", server.address.url, "--", "true"],
            "--help": [*pgguard, "--help"],
            "healthcheck": [*pgguard, "healthcheck", "--http", guard.http.removeprefix("http://")],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        with tempfile.TemporaryDirectory(prefix="pgguard-bench-") as directory:
            for name in commands:
                _seconds(commands[name], directory)
            while not _steady(times):
                for name in measure.rotated(list(commands), len(times[bare])):
                    times[name].append(_seconds(commands[name], directory))
    checks.note(f"{len(times[bare])} rounds")
    floors = {name: min(turns) for name, turns in times.items()}
    rows = [
        [name, f"{floor * 1e3:.0f}", f"{floor / floors[bare]:.1f}"]
        for name, floor in floors.items()
    ]
    checks.table(["command", "ms, floor", f"to {bare}"], rows)
    for name, bar in BARS.items():
        ratio = floors[name] / floors[bare]
        bar = measure.bar_of(bar, short)
        checks.claim(ratio <= bar, name, f"{ratio:.1f} x", f"≤ {bar:.1f} x")


def _steady(times: dict[str, list[float]]) -> bool:
    """Whether there were enough rounds."""
    count = min(len(turns) for turns in times.values())
    if count < ROUNDS or count >= MOST_ROUNDS:
        return count >= MOST_ROUNDS
    return all(min(turns) > 0.98 * min(turns[:-STEADY]) for turns in times.values())


def _seconds(command: list[str], directory: str) -> float:
    """How long the command took. AssertionError when it failed."""
    started = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=directory,
        env=harness.clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    took = time.perf_counter() - started
    if done.returncode:
        said = done.stderr.decode(errors="replace")[-800:]
        raise AssertionError(f"{command[1:]} ended with {done.returncode}: {said}")
    return took
