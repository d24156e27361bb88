"""`python -m pgguard` and the console script are the same program."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

from pgguard import __main__ as program


def test_the_module_runs_as_the_command_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pgguard", "--version"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert done.stdout.startswith("pgguard ")
    assert done.stderr == ""


def test_the_console_script_is_the_same_function() -> None:
    (script,) = entry_points(group="console_scripts", name="pgguard")
    assert script.load() is program.main
