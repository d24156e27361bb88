"""The worker process that reads texts too large to be read beside the proxy's own work.

Laws: one process, started at the first text and again after it was killed; one text at a time,
each with `SECONDS` of its own, then the process is killed and the text has no facts; only facts
come back. The worker imports nothing of the proxy, ignores Ctrl-C, and ends when our end of its
pipe closes, so it cannot outlive us.

    us ──► length (4 bytes), text              length (4 bytes), pickled Facts ──► us
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import signal
import struct
import sys
from typing import TYPE_CHECKING, Final

from pgguard.sql.facts.reading import read
from pgguard.sql.parse import LIMIT

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from pgguard.sql.statement import Facts

SECONDS: Final = 10.0
"""How long one text may take, the start of the worker included."""

_MEMORY: Final = 3 * 1024 * 1024 * 1024
"""Bytes of address space of the worker: what needs more is not read."""

_LENGTH: Final = struct.Struct(">I")


class Analyst:
    """Facts of large texts, one after the other."""

    __slots__ = ("_lock", "_process", "limit", "seconds")

    def __init__(self, *, limit: int = LIMIT, seconds: float = SECONDS) -> None:
        self.limit, self.seconds = limit, seconds
        self._process: Process | None = None
        self._lock = asyncio.Lock()

    async def facts(self, text: bytes) -> Facts | None:
        """Facts of a text; None if it took too long or the worker died of it."""
        async with self._lock:
            try:
                async with asyncio.timeout(self.seconds):
                    return await self._ask(text)
            except (TimeoutError, OSError, EOFError, pickle.UnpicklingError):
                await self._kill()
                return None
            except asyncio.CancelledError:
                # Its answer would be taken for that of the next text.
                await self._kill()
                raise

    async def close(self) -> None:
        """End the worker; the next text would start another."""
        async with self._lock:
            await self._kill()

    @property
    def pid(self) -> int | None:
        """The worker's process id while there is one."""
        return self._process.pid if self._process is not None else None

    async def _ask(self, text: bytes) -> Facts:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # No module of the directory that we happen to stand in.
                "-m",
                __name__,
                str(self.limit),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        writer, reader = process.stdin, process.stdout
        if writer is None or reader is None:
            raise EOFError
        writer.write(_LENGTH.pack(len(text)))
        writer.write(text)
        await writer.drain()
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        answer: Facts = pickle.loads(await reader.readexactly(length))  # noqa: S301 - our child
        return answer

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def serve(limit: int) -> None:
    """The worker: answer texts from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _bound_memory()
    texts, answers = sys.stdin.buffer, sys.stdout.buffer
    while len(head := texts.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(head)
        answer = pickle.dumps(read(texts.read(length), limit))
        answers.write(_LENGTH.pack(len(answer)))
        answers.write(answer)
        answers.flush()


def _bound_memory() -> None:
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (bound, hard))


if __name__ == "__main__":
    serve(int(sys.argv[1]))
