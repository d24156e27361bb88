"""docs/tenancy.md: its settings are taken, its lines are judged, its workflow runs."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from commands import environment

from pgguard.findings import CODES, Verdict
from pgguard.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tenancy.md").read_text("utf-8")
SCHEMA = "CREATE TABLE bookings (id int, tenant_id text NOT NULL);"


def fences(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", fences("toml"))
def test_settings_are_taken(text: str) -> None:
    Settings.model_validate(tomllib.loads(text))


def test_every_verdict_has_its_severity() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| .* \| ?(\w*) \|$", PAGE, re.MULTILINE))
    assert list(told) == [verdict.name for verdict in sorted(Verdict, reverse=True)]
    for entry in CODES.values():
        if entry.cls in told and entry.code < "PGG107" and entry.code != "PGG103":
            assert told[entry.cls] == entry.severity, entry


def test_the_lines_and_the_comment_and_the_workflow_do_what_is_said(tmp_path: Path) -> None:
    (workflow,) = [yaml.safe_load(text) for text in fences("yaml")]
    lines = [step["run"] for step in workflow["jobs"]["check"]["steps"] if "run" in step]
    (line,) = [line for line in lines if line.startswith("pgguard ")]
    tmp_path.joinpath("schema.sql").write_text(SCHEMA)
    tmp_path.joinpath("queries.sql").write_text("".join(fences("sql")))
    tmp_path.joinpath("lines.jsonl").write_text("".join(fences("json")))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pgguard", *words],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
        )

    assert run(*shlex.split(line)[1:]).returncode == 0
    done = run("check", "--schema", "schema.sql", "--format", "jsonl", "lines.jsonl", "queries.sql")
    answers = [json.loads(answer) for answer in done.stdout.splitlines()]
    assert [answer["verdict"] for answer in answers] == ["cross_tenant", "unscoped", "unscoped"]
    assert answers[2]["allowed"] == "for operators only"
