"""What the hand-written pages say exists: keys, codes, metrics, commands, files."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import click
import pytest

from pgguard import cli
from pgguard.findings import CODES
from pgguard.settings import schema
from tests.docs.generate import ROOT, metrics

if TYPE_CHECKING:
    from pathlib import Path

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
DEMO_LINE = "python3 -m venv .venv && .venv/bin/pip install '.[demo]' && .venv/bin/pgguard demo"
TEST_LINE = "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/pytest"


def by_name(path: Path) -> str:
    return path.name


def fences(path: Path) -> list[str]:
    """The lines of all shell examples."""
    blocks = re.findall(r"^```sh\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("path", PAGES, ids=by_name)
def test_every_key_that_is_named_exists(path: Path) -> None:
    sections = "|".join(schema.sections())
    named = set(re.findall(rf"`((?:{sections})\.[a-z_]+)\b", path.read_text("utf-8")))
    assert named <= set(schema.fields())


@pytest.mark.parametrize("path", PAGES, ids=by_name)
def test_every_code_and_metric_that_is_named_exists(path: Path) -> None:
    text = path.read_text("utf-8")
    assert set(re.findall(r"PGG\d{3}", text)) <= set(CODES)
    names = {name for name, _, _, _ in metrics()}
    assert set(re.findall(r"`(pgguard_[a-z_]+)`", text)) <= names


@pytest.mark.parametrize("path", PAGES, ids=by_name)
def test_every_link_leads_to_a_file_or_a_heading(path: Path) -> None:
    text = path.read_text("utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in {line.lstrip("# ").lower() for line in text.splitlines()}
        elif not target.startswith("https://"):
            assert (path.parent / target).exists(), target


def parsed(words: list[str]) -> tuple[click.Context, click.Command, list[str]]:
    """The innermost command that `words` name, and the words behind it."""
    command: click.Command = cli.group
    context = click.Context(command, info_name="pgguard")
    while isinstance(command, click.Group) and words:
        name, inner, words = command.resolve_command(context, words)
        assert inner is not None
        command = inner
        context = click.Context(command, parent=context, info_name=name)
    return context, command, words


@pytest.mark.parametrize(
    "line",
    sorted({line for path in PAGES for line in fences(path) if line.startswith("pgguard ")}),
)
def test_every_example_command_parses(line: str) -> None:
    context, command, words = parsed(shlex.split(line)[1:])
    command.make_context(context.info_name, words)


def test_every_command_and_option_that_is_named_in_a_sentence_exists() -> None:
    named = re.findall(r"`pgguard ([a-z][^`]*)`", " ".join(p.read_text("utf-8") for p in PAGES))
    assert named
    for text in named:
        words = text.replace("|", " ").split()
        _, command, rest = parsed([word for word in words if re.fullmatch("[a-z]+", word)][:2])
        assert isinstance(command, click.Group) or not rest or command.name == "run"
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known | {"--"}


def test_the_two_lines_of_the_readme_stand_there_as_they_are_tested() -> None:
    lines = fences(ROOT / "README.md")
    assert DEMO_LINE in lines
    assert TEST_LINE in lines


def test_the_gate_runs_the_line_of_the_readme() -> None:
    script = (ROOT / ".ci/run").read_text("utf-8")
    function = re.search(r"^readme_line\(\) \{.*?^\}", script, re.MULTILINE | re.DOTALL)
    assert function is not None
    answer = subprocess.run(
        ["bash", "-euc", f"{function[0]}\nreadme_line"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == TEST_LINE


def test_the_first_sentence_says_what_is_replaced() -> None:
    first = (ROOT / "README.md").read_text("utf-8").split("\n\n")[1]
    assert "connection_limit" in first.partition(",")[0]


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for name in cli.COMMANDS:
        assert re.search(rf"pgguard {name}\b", text), name


def test_the_changelog_is_kept_as_it_says() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "## Unreleased" in text
    kinds = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert set(kinds) <= {"Security", "Removed", "Deprecated", "Added", "Changed", "Fixed"}
