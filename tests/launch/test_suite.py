"""The demo's suite as something to run, without running it."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

from pgguard.errors import LaunchError
from pgguard.launch import suite

if TYPE_CHECKING:
    from pathlib import Path

WORDS = "FATAL:  sorry, too many clients already"
LINES = [
    {"file": "test_a.py", "test": "test_one", "outcome": "passed", "message": ""},
    {"file": "test_b.py", "test": "test_é", "outcome": "failed", "message": "assert 1 == 2"},
    {"file": "test_b.py", "test": "test_two", "outcome": "failed", "message": f"x: {WORDS}\n(y)"},
]


def test_there_are_ten_files_and_the_planted_ones_are_among_them() -> None:
    assert len(suite.files()) == suite.WORKERS
    assert {file for _, file in suite.PLANTED} <= set(suite.files())


def test_each_file_has_one_test_of_twenty_visitors() -> None:
    for name in suite.files():
        text = (suite.FOLDER / "tests" / name).read_text()
        assert len(re.findall(r"^def test_\w+\(visit\):", text, re.MULTILINE)) == 1
    text = (suite.FOLDER / "conftest.py").read_text()
    assert "VISITORS = 20" in text
    assert "POOL = 20" in text
    assert suite.WANTED == 20 * suite.WORKERS


def test_outcomes_are_read_as_they_come_at_any_split(tmp_path: Path) -> None:
    whole = b"".join(json.dumps(line).encode() + b"\n" for line in LINES)
    for split in range(len(whole) + 1):
        path = tmp_path / f"outcomes{split}"
        outcomes = suite.Outcomes(path)
        assert outcomes.read() == []
        path.write_bytes(whole[:split])
        first = outcomes.read()
        with path.open("ab") as file:
            file.write(whole[split:])
        assert first + outcomes.read() == ["test_b.py"]
        assert outcomes.files == {
            "test_a.py": suite.FileOutcome(passed=1),
            "test_b.py": suite.FileOutcome(failed=2, refusal=WORDS),
        }
        assert outcomes.read() == []


@pytest.mark.parametrize(
    "words",
    [
        "FATAL:  sorry, too many clients already",
        "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
        'FATAL:  pgguard: client "a" already uses its 10 server connections; waited 5.0 s',
        "FATAL:  pgguard: all 24 server connections are in use (limits.total); waited 5.0 s",
    ],
)
def test_the_words_of_postgres_and_pgguard_for_it_are_known(words: str, tmp_path: Path) -> None:
    path = tmp_path / "outcomes"
    path.write_text(json.dumps({**LINES[1], "message": f"failed: {words}\nmore"}) + "\n")
    outcomes = suite.Outcomes(path)
    outcomes.read()
    assert outcomes.files["test_b.py"].refusal == words


def test_the_suite_gets_its_database_and_nothing_of_the_users_pytest(tmp_path: Path) -> None:
    env = {
        "PATH": "/bin",
        "PGHOST": "elsewhere",
        "PYTEST_ADDOPTS": "-x",
        "DATABASE_URL": "postgres://elsewhere",
    }
    assert suite.suite_env(env, "postgres://here", tmp_path) == {
        "PATH": "/bin",
        "DATABASE_URL": "postgres://here",
        "PGGUARD_DEMO_OUTCOMES": str(tmp_path),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def test_the_suite_runs_with_this_interpreter_and_its_own_settings() -> None:
    command = suite.pytest_command()
    assert command[0] == sys.executable
    assert command[command.index("-c") + 1] == str(suite.FOLDER / "pytest.ini")


def test_a_missing_extra_prints_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    suite.require_extra()
    monkeypatch.setattr(suite, "find_spec", lambda name: None if name == "xdist" else object())
    with pytest.raises(LaunchError) as caught:
        suite.require_extra()
    assert "the demo needs pytest-xdist: " in str(caught.value)
    assert f"{sys.executable} -m pip install 'pgguard[demo]'" in str(caught.value)


def test_the_tests_of_every_file_are_known() -> None:
    counts = suite.tests()
    assert list(counts) == suite.files()
    assert min(counts.values()) >= 2
