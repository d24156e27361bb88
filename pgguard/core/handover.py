"""What a server needs to be a session's, and what a session has left behind on it.

Laws: a server that changes client is reset first (T25); one that changes session is given that
session's settings and loses the other's (T20); what a session cannot be known to have left undone
is looked for before the server goes to anybody else (T23).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pgguard.core import defining, loginevents, sequences, upkeep
from pgguard.core.pins import Reason
from pgguard.core.prepared import MOST
from pgguard.sql.session_effects import OF_TRANSACTION, Effect, Kind

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
        Reason.SETTING,
        Reason.NAMES,
    }
)
"""Reasons that a check may find to be none."""

_COLUMNS = len(upkeep.COLUMNS)
_TIMEOUT = "statement_timeout"
APPLICATION_NAME = "application_name"
OURS = frozenset({APPLICATION_NAME, "client_encoding"})
"""Settings that a session has without having made them."""

_MAKING = frozenset({Kind.SET, Kind.SET_UNKNOWN, Kind.SET_LOCAL})
_RESETTING = frozenset({Kind.RESET_ALL, Kind.DISCARD_ALL})
RENAMING = Effect(Kind.RESET, APPLICATION_NAME)


def take_over(session: SharedSession, server: SharedServer, *, own: bool = False) -> bool:
    """Give the server what the session has made, and take away what it has not.

    `own`: it was connected for this login. Returns whether Postgres has to be asked for that.
    """
    sequences.linking(session, server)
    before = server.last_session
    if before is not None and before.client is session.client and _is_alike(session, server):
        server.last_session = session
        return own and loginevents.ask(session, server)
    reset = before is not None and before.client is not session.client
    if reset:
        # If that fails it says nothing of this session, which then tries as often as before.
        session.links_failed -= 1
        server.write(server.run(upkeep.query([upkeep.RESET])))
        server.settings, server.application_name = {}, server.begun_as
        server.sequences_of = None
    texts: list[bytes] = []
    if server.sequences_of not in (None, session):
        texts.append(upkeep.SEQUENCES)
        server.sequences_of = None
    marks = session.dotted - server.dotted - set(session.tracked.settings)
    texts += [upkeep.mark(name) for name in sorted(marks - {upkeep.TEMPORARY})]
    server.dotted |= session.dotted
    behind: list[bytes] = []
    named = server.begun_as if APPLICATION_NAME in server.settings else server.application_name
    if APPLICATION_NAME not in session.tracked.settings and named != session.named:
        behind.append(upkeep.name_application(session.named))
    behind += [upkeep.deallocate(name) for name in server.stand.surplus()]
    queries = upkeep.exchange(
        session.tracked, server.settings, server.parameters, before=texts, behind=behind
    )
    if upkeep.TEMPORARY in marks:
        queries.insert(0, [upkeep.SCHEMA])
    server.application_name = session.named
    server.settings = dict(session.tracked.settings)
    server.last_session = session
    server.client = session.client
    for query in queries:
        server.write(server.run(upkeep.query(query)))
    return reset or bool(queries)


def _is_alike(session: SharedSession, server: SharedServer) -> bool:
    """Whether it is as the session would have it, so that nothing needs to be looked at."""
    if session.dotted or server.settings or session.tracked.settings:
        return False
    if server.application_name != session.named or server.sequences_of not in (None, session):
        return False
    return len(server.stand) <= MOST


def name(session: SharedSession, server: SharedServer) -> None:
    """After a reset: the application_name that the session began with (T8), if it has set none
    since."""
    named = APPLICATION_NAME in session.tracked.settings
    if server.status == "I" and not session.unsynced and not named:
        server.application_name = session.application_name = session.named
        server.write(server.run(upkeep.query([upkeep.name_application(session.named)])))


def as_told(session: SharedSession, server: SharedServer, name: str, value: str) -> str:
    """A parameter as the session is told it: what a reset makes of the application_name, that with
    which the server was connected, becomes the session's own behind it (`name`)."""
    if name != APPLICATION_NAME or value != server.begun_as or value == session.named:
        return value
    under_way = session.batches[0] if session.batches else session.batch
    effects = [effect for sent in under_way for effect in sent.effects]
    if any(one.name == APPLICATION_NAME and one.kind in _MAKING for one in effects):
        return value
    resets = any(one.kind in _RESETTING or one == RENAMING for one in effects)
    return session.named if resets else value


def mark(server: SharedServer) -> None:
    """Ask what only this question is answered with: then all that was due before it has come, how
    often Postgres may have been ready meanwhile (T14)."""
    server.marker = b"pgguard %d %d" % (server.id, server.loose)
    server.row = []
    server.write(server.run(upkeep.query([b"SELECT " + upkeep.literal(server.marker.decode())])))


