"""Every rule has a page that can be read without a network, and says its one sentence."""

from __future__ import annotations

import pytest

from pgguard.findings import CODES
from pgguard.sql.facts.reading import read
from pgguard.tenancy.rules import PAGES, page

HEADINGS = ["What it does", "Why it is bad", "Example", "Use instead", "References"]


@pytest.mark.parametrize("code", PAGES)
def test_page_has_the_fixed_headings_in_order(code: str) -> None:
    text = page(code)
    assert text is not None
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert headings == HEADINGS
    assert code in CODES


def test_a_code_without_a_page_here_has_none() -> None:
    assert page("PGG301") is None


@pytest.mark.parametrize("code", sorted(set(PAGES) - {"PGG901", "PGG110"}))
def test_examples_are_sql(code: str) -> None:
    text = page(code) or ""
    example = text.partition("## Example\n")[2].partition("## Use instead")[0]
    statements = [line.strip() for line in example.splitlines() if line.strip()]
    assert statements
    for statement in statements:
        assert not read(statement.encode()).unread
