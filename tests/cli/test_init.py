"""The frame: lazy commands, one line for an error, exit statuses."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from pgguard import cli
from pgguard.errors import InternalError, LaunchError, ServerUnavailable, SettingsError


def test_the_short_help_of_a_command_is_its_own() -> None:
    context = click.Context(cli.group)
    for name, short in cli.COMMANDS.items():
        command = cli.group.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert (command.help or "").splitlines()[0] == short


def test_every_command_takes_a_settings_file() -> None:
    context = click.Context(cli.group)
    for name in cli.COMMANDS:
        command = cli.group.get_command(context, name)
        leaves = command.commands.values() if isinstance(command, click.Group) else [command]
        for leaf in leaves:
            assert leaf is not None
            assert any("--config" in option.opts for option in leaf.params), leaf.name


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, short in cli.COMMANDS.items():
        assert f" {name} {short}" in text


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command([]) == 2
    assert "Usage: pgguard" in capsys.readouterr().err


def test_a_command_that_is_nearly_right_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["srve"]) == 2
    assert "No such command 'srve'. Did you mean 'serve'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["report", "verify", "top", "init", "clean"])
def test_a_command_of_a_later_version_says_so(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run_command([name, "--format", "x"]) == 2
    assert capsys.readouterr().err == f"pgguard: `pgguard {name}` is not in this version\n"


def test_an_option_of_a_later_version_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["run", "--no-inject", "--", "true"]) == 2
    assert capsys.readouterr().err == "pgguard: --no-inject is not in this version\n"
    assert cli.run_command(["run", "--odd", "--", "true"]) == 2
    assert "No such option" in capsys.readouterr().err


def test_no_short_help_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["config", "--help"]):
        assert cli.run_command(arguments) == 0
        assert "..." not in capsys.readouterr().out.partition("Commands:")[2]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SettingsError("bad", where="pgguard.toml:3", hint="better"), 2),
        (LaunchError("no\nPostgres"), 2),
        (ServerUnavailable("refused"), 3),
        (InternalError("broken"), 1),
    ],
)
def test_an_error_is_one_line_and_a_status(
    error: Exception,
    status: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(config: object, code: object) -> None:
        raise error

    monkeypatch.setattr(_explain(), "callback", fail)
    assert cli.run_command(["explain"]) == status
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err == f"pgguard: {' '.join(str(error).split())}\n"


def test_the_status_of_a_command_is_that_of_the_process_and_nothing_is_lost_at_its_end() -> None:
    program = """
import atexit, sys
from pgguard import cli
command = cli.group.get_command(None, "explain")
command.callback = lambda config, code: sys.stdout.write("said, ") and 70
atexit.register(sys.stdout.write, "and done")
cli.run_cli(["explain"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (70, "said, and done", "")


def test_an_interrupt_ends_with_130_and_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(config: object, code: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_explain(), "callback", interrupt)
    assert cli.run_command(["explain"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pgguard", "config", "schema"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1
    assert b"Traceback" not in errors


def _explain() -> click.Command:
    command = cli.group.get_command(click.Context(cli.group), "explain")
    assert command is not None
    return command
