"""`findings`: different findings as a terminal shows them, compared with their snapshot.

What a user types: `pgguard check -v --schema schema.sql queries.sql` in tests/fixtures/findings.
"""

from __future__ import annotations

import difflib
import re
import subprocess
import sys

from tests.conformance import harness

DIRECTORY = harness.ROOT / "tests" / "fixtures" / "findings"
SNAPSHOT = DIRECTORY / "terminal.txt"
LEAST = 10
COMMAND = ("check", "-v", "--schema", "schema.sql", "queries.sql")


def shown() -> str:
    """What the command prints, to both streams."""
    done = subprocess.run(
        [sys.executable, "-m", "pgguard", *COMMAND],
        cwd=DIRECTORY,
        env=harness.clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return (
        f"$ pgguard {' '.join(COMMAND)}\n{done.stderr}{done.stdout}exit status {done.returncode}\n"
    )


def kinds(text: str) -> int:
    """How many different findings a text shows, by code and title or reason."""
    return len(set(re.findall(r"(?:(?:error|warning|note) )?PGG\d{3}: .*(?:\n.*){3}", text)))


def run(checks: harness.Checks, short: bool) -> None:
    """Print them, and compare."""
    text = shown()
    print(text)
    wanted = SNAPSHOT.read_text("utf-8")
    for line in difflib.unified_diff(wanted.splitlines(), text.splitlines(), "kept", "shown"):
        print(line)
    number = kinds(text)
    checks.claim(number >= LEAST, "different findings", number, f">= {LEAST}")
    checks.claim(text == wanted, "as the snapshot has them", text == wanted, "True")


if __name__ == "__main__":
    SNAPSHOT.write_text(shown(), "utf-8")
