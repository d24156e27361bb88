"""`pgguard explain`."""

from __future__ import annotations

import pytest

from pgguard.cli import run_command
from pgguard.cli.explain import HEADINGS, page, rule_files
from pgguard.findings import CODES


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    assert set(rule_files()) == set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_every_page_has_its_title_and_the_same_headings(code: str) -> None:
    title, *lines = page(code).splitlines()
    assert title == f"{code}: {CODES[code].title}."
    at_margin = [line for line in lines if line and not line.startswith("    ")]
    assert at_margin[:-1] == list(HEADINGS)
    assert at_margin[-1].startswith("Class: ")
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("code", ["PGG301", "pgg301", "301"])
def test_a_page_is_found_by_its_code(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", code]) == 0
    text = capsys.readouterr().out
    assert text.startswith("PGG301: client reached its cap.\n")
    assert "Class: exhaustion. Severity: error." in text


def test_without_a_code_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(CODES)


@pytest.mark.parametrize("code", ["PGG999", "zebra", "", "../x"])
def test_an_unknown_code_lists_the_valid_ones(
    code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["explain", code]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert all(valid in err for valid in CODES)
