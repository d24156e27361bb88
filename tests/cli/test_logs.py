"""pgguard's own log: its form, its level, its place."""

from __future__ import annotations

import asyncio
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


def beside(monkeypatch: pytest.MonkeyPatch, **settings: str) -> io.StringIO:
    """A log beside the output of somebody else's command."""
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    logs.set_up(Log.model_validate(settings), beside=True)
    return stream


def test_beside_a_command_a_record_is_one_of_our_own_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = beside(monkeypatch)
    log.warning("session %d refused", 3)
    assert stream.getvalue() == "pgguard: session 3 refused\n"
    stream = beside(monkeypatch, format="json")
    log.warning("x")
    assert json.loads(stream.getvalue())["message"] == "x"
    stream = beside(monkeypatch, format="text")
    log.warning("x")
    assert stream.getvalue().endswith("Z warning x\n")


async def test_records_that_differ_in_numbers_alone_are_one_line_with_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "FIRST_PAUSE", 0.01)
    stream = beside(monkeypatch)
    for number in range(12):
        log.warning("session %d of %r refused after %.1f s", number, "a.py", number / 7)
    log.warning("another thing")
    assert stream.getvalue() == ""
    while not stream.getvalue():
        await asyncio.sleep(0)
    assert stream.getvalue() == (
        "pgguard: session 0 of 'a.py' refused after 0.0 s (and 11 more)\npgguard: another thing\n"
    )
    log.warning("later")
    logs.flush()
    assert stream.getvalue().endswith("another thing\npgguard: later\n")


async def test_an_exception_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = beside(monkeypatch)
    log.warning("before")
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("internal error")
    assert stream.getvalue().startswith("pgguard: before\npgguard: internal error\nTraceback")


def test_what_is_held_back_is_not_said_later(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = beside(monkeypatch)
    with logs.held_back():
        log.warning("noise")
        log.error("a bug")
    log.warning("after")
    assert stream.getvalue() == "pgguard: a bug\npgguard: after\n"
    with pytest.raises(ValueError, match="the end"), logs.held_back():
        raise ValueError("the end")
    log.warning("an effect of it")
    assert stream.getvalue().endswith("after\n")


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
