"""What startup packets say, remembered: a program says the same at each of its connections.

Laws: a packet passes for another one only if it is the same byte for byte; what one has said is
shared by all sessions that say it, and nobody changes it; bounded in number and in bytes.
"""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING

from pgguard.core.cancel import SECRET_3_0, SECRET_3_2
from pgguard.pool.identity import absorb, strip_user_suffix
from pgguard.wire import startup
from pgguard.wire.codes import PROTOCOL_3_2

if TYPE_CHECKING:
    from pgguard.pool.identity import ClientKey, ProcessInfo

    Basis = tuple[tuple[str, ...], str, ProcessInfo | None]
    """The rules of `clients.identify`, address and process."""

MOST = 256
"""Packets."""
LONGEST = 1024
"""Bytes of one that is remembered."""


class Introduction:
    """One packet."""

    __slots__ = (
        "absorbed",
        "application_name",
        "database",
        "known_as",
        "negotiation",
        "original",
        "parameters",
        "secret_length",
        "user",
    )

    def __init__(self, message: startup.StartupMessage, separator: str) -> None:
        self.negotiation = startup.negotiation(message)
        """What must be answered at once; usually nothing."""
        self.secret_length = SECRET_3_2 if message.spoken >= PROTOCOL_3_2 else SECRET_3_0
        known = {k: v for k, v in message.parameters.items() if not k.startswith("_pq_.")}
        self.original = known
        """What the client sent, protocol options left out."""
        self.user = intern(startup.truncated(strip_user_suffix(known["user"], separator)))
        """The role that logs in: `app%worker3` is `app`."""
        database = intern(startup.truncated(known.get("database") or self.user))
        # pg_hba.conf has lines of its own for those, and no tenant has data there.
        self.database = "" if startup.without_database(known) else database
        self.application_name = intern(known.get("application_name", ""))
        forwarded, self.absorbed = absorb(known)
        self.parameters = {**forwarded, "user": self.user, "database": database}
        """What is forwarded to the server."""
        self.known_as: tuple[Basis | None, ClientKey | None] = None, None
        """The client of the last session that said it, and what that followed from, too."""


class Introductions:
    """Those of the sessions that came lately."""

    __slots__ = ("_known", "_separator")

    def __init__(self) -> None:
        self._known: dict[bytes, Introduction] = {}
        self._separator = ""

    def of(self, packet: bytes, separator: str) -> Introduction:
        """What a whole packet says; `separator` stands before a suffix of the user.

        Raises ProtocolViolation and LoginRefused.
        """
        if separator != self._separator:
            self._known.clear()
            self._separator = separator
        said = self._known.get(packet)
        if said is None:
            message = startup.decode_packet(packet)
            if not isinstance(message, startup.StartupMessage):
                # A second SSLRequest: Postgres takes its number for a version.
                raise startup.unsupported_protocol(int.from_bytes(packet[4:8], "big"))
            said = Introduction(message, separator)
            if len(packet) <= LONGEST:
                if len(self._known) >= MOST:
                    self._known.clear()
                self._known[packet] = said
        return said
