"""What must not be imported before it is needed: start-up time is a promise."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"pydantic", "pglast", "prometheus_client", "rich", "uvloop", "asyncio"}


def heavy_after(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has imported after `code`."""
    program = f"import sys\n{code}\nprint()\nprint(*{HEAVY} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(answer.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import pgguard.cli",
        "import pgguard.cli.healthcheck",
        "import pgguard.cli.config",
        "import pgguard.cli.explain",
        "import pgguard.settings.sources, pgguard.settings.upstream, pgguard.settings.values",
        "from pgguard import cli\ncli.run_command(['--help'])",
        "from pgguard import cli\ncli.run_command(['explain', 'PGG301'])",
        "from pgguard import cli\ncli.run_command(['healthcheck', '--http', 'localhost:1'])",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    assert heavy_after(code) == set()


def test_the_check_sees_a_heavy_import() -> None:
    assert heavy_after("import pgguard.settings.schema") == {"pydantic"}
