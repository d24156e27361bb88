"""`pgguard demo` as it is typed: both runs, the metrics meanwhile, the screen, nothing left."""

from __future__ import annotations

import json
import re
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import start_pgguard

from pgguard.launch import suite
from pgguard.launch.processes import Process, alive

if TYPE_CHECKING:
    import subprocess

pytestmark = pytest.mark.slow

WITHIN = 150.0
"""Seconds: the bar is 45 on a machine of its own, and tests run beside each other."""


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


def scrape(address: str) -> str:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError):
        return ""


def test_the_demo_shows_what_it_promises(tmp_path: Path) -> None:
    process = start_pgguard("demo", cwd=tmp_path)
    line = first_line(process)
    address = re.search(r"http://127\.0\.0\.1:\d+/metrics", line)
    assert address, line
    assert re.search(r"listening on 127\.0\.0\.1:\d+", line)
    assert process.stderr is not None
    page, heard = "", []
    for told in process.stderr:
        heard.append(told)
        if "through pgguard" in told:
            page = scrape(address[0]) or page
    assert any(re.search(r"through pgguard: \d+ of 10 files done", told) for told in heard)
    out, _ = process.communicate(timeout=WITHIN)

    assert process.returncode == 0, out
    lines = out.splitlines()
    assert len(lines) <= 24
    assert "FATAL:  sorry, too many clients already" in out
    assert "the limit is 24 (30 less 3 reserved less a margin of 3)" in out
    passed = re.search(
        r"^through pgguard: 10 of 10 files passed.*; (\d+) of 200 connections open at once,$",
        out,
        re.MULTILINE,
    )
    assert passed, out
    assert int(passed[1]) > 30
    for table, file in suite.PLANTED:
        assert re.search(rf"^  PGG101 {table} in {file}\n +[A-Z].* WHERE ", out, re.MULTILINE)
        assert re.search(rf'findings_total{{.*client="{file}".*table="{table}"', page)
    for file in suite.files():
        assert f'pgguard_client_server_connections{{client="{file}"}}' in page
    path = tmp_path / lines[-1].removeprefix("report: ")
    report = json.loads(path.read_text())
    assert {client["client"] for client in report["clients"]} == set(suite.files())
    assert all(client["peak"] <= client["cap"] for client in report["clients"])
    unscoped = {
        (finding["relations"][0]["name"], finding["client"])
        for finding in report["findings"]
        if finding["class"] == "unscoped"
    }
    assert unscoped == set(suite.PLANTED)
    assert {entry.name for entry in path.parent.iterdir()} == {
        *("findings.json", "summary.txt", "seed.log", "direct.log", "guarded.log")
    }


def test_in_session_mode_the_demo_shows_who_keeps_what_others_wait_for(tmp_path: Path) -> None:
    process = start_pgguard("demo", "--mode", "session", cwd=tmp_path)
    out, said = process.communicate(timeout=WITHIN)
    assert process.returncode == 0, out + said
    assert len(out.splitlines()) <= 24
    assert re.search(r"^through pgguard: \d of 10 files passed", out, re.MULTILINE)
    assert out.count("failed: refused") >= 8
    why = r"^--mode session: +\d+ waited for \d+ that were idle in pools, .*:\n +test_\w+\.py \d"
    assert re.search(why, out, re.MULTILINE)
    assert "2 of 2 planted statements found" in out


def test_an_interrupted_demo_ends_with_its_signal_and_leaves_no_process(tmp_path: Path) -> None:
    process = start_pgguard("demo", cwd=tmp_path)
    assert process.stderr is not None
    said = ""
    while "directly: starting" not in said:
        said = process.stderr.readline()
        assert said
    children = [Process.of(pid) for pid in children_of(process.pid)]
    assert children
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=WITHIN)
    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in said
    interrupted = "the demo was interrupted (SIGINT): there is nothing to compare"
    assert said.endswith(f"pgguard: {interrupted}\n")
    assert not any(map(alive, children))


def children_of(pid: int) -> list[int]:
    """Children of a process, by the parent that every process's status names."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        if re.search(rf"^PPid:\t{pid}$", text, re.MULTILINE):
            found.append(int(status.parent.name))
    return found
