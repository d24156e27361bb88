"""What a server needs to be a session's, and what a session has left behind on it.

Laws: a server that changes client is reset first (T25); one that changes session is given that
session's settings and loses the other's (T20); what a session cannot be known to have left undone
is looked for before the server goes to anybody else (T23).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.core import upkeep
from pgguard.core.pins import Reason

if TYPE_CHECKING:
    from pgguard.core.shared_server import SharedServer
    from pgguard.core.shared_session import SharedSession

CHECKED = frozenset(
    {
        Reason.FUNCTION,
        Reason.UNCLEAR,
        Reason.LOCK,
        Reason.TEMPORARY,
        Reason.HOLD,
        Reason.PREPARE,
        Reason.LISTEN,
    }
)
"""Reasons that a check may find to be none."""

APPLICATION_NAME = "application_name"
OURS = frozenset({APPLICATION_NAME, "client_encoding"})
"""Settings that a session has without having made them."""


def take_over(session: SharedSession, server: SharedServer) -> bool:
    """Give the server what the session has made, and take away what it has not.

    Returns whether Postgres has to be asked for that.
    """
    before = server.last_session
    reset = before is not None and before.client is not session.client
    if reset:
        server.write(server.run(upkeep.query([upkeep.RESET])))
        server.settings, server.application_name = {}, server.begun_as
        server.sequences_of = None
    texts: list[bytes] = []
    if server.sequences_of not in (None, session):
        texts.append(upkeep.SEQUENCES)
        server.sequences_of = None
    marks = session.dotted - server.dotted - set(session.tracked.settings)
    texts += [upkeep.mark(name) for name in sorted(marks)]
    server.dotted |= session.dotted
    resets, made = session.tracked.differences(server.settings)
    texts += [upkeep.reset(name) for name in resets] + made
    named = server.begun_as if APPLICATION_NAME in server.settings else server.application_name
    if APPLICATION_NAME not in session.tracked.settings and named != session.named:
        texts.append(upkeep.name_application(session.named))
    server.application_name = session.named
    server.settings = dict(session.tracked.settings)
    server.last_session = session
    server.client = session.client
    texts += [upkeep.deallocate(name) for name in server.stand.surplus()]
    if texts:
        server.write(server.run(upkeep.query(texts)))
    return reset or bool(texts)


def name(session: SharedSession, server: SharedServer) -> None:
    """After a reset: the application_name that the session began with (T8)."""
    if server.status == "I" and not session.unsynced:
        server.application_name = session.application_name = session.named
        server.write(server.run(upkeep.query([upkeep.name_application(session.named)])))


def check(session: SharedSession, server: SharedServer) -> None:
    """Ask Postgres what statements that may have done anything have left behind."""
    session.unverified, server.checking = False, True
    server.row = []
    server.write(server.run(upkeep.query([upkeep.CHECK])))


def checked(session: SharedSession, server: SharedServer, now: float) -> None:
    """The answer: what is there pins, what is not there does not."""
    server.checking = False
    if server.ours_failed or len(server.row) != len(upkeep.COLUMNS):
        server.doubt = "a check had no answer"
        return
    found: set[Reason] = set()
    for reason, value in zip(upkeep.COLUMNS, server.row, strict=True):
        there = value not in (None, b"", b"0", b"none")
        if reason is Reason.SETTING and value:
            names = set(value.decode("utf-8", "replace").split())
            there = bool(names - set(session.tracked.settings) - OURS)
        if there:
            found.add(reason)
    for reason in found:
        session.pin(reason, "found by a check")
    if session.unverified:
        # What was sent behind the check may have done what the check has not found.
        return
    for reason in CHECKED - found:
        session.pins.verified(reason)
