"""`pgguard check` as it is typed: judged by a database or a schema, answered in four formats."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest
from schemas import SCOPES

from pgguard.cli import run_command

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Database

SCRIPT = """\
SELECT * FROM bookings WHERE tenant_id = $1;
SELECT * FROM bookings AS b
WHERE b.status = $1;
SELECT * FROM countries;
SELEC 1;
DELETE FROM bookings WHERE id = $1;
"""


@pytest.fixture
def dsn(database: Database) -> str:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute((SCOPES / "booking.schema.sql").read_bytes())
    return database.url


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("q.sql").write_text(SCRIPT)
    return "q.sql"


def test_every_statement_has_a_verdict(
    dsn: str, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["check", "--dsn", dsn, "--format", "jsonl", script]) == 0
    out, err = capsys.readouterr()
    answers = [json.loads(line) for line in out.splitlines()]
    assert [(a["id"], a["verdict"], a["codes"]) for a in answers] == [
        ("q.sql:1:1", "scoped", []),
        ("q.sql:2:1", "unscoped", ["PGG101"]),
        ("q.sql:4:1", "no_tenant_data", []),
        ("q.sql:5:1", "unknown", ["PGG901"]),
        ("q.sql:6:1", "by_id", ["PGG104"]),
    ]
    assert err == ""


def test_text_is_for_people(dsn: str, script: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["check", "--dsn", dsn, script]) == 0
    out = capsys.readouterr().out
    assert out.startswith("q.sql:2:15: error PGG101: statement is not scoped to a tenant\n")
    assert out.splitlines()[-4:-1] == [
        "5 statements: 1 no_tenant_data, 1 scoped, 1 by_id, 1 unknown, 1 unscoped",
        "1 error, 1 warning, 1 note",
        "notes are left out; -v shows them",
    ]


@pytest.mark.parametrize(
    ("classes", "status"), [("unscoped", 70), ("cross_tenant,unknown", 0), ("by_id", 70)]
)
def test_classes_fail_the_check(dsn: str, script: str, classes: str, status: int) -> None:
    # A syntax error is class `internal`: Postgres will say it.
    assert run_command(["check", "--dsn", dsn, "--fail-on", classes, script]) == status


def test_sarif_and_github_are_printed(
    dsn: str, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["check", "--dsn", dsn, "--format", "sarif", script]) == 0
    log = json.loads(capsys.readouterr().out)
    assert [r["ruleId"] for r in log["runs"][0]["results"]] == ["PGG101", "PGG901", "PGG104"]
    rules = log["runs"][0]["tool"]["driver"]["rules"]
    assert rules[0]["help"]["text"].startswith("PGG101: ")
    assert run_command(["check", "--dsn", dsn, "--format", "github", script]) == 0
    assert capsys.readouterr().out.startswith("::error file=q.sql,line=2,col=15,")


def test_a_line_that_is_wrong_is_answered_named_and_costs_the_status(
    dsn: str, script: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tmp_path.joinpath("q.jsonl").write_text('{"id": "a", "sql": "SELECT 1"}\n{"id": "b"}\n')
    assert run_command(["check", "--dsn", dsn, "--format", "jsonl", "q.jsonl"]) == 2
    out, err = capsys.readouterr()
    answers = [json.loads(line) for line in out.splitlines()]
    assert [(a["id"], a["verdict"]) for a in answers] == [("a", "no_tenant_data"), ("b", "unknown")]
    assert 'q.jsonl:2:1: not checked: "sql" should be a text' in err


def test_a_schema_is_enough(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    schema = str(SCOPES / "booking.schema.sql")
    assert run_command(["check", "--schema", schema, "--format", "jsonl", script]) == 0
    assert '"q.sql:2:1", "verdict": "unscoped"' in capsys.readouterr().out


def test_settings_say_what_is_a_tenant_and_what_is_allowed(
    dsn: str, script: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tmp_path.joinpath("pgguard.toml").write_text(
        '[[tenancy.allow]]\ntable = "bookings"\nreason = "old"\nexpires = "2020-01-01"\n'
        '[[tenancy.allow]]\nclient = "q.*"\nreason = "operators only"\n'
    )
    assert run_command(["check", "--dsn", dsn, "--fail-on", "unscoped", script]) == 0
    out, err = capsys.readouterr()
    assert "3 allowed" in out
    assert 'PGG109: has expired and allows nothing: table = "bookings" (old)' in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dsn", "postgresql://h/d", "--schema", "x.sql", "q.sql"], "exclude each other"),
        (["--dsn", "postgresql://h/d", "--fail-on", "nothing", "q.sql"], "there is no class"),
        (["--dsn", "postgresql://h/d", "none.sql"], "cannot read none.sql"),
        (["--schema", "none.sql", "q.sql"], "cannot read none.sql"),
        (["q.sql"], "give --schema FILE.sql, --dsn URL, or set DATABASE_URL"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    script: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    for name in ("DATABASE_URL", "DATABASE_URL_TEST", "PGHOST", "PGPORT", "PGHOSTADDR"):
        monkeypatch.delenv(name, raising=False)
    assert run_command(["check", *arguments]) == 2
    assert words in capsys.readouterr().err
