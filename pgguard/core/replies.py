"""Replies of a server, one by one, held against what it owes: the way of those that we asked for.

The hot loop of `core/server` passes chunks on as they are. Here each reply is the answer to the
entry at the head of the pipeline, so that ours are left out, names that were changed on the way out
are changed back, and what stands on the server is known. Laws: an answer of ours never reaches a
session, and nothing of a session's is ever left out; ParameterStatus and NotificationResponse go
where they belong whoever caused them; what does not fit closes the server.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from pgguard.core import guarding, sequences
from pgguard.core.pipeline import (
    BATCH,
    BIND,
    CLOSE,
    CLOSE_NAMED,
    CLOSE_OURS,
    DESCRIBE,
    DESCRIBE_OURS,
    EXECUTE,
    PARSE,
    PARSE_NAMED,
    PARSE_OURS,
    QUERY,
    QUERY_OURS,
    READY,
    SYNC,
    SYNC_OURS,
)
from pgguard.wire import backend, codes
from pgguard.wire.codes import BACKEND_LIMIT
from pgguard.wire.scan import message

if TYPE_CHECKING:
    from pgguard.core.shared_server import SharedServer

_header = Struct(">BI").unpack_from

OURS = frozenset({PARSE_OURS, DESCRIBE_OURS, CLOSE_OURS, QUERY_OURS, SYNC_OURS})

CHANGING = frozenset({PARSE_NAMED, PARSE_OURS, CLOSE_NAMED, CLOSE_OURS, QUERY, BATCH, QUERY_OURS})
"""Entries whose answer changes what stands on the server."""

DESCRIBING = frozenset({DESCRIBE, DESCRIBE_OURS})

_ENDS: dict[int, frozenset[int]] = {
    codes.PARSE_COMPLETE: frozenset({PARSE, PARSE_NAMED, PARSE_OURS}),
    codes.BIND_COMPLETE: frozenset({BIND}),
    codes.CLOSE_COMPLETE: frozenset({CLOSE, CLOSE_NAMED, CLOSE_OURS}),
    codes.ROW_DESCRIPTION: frozenset({DESCRIBE, DESCRIBE_OURS}),
    codes.NO_DATA: frozenset({DESCRIBE, DESCRIBE_OURS}),
    codes.COMMAND_COMPLETE: frozenset({EXECUTE}),
    codes.EMPTY_QUERY_RESPONSE: frozenset({EXECUTE}),
    codes.PORTAL_SUSPENDED: frozenset({EXECUTE}),
}
"""What answers which entries to their end; of others below READY it is no answer."""

_STREAMED = frozenset({codes.DATA_ROW, codes.COPY_DATA, codes.FUNCTION_CALL_RESPONSE})
"""Passed on as they come: they may be large, and nothing is read of them."""

_CLEARING = frozenset({b"DISCARD ALL\0", b"DEALLOCATE ALL\0"})
"""Tags of what takes all prepared statements away."""
_UNASKED = frozenset({codes.PARAMETER_STATUS, codes.NOTICE_RESPONSE, codes.NOTIFICATION_RESPONSE})

LONGEST = 1 << 20
"""Bytes of any other message that are waited for."""


class Walker:
    """The walk over one server's replies."""

    __slots__ = ("_dropping", "_heard", "_missing", "_rest", "_server")

    def __init__(self, server: SharedServer) -> None:
        self._server = server
        self._rest = b""
        self._missing = 0
        """Bytes of a streamed message that have not come yet."""
        self._dropping = False
        self._heard = False
        """Something was answered since ReadyForQuery."""

    @property
    def between_messages(self) -> bool:
        return not self._missing and not self._rest

    def take_over(self, rest: bytes, missing: int) -> None:
        """What has come of a message before the walk began, or how much of it is still to come."""
        self._rest, self._missing, self._dropping = rest, missing, False

    def feed(self, data: bytes) -> bytes:
        """A chunk. Returns what the session gets.

        Raises ProtocolViolation where a reply is no answer to what was asked.
        """
        out: list[bytes] = []
        pos = 0
        if self._missing:
            pos = min(self._missing, len(data))
            self._missing -= pos
            if not self._dropping:
                out.append(data[:pos])
        chunk = self._rest + data[pos:]
        self._rest = b""
        pos = 0
        while len(chunk) - pos >= 5:
            kind, length = _header(chunk, pos)
            if not 4 <= length <= BACKEND_LIMIT[kind]:
                raise self._server.unexpected(kind)
            after = pos + 1 + length
            self._dropping = self._is_ours(kind)
            if after > len(chunk) and (self._dropping or kind not in _STREAMED):
                if length > LONGEST:
                    self._server.doubt = "a message too long to be read"
                else:
                    break
            body = chunk[pos + 5 : after]
            if kind == codes.ERROR_RESPONSE:
                self._heard = True
                out.append(self._error(body))
            else:
                if kind == codes.NOTIFICATION_RESPONSE:
                    out.append(self._server.notification(body))
                elif not self._dropping and kind != codes.PARAMETER_STATUS:
                    out.append(chunk[pos:after])
                out.append(self._answer(kind, body))
            if self._server.fatal:
                # The last word, whatever comes behind it (R24).
                return b"".join(out)
            if after > len(chunk):
                self._missing = after - len(chunk)
                return b"".join(out)
            pos = after
        self._rest = chunk[pos:]
        return b"".join(out)

    def _is_ours(self, kind: int) -> bool:
        """Whether the session gets nothing of this message."""
        if kind == codes.READY_FOR_QUERY:
            if self._is_loose():
                return False
            if self._server.batch_failed:
                # What came behind the error and before Sync was passed over.
                self._drop()
        entries = self._server.pipeline.entries
        if kind == codes.PARAMETER_STATUS:
            return bool(entries) and entries[0] == QUERY_OURS
        if kind == codes.NOTIFICATION_RESPONSE:
            return False
        return bool(entries) and entries[0] in OURS

    def _is_loose(self) -> bool:
        """Whether a ReadyForQuery that has come answers a Sync within a copy that has failed."""
        server = self._server
        if not server.loose:
            return False
        entries = server.pipeline.entries
        return not entries or (entries[0] not in (SYNC, SYNC_OURS) and not self._heard)

    def _answer(self, kind: int, body: bytes) -> bytes:
        """Learn from a message; returns what the session is told behind it, or for it."""
        server = self._server
        entries = server.pipeline.entries
        if kind == codes.READY_FOR_QUERY and len(body) == 1 and self._is_loose():
            server.loose_ready(chr(body[0]))
            self._heard = False
            return b""
        if kind not in _UNASKED:
            self._heard = kind != codes.READY_FOR_QUERY
        if kind == codes.PARAMETER_STATUS:
            name, value = backend.decode_parameter_status(body)
            return server.told(name, value, ours=self._dropping)
        elif kind == codes.READY_FOR_QUERY:
            if len(body) != 1 or not entries or entries[0] < READY:
                raise server.unexpected(kind)
            return server.walked_to_ready(chr(body[0]))
        elif kind == codes.PARAMETER_DESCRIPTION:
            server.types_told(body)
        elif kind == codes.COPY_IN_RESPONSE:
            server.copy_in_begins()
        elif entries and entries[0] < READY and kind in _ENDS:
            if entries[0] not in _ENDS[kind]:
                raise server.unexpected(kind)
            if kind in (codes.ROW_DESCRIPTION, codes.NO_DATA):
                server.rows_told(body)
            self._end(entries[0])
            if kind == codes.COMMAND_COMPLETE:
                self._completed(body)
        elif kind == codes.COMMAND_COMPLETE:
            self._completed(body)
        elif kind == codes.DATA_ROW and self._dropping:
            server.row_of_ours(body)
        return b""

    def _completed(self, tag: bytes) -> None:
        server = self._server
        server.completed(tag)
        if tag in _CLEARING and not self._dropping:
            # At once, whatever becomes of its batch or transaction; what was made behind it stays.
            server.names.forget()
            server.stand.cleared()

    def _end(self, entry: int) -> None:
        server = self._server
        if entry in CHANGING:
            server.stand.answered(server.names)
        elif entry in DESCRIBING:
            server.stand.targets.popleft()
        server.pipeline.pop()

    def _error(self, body: bytes) -> bytes:
        """An ErrorResponse: what the session gets of it. Everything up to Sync is over."""
        server = self._server
        entries = server.pipeline.entries
        if server.session is not None:
            body = sequences.told(server.session, guarding.told(server.session, body))
        server.failed_with(body)
        told = server.names.as_told(body)
        if server.refusing:
            told, server.refusing = server.refusing, b""
        if entries and entries[0] == QUERY_OURS:
            # Its ReadyForQuery comes, and then nobody trusts this server any more.
            server.doubt = server.doubt or "a text of ours failed"
            return message(codes.ERROR_RESPONSE, told) if server.fatal else b""
        if entries and entries[0] in (PARSE_NAMED, PARSE_OURS):
            server.stand.parse_failed(server.names)
        self._drop()
        if entries and entries[0] == SYNC_OURS and not server.fatal:
            # Whoever needs what we could not make there is told when he does.
            return b""
        return message(codes.ERROR_RESPONSE, told)

    def _drop(self) -> None:
        """Entries that will not be answered: those of a batch that has failed."""
        server = self._server
        entries = server.pipeline.entries
        while entries and entries[0] < READY:
            if entries[0] in CHANGING:
                server.stand.dropped()
            elif entries[0] in DESCRIBING:
                server.stand.targets.popleft()
            server.pipeline.pop()
