"""No plugin of pydantic comes into the process, and the environment is as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pgguard.settings.plugins import SWITCH, no_plugins

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("before", [None, "some"])
def test_the_environment_is_as_it_was(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if before is None:
        monkeypatch.delenv(SWITCH, raising=False)
    else:
        monkeypatch.setenv(SWITCH, before)
    with no_plugins():
        assert os.environ[SWITCH] == "__all__"
    assert os.environ.get(SWITCH) == before


def test_a_plugin_that_is_installed_is_not_run(tmp_path: Path) -> None:
    """Without the switch pydantic imports it."""
    metadata = tmp_path / "intruder-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: intruder\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[pydantic]\nintruder = intruder:plugin\n")
    (tmp_path / "intruder.py").write_text("raise SystemExit('an intruder')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    environment.pop(SWITCH, None)

    def said(program: str) -> str:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.stdout + done.stderr

    shown = f"import os, pgguard.settings.schema; print(os.environ.get({SWITCH!r}))"
    assert said(shown) == "None\n"
    model = "import pydantic\nclass Model(pydantic.BaseModel): pass"
    assert "an intruder" in said(model)
