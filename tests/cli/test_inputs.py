"""What is read: scripts, lines of JSON, and what is wrong with them."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pgguard.cli.inputs import PSQL, read_items
from pgguard.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from pgguard.tenancy.checking import Item


def items(tmp_path: Path, name: str, content: str | bytes) -> list[Item]:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_items(str(path)))


def test_a_script_gives_its_statements_with_their_places(tmp_path: Path) -> None:
    first, second = items(tmp_path, "a.sql", "\ufeff-- a\nSELECT 1;\n SELECT 2")
    path = tmp_path / "a.sql"
    assert (first.id, second.id) == (f"{path}:2:1", f"{path}:3:2")
    assert (first.sql, second.sql.strip()) == ("-- a\nSELECT 1;", "SELECT 2")


def test_commands_of_psql_are_told_and_the_rest_is_read(tmp_path: Path) -> None:
    found = items(tmp_path, "a.sql", "\\set x 1\nSELECT 1;")
    assert [item.problem for item in found] == [PSQL, ""]


def test_bytes_that_are_no_text_spoil_their_own_statement(tmp_path: Path) -> None:
    found = items(tmp_path, "a.sql", b"SELECT 1; SELECT '\xff'; SELECT 2;")
    assert [bool(item.problem) for item in found] == [False, True, False]
    assert "not UTF-8 (byte 18)" in found[1].problem


def test_a_line_of_json_gives_one_statement(tmp_path: Path) -> None:
    entry = {"id": 7, "sql": "SELECT 1", "params": ["a", None], "tenant": "t", "setup": ["SET x"]}
    (item,) = items(tmp_path, "a.jsonl", f"\n{json.dumps(entry)}\n\n")
    assert (item.id, item.sql, item.params) == (7, "SELECT 1", ("a", None))
    assert (item.tenant, item.setup, item.source.place(item.start)) == ("t", ("SET x",), (2, 1))


def test_a_line_needs_no_more_than_its_sql(tmp_path: Path) -> None:
    (item,) = items(tmp_path, "a.jsonl", '{"sql": ""}')
    assert (item.id, item.params, item.tenant) == (f"{tmp_path / 'a.jsonl'}:1", None, None)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("SELECT 1", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"id": 3}', '"sql" should be a text'),
        ('{"id": 3, "sql": 1}', '"sql" should be a text'),
        ('{"sql": "x", "params": [1]}', '"params" should be'),
        ('{"sql": "x", "params": "a"}', '"params" should be'),
        ('{"sql": "x", "tenant": 1}', '"tenant" should be'),
        ('{"sql": "x", "setup": "SET x"}', '"setup" should be'),
        ('{"sql": "x", "values": []}', 'unknown key "values"'),
    ],
)
def test_a_wrong_line_says_what_is_wrong_and_costs_no_other(
    tmp_path: Path, line: str, words: str
) -> None:
    good, wrong, last = items(tmp_path, "a.jsonl", f'{{"sql": "a"}}\n{line}\n{{"sql": "b"}}')
    assert (good.problem, last.problem) == ("", "")
    assert words in wrong.problem
    if '"id"' in line:
        assert wrong.id == 3


def test_a_line_that_is_no_text_says_so(tmp_path: Path) -> None:
    (item,) = items(tmp_path, "a.jsonl", b'{"sql": "\xff"}')
    assert item.problem == "the line is not UTF-8"


@pytest.mark.parametrize(("content", "sql"), [('{"sql": "a"}', "a"), ("SELECT 1", "SELECT 1")])
def test_standard_input_is_known_by_its_first_sign(
    monkeypatch: pytest.MonkeyPatch, content: str, sql: str
) -> None:
    stdin: Any = SimpleNamespace(buffer=io.BytesIO(content.encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    (item,) = read_items("-")
    assert (item.source.path, item.sql) == ("<stdin>", sql)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        list(read_items(str(tmp_path / "none.sql")))