def marked(server: SharedServer) -> None:
    """It was answered."""
    if server.row != [server.marker]:
        server.doubt = server.doubt or "an error in COPY"
    server.marker, server.loose = b"", 0


def check(session: SharedSession, server: SharedServer) -> None:
    """Ask Postgres what statements that may have done anything have left behind."""
    session.unverified, server.checking = False, True
    server.checked_at = session.hub.clock()
    server.row = []
    texts = []
    if session.names.bare:
        # Back under names that others cannot mean, and made again when they are needed.
        texts += [upkeep.deallocate(name) for name in server.stand.cleared()]
        session.names.bare = False
    server.stand.asked = len(server.stand)
    judge = session.judge
    dotted = session.dotted | server.dotted | (judge.dotted if judge is not None else frozenset())
    server.write(server.run(upkeep.query([*texts, upkeep.check(dotted)])))


def checked(session: SharedSession, server: SharedServer, now: float) -> None:
    """The answer: what is there pins, what is not there does not, and settings are learned."""
    server.checking = False
    timeout, row = server.row[: -upkeep.CHECKED], server.row[-upkeep.CHECKED :]
    if server.ours_failed or len(row) != upkeep.CHECKED:
        server.doubt = "a check had no answer"
        return
    found = {
        reason
        for reason, value in zip(upkeep.COLUMNS, row[:_COLUMNS], strict=True)
        if value not in (None, b"", b"0", b"none")
    }
    for reason in found:
        session.pin(reason, "found by a check")
    prepared = int(row[-2] or b"0")
    if prepared != server.stand.asked:
        # Code has run DEALLOCATE: nobody knows of which, and they were not its session's alone.
        server.doubt = server.doubt or "prepared statements are gone"
        if not prepared:
            session.names.forget()
    if session.unverified:
        # What was sent behind the check may have done what the check has not found.
        return
    unsure, settings, schema, _, dotted = row[_COLUMNS:]
    _learn_marks(session, server, set(_read(dotted)), temporary=schema == b"t")
    values = _read(settings, dotted)
    if timeout:
        _tell_timeout(values, (timeout[0] or b"").decode())
    kept = _learn_settings(session, server, (unsure or b"").decode(), values)
    for reason in CHECKED - found - kept:
        session.pins.verified(reason)


def _tell_timeout(values: dict[str, str], told: str) -> None:
    """What the check has found of the setting that it changes itself."""
    begun = values.pop(_TIMEOUT, "")
    if begun != str(upkeep.milliseconds(told)):
        values[_TIMEOUT] = told


def _read(*columns: bytes | None) -> dict[str, str]:
    """Settings by name, out of JSON in hexadecimal digits."""
    found: dict[str, str] = {}
    for column in columns:
        text = bytes.fromhex((column or b"").decode()).decode("utf-8", "surrogateescape")
        found |= json.loads(text or "{}", strict=False)
    return found


def _learn_marks(
    session: SharedSession, server: SharedServer, names: set[str], *, temporary: bool
) -> None:
    """What no reset removes, as it is (T24)."""
    server.dotted = names | ({upkeep.TEMPORARY} if temporary else set())
    session.dotted = frozenset(server.dotted)


def _learn_settings(
    session: SharedSession, server: SharedServer, unsure: str, values: dict[str, str]
) -> set[Reason]:
    """All settings of the session, by their values; those that cannot be made again pin."""
    tracked, others = session.tracked.settings, set(unsure.split()) - OURS
    made = {name: text for name, text in tracked.items() if name in others}
    for name, value in values.items():
        if name in OURS and name not in tracked:
            told = session.named if name == APPLICATION_NAME else _begun(session, name)
            if value == told:
                continue
        if name not in OF_TRANSACTION and (value or "." not in name):
            made[name] = upkeep.make(name, value)
    if defining.is_temporary(values.get(defining.SEARCH_PATH, "")):
        session.creates_temporary = True
    session.tracked.settings = made
    server.settings = dict(made)
    pin = session.pins.reasons.get(Reason.SETTING)
    if others - set(made):
        session.pin(Reason.SETTING, "found by a check")
        return {Reason.SETTING}
    return {Reason.SETTING} if pin is not None and "" in pin.names else set()


def _begun(session: SharedSession, name: str) -> str | None:
    """A parameter as it was told at the login."""
    return {key.lower(): value for key, value in session.pool.parameters.items()}.get(name)
