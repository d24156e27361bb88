"""pgguard's own log: its form, its level, its place."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import TYPE_CHECKING

import pytest

from pgguard.cli import logs
from pgguard.errors import SettingsError
from pgguard.settings.schema import Log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger("pgguard.test")


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    logger = logging.getLogger("pgguard")
    before = (logger.level, logger.propagate, list(logger.handlers))
    yield
    for handler in set(logger.handlers) - set(before[2]):
        handler.close()
    logger.level, logger.propagate, logger.handlers = before


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_text_on_a_terminal_and_json_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, json_wanted in ((Terminal(), False), (io.StringIO(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        logs.set_up(Log())
        log.info("%s answers", "Postgres")
        line = stream.getvalue()
        if json_wanted:
            assert json.loads(line) | {"time": ""} == {
                "time": "",
                "level": "info",
                "logger": "pgguard.test",
                "message": "Postgres answers",
            }
        else:
            assert line.endswith("Z info Postgres answers\n")


def test_the_level_of_the_settings_applies_unless_another_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for level, given, lines in (("info", "", 2), ("warning", "", 1), ("info", "error", 0)):
        monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
        logs.set_up(Log.model_validate({"level": level}), level=given)
        log.info("one")
        log.warning("two")
        assert len(stream.getvalue().splitlines()) == lines


def test_a_record_is_one_line_of_json_whatever_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    logs.set_up(Log.model_validate({"format": "json"}))
    try:
        raise ValueError("a\nb")
    except ValueError:
        log.exception("two\nlines \udce9")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["message"] == "two\nlines \udce9"
    assert "ValueError: a\nb" in json.loads(line)["exception"]


def test_the_log_goes_to_the_file_of_the_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "guard.log"
    logs.set_up(Log.model_validate({"file": str(file), "format": "text"}))
    log.warning("written")
    assert file.read_text().endswith("warning written\n")
    assert capsys.readouterr().err == ""


def test_a_file_that_cannot_be_written_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"log\.file: cannot write"):
        logs.set_up(Log.model_validate({"file": str(tmp_path)}))
