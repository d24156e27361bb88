"""Findings of `pgguard check` as people and programs read them."""

from __future__ import annotations

import json
from typing import Any

from pgguard.findings import CODES, Relation, Verdict
from pgguard.report.checked import github, json_line, text
from pgguard.report.text import Style
from pgguard.tenancy.checking import Checked, Item, Source

SQL = "SELECT *\n  FROM bookings\tAS b"


def checked(verdict: str = "unscoped", code: str = "PGG101", **more: Any) -> Checked:
    source = more.pop("source", Source("a,b.sql", f"-- first\n{SQL}"))
    values: dict[str, Any] = {
        "why": "no condition",
        "relations": (
            Relation("bookings", "b", verdict, "no condition", "add WHERE b.tenant_id = $1"),
            Relation("plans", "", "scoped", "given"),
        ),
        "fingerprint": "f1",
        "position": SQL.index("bookings"),
        "cls": CODES[code].cls,
        "severity": CODES[code].severity,
    }
    item = Item(source, SQL, 9, id="one", **more.pop("item", {}))
    return Checked(item, Verdict[verdict], code, **(values | more))


def told(*found: Checked, notes: bool = False) -> str:
    return "\n".join(text(found, Style(), notes=notes))


def test_a_finding_shows_its_place_why_and_the_fix() -> None:
    assert (
        told(checked())
        == """\
a,b.sql:3:8: error PGG101: statement is not scoped to a tenant
  3 |   FROM bookings AS b
             ^
  bookings b is unscoped: no condition
  fix: add WHERE b.tenant_id = $1

1 statement: 1 unscoped
1 error
pgguard explain PGG101 says more"""
    )


def test_a_statement_that_comes_again_is_shown_once_with_its_places() -> None:
    lines = told(*[checked()] * 8).splitlines()
    assert [line for line in lines if "PGG101: " in line] == lines[:1]
    places = ", ".join(["a,b.sql:3:8"] * 5)
    assert f"  also at {places} and 2 more" in lines
    assert lines[-2] == "8 errors"


def test_notes_and_what_is_allowed_are_counted_and_not_shown() -> None:
    by_id = checked("by_id", "PGG104")
    out = told(by_id, checked(allowed="an operator's"))
    assert "PGG104" not in out
    assert "1 note, 1 allowed\nnotes are left out; -v shows them" in out
    assert "note PGG104" in told(by_id, notes=True)


def test_nothing_found_is_said() -> None:
    assert told() == "0 statements: none\nnothing found"


def test_no_control_character_reaches_the_terminal() -> None:
    out = told(checked(why="a\x1b[31m", relations=(), source=Source("\x1b[2J", f"-- first\n{SQL}")))
    assert "\x1b" not in out


def test_a_line_of_json_names_what_is_worse_than_scoped_and_every_level() -> None:
    assert json.loads(json_line(checked())) == {
        "id": "one",
        "verdict": "unscoped",
        "relations": ["bookings"],
        "codes": ["PGG101"],
        "why": "no condition",
        "levels": {"bookings": "unscoped", "plans": "scoped"},
    }
    assert json.loads(json_line(checked(allowed="so")))["allowed"] == "so"


def test_annotations_of_github_are_escaped() -> None:
    (line,) = github([checked(), checked("by_id", "PGG104")], notes=False)
    assert line == (
        "::error file=a%2Cb.sql,line=3,col=8,title=PGG101%3A statement is not scoped to a tenant"
        "::bookings b is unscoped: no condition%0Afix: add WHERE b.tenant_id = $1"
    )
    noted = list(github([checked("by_id", "PGG104", why="50%")], notes=True))
    assert noted[0].startswith("::notice ")
