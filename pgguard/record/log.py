"""Events as lines of the log: the human trace of what happened, at the level it deserves.

Laws: a subscriber, so it runs in batches beside the traffic; an event is one line, whatever text
from clients and from Postgres is in it; no statement and no secret is written here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pgguard import events

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = logging.getLogger("pgguard.events")

_LINES: dict[type[events.Event], tuple[int, Callable[..., str]]] = {
    events.SessionOpened: (
        logging.DEBUG,
        lambda e: f"session {e.session} of {e.client!r} opened: {e.user!r} in {e.database!r}",
    ),
    events.SessionClosed: (
        logging.DEBUG,
        lambda e: f"session {e.session} of {e.client!r} closed: {e.reason}",
    ),
    events.LoginFailed: (
        logging.WARNING,
        lambda e: (
            f"login of {e.user!r} in {e.database!r} from {e.peer} refused: "
            f"{e.sqlstate} {e.message}" + (f" ({e.log})" if e.log else "")
        ),
    ),
    events.TicketQueued: (
        logging.DEBUG,
        lambda e: (
            f"session {e.session} of {e.client!r} waits at {e.position} for its {e.blocked_by}"
        ),
    ),
    events.SessionRefused: (
        logging.WARNING,
        lambda e: f"session {e.session} of {e.client!r} refused: {e.message}",
    ),
    events.SequenceLost: (
        logging.WARNING,
        lambda e: (
            f"session {e.session} of {e.client!r} asked too late for the value of a sequence: "
            f"{e.advanced}; {e.why}"
        ),
    ),
    events.ServerRefused: (
        logging.WARNING,
        lambda e: (
            f"Postgres refused a server connection for {e.client!r}: {e.sqlstate} {e.message}"
        ),
    ),
    events.ServerLingers: (
        logging.WARNING,
        lambda e: (
            f"server {e.server} of {e.client!r} has not closed {e.seconds:.0f} s after its session "
            "ended, and still counts"
        ),
    ),
    events.ServerLost: (
        logging.WARNING,
        lambda e: f"server of session {e.session} of {e.client!r} lost: {e.sqlstate} {e.message}",
    ),
    events.ClientGone: (
        logging.INFO,
        lambda e: (
            f"client gone, statement still running for {e.running_for:.1f} s: "
            f"session {e.session} of {e.client!r}"
        ),
    ),
    events.ProtocolBroken: (
        logging.WARNING,
        lambda e: f"{e.peer} broke the protocol ({e.client!r}): {e.message}",
    ),
    events.UpstreamDown: (logging.WARNING, lambda e: f"Postgres is not reachable: {e.message}"),
    events.UpstreamUp: (logging.INFO, lambda e: f"Postgres {e.version} answers"),
    events.NeighbourSeen: (logging.INFO, lambda e: f"{e.message}, on the same Postgres"),
    events.SettingsReloaded: (
        logging.INFO,
        lambda e: f"settings read again, changed: {', '.join(e.changed) or 'nothing'}",
    ),
}


def one_line(text: str) -> str:
    """The text with everything escaped that does not print: line ends, colours, stray bytes."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


class LogWriter:
    """A subscriber of the event stream."""

    def on_batch(self, batch: Sequence[events.Event]) -> None:
        for event in batch:
            entry = _LINES.get(type(event))
            if entry is not None and log.isEnabledFor(entry[0]):
                kind = {"kind": type(event).__name__}
                log.log(entry[0], "%s", one_line(entry[1](event)), extra=kind)
