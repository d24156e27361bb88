"""What commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from pgguard.cli.options import config_option, load_settings, verbosity_options

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("quiet", "verbose", "level"),
    [(False, False, "info"), (True, False, "error"), (False, True, "debug")],
)
def test_quiet_and_verbose_set_the_level_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: bool, verbose: bool, level: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {}, quiet=quiet, verbose=verbose).settings.log.level == level


def test_the_options_arrive_as_arguments() -> None:
    @click.command()
    @config_option
    @verbosity_options
    def command(config: Path | None, quiet: bool, verbose: bool) -> str:
        return f"{config} {quiet} {verbose}"

    assert command.main(["--config", "x", "-q"], standalone_mode=False) == "x True False"
    assert command.main(["-v"], standalone_mode=False) == "None False True"
