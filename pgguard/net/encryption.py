"""TLS between a transport and a protocol that both know nothing of it.

Laws: records of at most 8 KiB, because libpq's asynchronous interface waits for ever for the rest
of a larger one; all plain text of a chunk goes on as one chunk; TLS knows a half-close, as Postgres
does: close_notify ends one direction only. A connection in plain text never comes through here.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any, cast

from pgguard.net.unread import unread

RECORD = 8192
CHUNK = 65536


class Tls:
    """One side of a TLS connection in memory; a side with a `host` is the client."""

    __slots__ = ("_finished", "incoming", "object", "outgoing")

    def __init__(self, context: ssl.SSLContext, host: str | None) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(
            self.incoming, self.outgoing, server_side=host is None, server_hostname=host
        )
        self._finished = False

    def write(self, data: bytes) -> None:
        """Encrypt into `outgoing`; after `finish` and `fail` nothing is said any more."""
        if self._finished:
            return
        if len(data) <= RECORD:
            if data:
                self.object.write(data)
            return
        view = memoryview(data)
        for start in range(0, len(data), RECORD):
            self.object.write(cast("bytes", view[start : start + RECORD]))

    def finish(self) -> None:
        """Put close_notify into `outgoing`, once; what the other side sends can still be read."""
        if not self._finished:
            self._finished = True
            with suppress(OSError, ValueError):
                # It waits for the answer, which says nothing that we do not know.
                self.object.unwrap()

    def fail(self) -> None:
        """OpenSSL has given the connection up, and would raise at every word."""
        self._finished = True


class Encrypted(asyncio.Protocol):
    """A protocol to the transport below, and a transport to the protocol above."""

    __slots__ = ("_ended", "_error", "_inner", "_raw", "_tls")

    def __init__(self, tls: Tls, inner: asyncio.Protocol) -> None:
        self._tls = tls
        self._inner = inner
        self._ended = False
        self._error: BaseException | None = None
        self._raw: asyncio.Transport

    # What the transport below calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast("asyncio.Transport", transport)
        self._inner.connection_made(cast("asyncio.BaseTransport", self))
        try:
            # What came with the last bytes of the dialogue.
            self._pump()
        except Exception as error:  # noqa: BLE001  here the loops would leave it open
            self._fail(error)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            # OpenSSL reads nothing behind close_notify: it would only be piled up.
            return
        self._tls.incoming.write(data)
        self._pump()

    def eof_received(self) -> bool:
        # Many drivers close without close_notify. What is cut off is no whole message then.
        self._end()
        return True

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        inner, self._inner = self._inner, asyncio.Protocol()
        inner.connection_lost(cast("Exception | None", self._error or exc))

    # What the protocol above calls

    def write(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def write_eof(self) -> None:
        self._tls.finish()
        self._flush()
        self._raw.write_eof()

    def close(self) -> None:
        self._tls.finish()
        self._flush()
        self._raw.close()

    def abort(self) -> None:
        self._raw.abort()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._inner = cast("asyncio.Protocol", protocol)

    def is_closing(self) -> bool:
        return self._raw.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._raw.get_extra_info(name, default)

    def unread(self) -> bytes:
        """The same as `unread` of the transport below, decrypted."""
        self._tls.incoming.write(unread(self._raw))
        pieces: list[bytes] = []
        with suppress(ssl.SSLError):
            while piece := self._tls.object.read(CHUNK):
                pieces.append(piece)
        return b"".join(pieces)

    # Between the two

    def _pump(self) -> None:
        pieces: list[bytes] = []
        error: ssl.SSLError | None = None
        ended = True
        try:
            while piece := self._tls.object.read(CHUNK):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            ended = False
        except ssl.SSLZeroReturnError:
            pass
        except ssl.SSLError as failure:
            error = failure
            # Until the loss is reported the other leg may still have something to say.
            self._tls.fail()
        self._flush()
        if pieces:
            self._inner.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if error is not None:
            self._fail(error)
        elif ended:
            self._end()

    def _flush(self) -> None:
        data = self._tls.outgoing.read()
        if data and not self._raw.is_closing():
            self._raw.write(data)

    def _end(self) -> None:
        """The other side sends no more, whether it said so or not."""
        if not self._ended:
            self._ended = True
            if not self._inner.eof_received():
                self.close()

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._raw.abort()
