"""A command's exit code, streams and signals are those it has without us."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pgguard.errors import LaunchError
from pgguard.launch import child
from pgguard.launch.child import Supervisor, check_command, run_child, shell
from pgguard.launch.processes import start_time

if TYPE_CHECKING:
    from pathlib import Path

WRAPPER = """
import asyncio, os, sys
from pgguard.launch.child import Interrupted, Supervisor
async def main():
    try:
        async with Supervisor() as supervisor:
            if len(sys.argv) == 1:
                print("idle", flush=True)
                await asyncio.Event().wait()
            return await supervisor.run(sys.argv[1:], os.environ)
    except Interrupted as error:
        return error.exit_code
sys.exit(asyncio.run(main()))
"""

COUNTER = """
import os, signal, sys, time
seen = []
# One signal may come while another is told: what is buffered must not be written to then.
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, lambda n, frame: (os.write(1, b"%d\\n" % n), seen.append(n)))
os.write(1, b"ready\\n")
while len(seen) < int(sys.argv[1]):
    time.sleep(0.02)
sys.exit(40 + len(seen))
"""


def wrapped(*argv: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRAPPER, *argv], stdout=subprocess.PIPE, text=True, **options
    )


@pytest.mark.parametrize("code", [0, 1, 70, 255])
async def test_the_exit_code_is_the_commands(code: int) -> None:
    assert await run_child([sys.executable, "-c", f"raise SystemExit({code})"], os.environ) == code


async def test_a_command_ended_by_a_signal_gives_128_and_its_number() -> None:
    assert await run_child(shell("kill -TERM $$"), os.environ) == 128 + signal.SIGTERM
    assert await run_child(shell("kill -KILL $$"), os.environ) == 128 + signal.SIGKILL


async def test_a_command_that_is_not_there_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="no-such-command: command not found"):
        check_command(["no-such-command"], os.environ)
    file = tmp_path / "broken"
    file.write_text("no program")
    with pytest.raises(LaunchError, match="command not found"):
        await run_child([str(file)], os.environ)
    file.chmod(0o755)
    with pytest.raises(LaunchError, match="broken: Exec format error"):
        await run_child([str(file)], os.environ)


def test_streams_and_arguments_reach_the_command_untouched() -> None:
    script = "import sys; print(sys.argv[1:], sys.stdin.read())"
    done = subprocess.run(
        [sys.executable, "-c", WRAPPER, sys.executable, "-c", script, "--max", "$HOME", ""],
        input="from stdin",
        capture_output=True,
        text=True,
    )
    assert done.stdout == "['--max', '$HOME', ''] from stdin\n"
    assert done.stderr == ""


async def test_what_runs_beside_the_command_does_not_write_to_its_stdout(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with Supervisor() as supervisor:
        code = await supervisor.run(
            shell('echo "$WORD"; cat'), {"WORD": "hi"}, output=sys.__stderr__
        )
    assert code == 0
    assert capfd.readouterr() == ("", "hi\n")


def test_every_signal_is_passed_on_the_second_one_too() -> None:
    process = wrapped(sys.executable, "-c", COUNTER, "4")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process.send_signal(number)
        assert process.stdout.readline() == f"{int(number)}\n"
    process.communicate()
    assert process.returncode == 44


def test_a_ctrl_c_at_the_terminal_reaches_the_command_once() -> None:
    master, slave = pty.openpty()
    process = wrapped(
        *(sys.executable, "-c", COUNTER, "2"),
        stdin=slave,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
    )
    os.close(slave)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.write(master, b"\x03")
    assert process.stdout.readline() == f"{int(signal.SIGINT)}\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == f"{int(signal.SIGTERM)}\n"
    process.communicate()
    os.close(master)
    assert process.returncode == 42


class Recorder:
    """Stands in for a process: remembers the signals that it was sent."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def send_signal(self, number: int) -> None:
        self.sent.append(number)


@pytest.mark.parametrize(
    ("foreground", "sent"),
    [(True, [signal.SIGTERM, signal.SIGHUP]), (False, list(child.PASSED_ON[:4]))],
)
def test_only_keys_of_a_terminal_that_reaches_the_command_itself_are_not_passed_on(
    foreground: bool, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_in_foreground", lambda: foreground)
    supervisor = Supervisor()
    supervisor._process = process = Recorder()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        supervisor._on_signal(number)
    assert process.sent == sent
    assert supervisor.passed_on == signal.SIGQUIT


def test_a_process_knows_whether_the_keys_of_a_terminal_reach_its_group() -> None:
    ask = "from pgguard.launch.child import _in_foreground; print(_in_foreground())"
    command = [sys.executable, "-c", ask]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert done.stdout == "False\n"
    master, slave = pty.openpty()
    done = subprocess.run(
        command,
        stdin=slave,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
    )
    os.close(slave)
    os.close(master)
    assert done.stdout == "True\n"


@pytest.mark.parametrize("number", child.ENDING)
def test_a_signal_while_no_command_runs_ends_us_with_its_number(number: signal.Signals) -> None:
    process = wrapped()
    assert process.stdout is not None
    assert process.stdout.readline() == "idle\n"
    process.send_signal(number)
    process.communicate()
    assert process.returncode == 128 + number


CLEANS_UP = """
import asyncio, sys
from pgguard.launch.child import Interrupted, Supervisor
async def main():
    try:
        async with Supervisor() as supervisor:
            try:
                print("idle", flush=True)
                await asyncio.Event().wait()
            finally:
                try:
                    print("grace", flush=True)
                    await asyncio.Event().wait()
                finally:
                    print("cleaned up", flush=True)
    except Interrupted as error:
        return error.exit_code
sys.exit(asyncio.run(main()))
"""


def test_a_second_signal_cuts_short_what_is_waited_for_and_not_the_clean_up() -> None:
    command = [sys.executable, "-c", CLEANS_UP]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line, number in (("idle\n", signal.SIGINT), ("grace\n", signal.SIGTERM)):
        assert process.stdout.readline() == line
        process.send_signal(number)
    out, _ = process.communicate()
    assert (process.returncode, out) == (128 + signal.SIGTERM, "cleaned up\n")


async def test_a_command_is_not_left_behind_when_we_are_cancelled(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    command = shell(f"echo $$ > {file}; exec sleep 60")
    async with Supervisor() as supervisor:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await supervisor.run(command, os.environ)
    assert start_time(int(file.read_text())) == ""
