"""CMD as our child: its streams, its signals, its exit code.

`Supervisor` takes the signals of this process while it is entered. While a command runs they are
CMD's: every one is passed on, the second as the first, and what happens is CMD's decision. While
none runs (start, setup, clean-up) the first one ends us in an orderly way (`Interrupted`); a
further one cuts short what is waited for then, and never what has to be cleaned up.

Laws: no shell around CMD, same process group, streams as they are; a Ctrl-C at the terminal has
reached CMD already, with the whole foreground group, and is not passed on a second time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from typing import IO, TYPE_CHECKING, Any, Self

from pgguard.errors import LaunchError, PgGuardError

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Mapping, Sequence
    from types import TracebackType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
PASSED_ON = (*ENDING, signal.SIGUSR1, signal.SIGUSR2)
_BY_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)


class Interrupted(PgGuardError):
    """A signal ended us while no command ran. `exit_code` is 128 + n."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(f"ended by {signal.Signals(number).name}")


class Supervisor:
    """Runs commands, one at a time, from the task that entered it."""

    __slots__ = ("_loop", "_process", "_received", "_task", "passed_on")

    def __init__(self) -> None:
        self._process: Process | None = None
        self._received = 0
        self.passed_on = 0
        """The last ending signal that came while a command ran."""

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        for number in PASSED_ON:
            self._loop.add_signal_handler(number, self._on_signal, number)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number in PASSED_ON:
            self._loop.remove_signal_handler(number)
        if self._received and isinstance(error, asyncio.CancelledError):
            while self._task is not None and self._task.uncancel():
                pass
            raise Interrupted(self._received) from None

    async def run(
        self, argv: Sequence[str], env: Mapping[str, str], *, output: IO[Any] | None = None
    ) -> int:
        """Run a command; its exit code, or 128 + n when signal n ended it.

        `output` is for what runs beside CMD: all that it prints goes there, and it has no stdin.
        Raises LaunchError when it cannot be started.
        """
        check_command(argv, env)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *argv,
                env=dict(env),
                stdin=None if output is None else asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=None if output is None else asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            raise LaunchError(f"{argv[0]}: {error.strerror or error}") from error
        try:
            code = await self._process.wait()
        except asyncio.CancelledError:
            await self._end(self._process)
            raise
        finally:
            self._process = None
        return code if code >= 0 else 128 - code

    async def _end(self, process: Process) -> None:
        """We stop waiting for another reason than a signal: do not leave CMD behind."""
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()

    def _on_signal(self, number: int) -> None:
        if self._process is not None:
            self.passed_on = number if number in ENDING else self.passed_on
            if not (number in _BY_KEYBOARD and _in_foreground()):
                with contextlib.suppress(ProcessLookupError):
                    self._process.send_signal(number)
        elif number in ENDING:
            self._received = number
            if self._task is not None:
                self._task.cancel()


async def run_child(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Run one command with a `Supervisor` of its own."""
    async with Supervisor() as supervisor:
        return await supervisor.run(argv, env)


def check_command(argv: Sequence[str], env: Mapping[str, str]) -> None:
    """LaunchError when there is no such program: said before anything else is started."""
    if shutil.which(argv[0], path=env.get("PATH", os.defpath)) is None:
        raise LaunchError(f"{argv[0]}: command not found")


def shell(text: str) -> list[str]:
    """A command line for the user's own shell syntax: `--setup 'psql "$DATABASE_URL" -f x.sql'`."""
    return ["/bin/sh", "-c", text]


def _in_foreground() -> bool:
    """Whether keys pressed at our terminal reach CMD by themselves."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
