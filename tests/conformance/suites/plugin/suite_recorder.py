"""A pytest plugin for a foreign virtual environment: a line of JSON per test, as it happens.

Laws: standard library and pytest only, since it runs beside a driver's own pins and never beside
ours. A test that was begun has a line of its own before it runs, so that one that takes the
process with it is known by name. What the record already tells is not run again. Environment:
SUITE_RECORD is the file, SUITE_ONLY one with the ids to run, SUITE_METRICS the guard's page.
"""

from __future__ import annotations

import json
import os
import re
import urllib.request
from pathlib import Path

import pytest

SHOWN = 400
"""Characters of a failure that are kept."""


class Recorder:
    """Writes what becomes of each test, and how many bytes the guard received meanwhile."""

    def __init__(self, record: Path, only: Path | None, metrics: str) -> None:
        self._record = record
        lines = record.read_text().splitlines() if record.exists() else []
        self._done = {line["test"] for line in map(json.loads, lines) if "outcome" in line}
        self._only = set(only.read_text().splitlines()) if only else None
        self._metrics = metrics
        self._outcome = self._why = ""

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        only = self._only
        keep = [
            item
            for item in items
            if item.nodeid not in self._done and (only is None or item.nodeid in only)
        ]
        config.hook.pytest_deselected(items=[item for item in items if item not in keep])
        items[:] = keep

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> object:
        self._write({"test": item.nodeid})
        self._outcome = self._why = ""
        before = self._received()
        result = yield
        outcome, bytes_ = self._outcome or "passed", self._received() - before
        line = {"test": item.nodeid, "outcome": outcome, "why": self._why, "bytes": bytes_}
        self._write(line)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        whole = type(report).__name__ == "TestReport"
        if report.failed and self._outcome != "failed":
            crash = getattr(report.longrepr, "reprcrash", None)
            self._outcome, self._why = "failed", str(getattr(crash, "message", report.longrepr))
        elif report.skipped and whole and not self._outcome:
            self._outcome = "xfailed" if hasattr(report, "wasxfail") else "skipped"
            self._why = str(report.longrepr)

    def _write(self, line: dict[str, object]) -> None:
        if "why" in line:
            line["why"] = str(line["why"])[:SHOWN]
        with self._record.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _received(self) -> int:
        if not self._metrics:
            return 0
        with urllib.request.urlopen(self._metrics, timeout=10) as page:
            found = re.search(rb"^pgguard_received_bytes_total (\S+)", page.read(), re.MULTILINE)
        return int(float(found[1])) if found else 0


def pytest_configure(config: pytest.Config) -> None:
    only = os.environ.get("SUITE_ONLY")
    record = Path(os.environ["SUITE_RECORD"])
    metrics = os.environ.get("SUITE_METRICS", "")
    config.pluginmanager.register(Recorder(record, Path(only) if only else None, metrics))
