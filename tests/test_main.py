"""`python -m pgguard` is the command line."""

from __future__ import annotations

import subprocess
import sys


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "pgguard", "explain"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("PGG101")
