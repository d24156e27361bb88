"""Every rule of the package has its page, whose examples are what it is about."""

from __future__ import annotations

from importlib import import_module
from textwrap import dedent

import pytest

from pgguard.findings import CODES
from pgguard.sql.facts.reading import read
from pgguard.tenancy import rules

WITHOUT_SQL = {"PGG901", "PGG109", "PGG110"}


def page(code: str) -> str:
    return import_module(f"pgguard.tenancy.rules.{rules.RULES[code]}").__doc__ or ""


@pytest.mark.parametrize("code", rules.RULES)
def test_a_rule_is_of_a_code_that_exists_and_says_one_sentence(code: str) -> None:
    assert page(code).startswith(f"{code}: {CODES[code].title}.")
    assert rules.remedy(code, [], "why").endswith(".")


@pytest.mark.parametrize("code", sorted(set(rules.RULES) - WITHOUT_SQL))
def test_examples_are_sql(code: str) -> None:
    example = page(code).partition("Example\n")[2].partition("Use instead")[0]
    # A line that is indented deeper goes on with the one before.
    statements = dedent(example).strip().replace("\n  ", " ").splitlines()
    assert statements
    for statement in statements:
        assert not read(statement.encode()).unread
