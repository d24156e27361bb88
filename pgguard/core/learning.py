"""What a session has left behind, learned when Postgres has said that it was done.

Laws: a batch that ended in an error has done nothing, but for what only Postgres can tell; effects
count in the order of their texts; an end that is answered late ends nothing that was sent behind
it; a setting whose value is not known pins (transparency T20, T21).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pgguard.core import defining, spelling
from pgguard.core.handover import RENAMING
from pgguard.core.pins import UNDONE, Reason, brings
from pgguard.core.tracked import RESET
from pgguard.core.upkeep import TEMPORARY, make
from pgguard.sql.session_effects import Effect, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgguard.core.shared_session import SharedSession
    from pgguard.tenancy.news import Definition

CLEARING = frozenset({Kind.DEALLOCATE_ALL, Kind.DISCARD_ALL})
"""What takes all prepared statements away."""

NOTIFYING = frozenset({Kind.NOTIFY, Kind.CALL, Kind.CODE, Kind.UNREAD})
"""What may send notifications."""

MARKING = frozenset({Kind.SET, Kind.SET_LOCAL, Kind.SET_UNKNOWN, Kind.RESET})
"""What makes a setting with a dot, if it is not there yet: RESET, too (find_option in guc.c)."""

_COMMITS = frozenset({Kind.COMMIT, Kind.COMMIT_AND_CHAIN})
_ROLLS_BACK = frozenset({Kind.ROLLBACK, Kind.ROLLBACK_AND_CHAIN})
_CHAINS = frozenset({Kind.COMMIT_AND_CHAIN, Kind.ROLLBACK_AND_CHAIN})
_TRANSACTION = (
    frozenset({Kind.BEGIN, Kind.SAVEPOINT, Kind.RELEASE, Kind.ROLLBACK_TO}) | _COMMITS | _ROLLS_BACK
)
_DISCARDED = b"DISCARD ALL"
_CONTROL = (b"BEGIN", b"START", b"COMMIT", b"ROLLBACK", b"SAVEPOINT", b"RELEASE", _DISCARDED)
_SETS = frozenset({Kind.SET, Kind.SET_UNKNOWN, Kind.RESET, Kind.RESET_ALL, Kind.DISCARD_ALL})


class Sent(NamedTuple):
    """A statement on its way that leaves something behind."""

    effects: tuple[Effect, ...]
    text: bytes
    masked: str
    """The text without its literals, for those who ask why a server is kept."""
    parameters: bool
    """Some of it came with Bind, so that the text does not say it all."""
    defines: Definition | None = None
    """The news that its DDL is."""


class Answered(NamedTuple):
    """How a batch was answered."""

    failed: bool
    """With an error."""
    status: str
    """That of its ReadyForQuery."""
    aborted: bool = False
    """It began in a transaction that had failed."""
    controlled: bytes = b""
    """The tag of what began or ended a transaction in it, that of DISCARD ALL if it was done."""


def control(before: bytes, tag: bytes) -> bytes:
    """`Answered.controlled` after one more tag: DISCARD ALL, a transaction by itself, says most."""
    return tag if tag.startswith(_CONTROL) and not before.startswith(_DISCARDED) else before


def must_settle(session: SharedSession) -> bool:
    """Whether the newest batch changes what the next one depends on: it takes all prepared
    statements away, or the application_name where the server began with another one, or texts are
    read in another way behind it."""
    if not session.batches or not session.batches[-1]:
        return False
    other = session.shared.begun_as != session.named
    return any(
        effect.kind in CLEARING
        or effect.name in spelling.SETTINGS
        or (effect.kind is Kind.RESET_ALL and (other or session.names.spelling != spelling.USUAL))
        or (other and effect == RENAMING)
        for sent in session.batches[-1]
        for effect in sent.effects
    )


def learn(session: SharedSession, batch: Sequence[Sent], answered: Answered) -> None:
    """A batch was answered."""
    _define(session, batch, answered)
    effects = [effect for sent in batch for effect in sent.effects]
    if answered.failed:
        kinds = {effect.kind for effect in effects}
        marks = {name for kind, name in effects if kind in MARKING and "." in name}
        if marks - session.dotted or (kinds & _SETS and kinds & _TRANSACTION):
            # Some of it may have been done, or even committed, before the error.
            session.pin(Reason.UNCLEAR, "a batch that failed half-way")
        if Kind.SEQUENCE_READ in kinds:
            session.client.reads_sequences = True
        for sent in batch if answered.controlled.startswith(_DISCARDED) else ():
            for effect in sent.effects:
                if effect.kind is Kind.DISCARD_ALL:
                    # Committed at once, whatever became of the messages behind it.
                    _learn(session, effect, sent, answered, alone=False)
                    session.pin(Reason.UNCLEAR, "a batch that failed half-way")
        return
    for sent in batch:
        alone = len(sent.effects) == 1 and not answered.controlled
        for effect in sent.effects:
            _learn(session, effect, sent, answered, alone=alone)
        _end_pins(session, _ending_now(session, sent, answered))


def end(session: SharedSession, *, undone: bool, failed: bool) -> None:
    """The transaction in which it has made settings is over; `failed`: with an error."""
    tracked = session.tracked
    if undone:
        tracked.rollback()
    else:
        tracked.commit()
    session.shared.settings = dict(tracked.settings)
    if failed:
        # That of its COMMIT, or of what came behind it in the same batch.
        session.pin(Reason.SETTING, "a transaction whose end failed", "*")
        session.unverified = True


def _define(session: SharedSession, batch: Sequence[Sent], answered: Answered) -> None:
    """What becomes of its DDL."""
    definitions = [sent.defines for sent in batch if sent.defines is not None]
    if definitions:
        over = answered.status == "I"
        # Where a transaction ended in its midst, nobody knows on which side of it each stands.
        failed = answered.failed or answered.aborted or (over and bool(answered.controlled))
        defining.answered(session, definitions, failed=failed, over=over)
    if any(effect.kind is Kind.ROLLBACK_TO for sent in batch for effect in sent.effects):
        defining.undone(session)


def _ending_now(session: SharedSession, sent: Sent, answered: Answered) -> Sequence[Effect]:
    """Of what ends reasons that which no ROLLBACK can undo; the rest is kept for COMMIT."""
    if answered.status == "I" and not answered.controlled:
        return sent.effects
    if not answered.controlled:
        lasting = UNDONE | {Kind.ROLES}
        kept = [e for e in sent.effects if e.kind in lasting or (session.ending and brings(e))]
        session.ending = (*session.ending, *kept)
    # What began, or ended, a transaction among other things may have undone what came before.
    return [effect for effect in sent.effects if effect.kind not in UNDONE]


def transaction_over(session: SharedSession, *, undone: bool) -> None:
    """What would have brought back the reasons that ended in a transaction comes no more, and what
    it has made of roles is so for others, too."""
    effects, session.ending = session.ending, ()
    if not undone:
        _end_pins(session, effects)
        if any(effect.kind is Kind.ROLES for effect in effects):
            session.hub.sharing.roles_changed()


def _end_pins(session: SharedSession, effects: Sequence[Effect]) -> None:
    ended = session.pins.ended(effects)
    if not ended:
        return
    # What is on its way may bring them again.
    for later in [one for batch in (*session.batches, session.batch) for one in batch]:
        session.pins.brought(later.effects, session.hub.clock(), later.masked)
    for reason in ended:
        if reason not in session.pins.reasons:
            session.hub.sharing.unpinned(session, reason)


def _learn(
    session: SharedSession, effect: Effect, sent: Sent, answered: Answered, *, alone: bool
) -> None:
    kind, name = effect
    tracked, server, status = session.tracked, session.shared, answered.status
    if "." in name and kind in MARKING:
        session.dotted |= {name}
    if kind in (Kind.SET, Kind.RESET):
        unsure = kind is Kind.SET and (
            not alone or sent.parameters or not spelling.is_kept(sent.text, server.parameters)
        )
        if answered.controlled or unsure:
            session.pin(Reason.SETTING, "a setting beside others", name)
            return
        if status != "I":
            tracked.begin()
        text = RESET if kind is Kind.RESET else _whole(name, sent.text, server.parameters)
        tracked.set(name, text)
        server.has_set(name, text)
    elif kind in (Kind.RESET_ALL, Kind.DISCARD_ALL):
        if status != "I":
            tracked.begin()
        tracked.reset_all()
        server.has_reset()
    elif kind in _COMMITS or kind in _ROLLS_BACK:
        if kind in _COMMITS and not answered.aborted:
            tracked.commit()
        else:
            tracked.rollback()
        server.settings = dict(tracked.settings)
        if kind in _CHAINS and status != "I":
            tracked.begin()
    elif kind is Kind.TEMPORARY:
        session.dotted |= {TEMPORARY}
    elif kind is Kind.SAVEPOINT:
        tracked.begin()
        tracked.savepoint(name)
    elif kind is Kind.RELEASE:
        tracked.release(name)
    elif kind is Kind.ROLLBACK_TO:
        tracked.rollback_to(name)
    elif kind is Kind.ROLES:
        session.hub.sharing.roles_changed()
    elif kind is Kind.DEALLOCATE and session.names.bare:
        session.names.put(name.encode(), None)
        server.stand.deallocated(name.encode())
    elif kind is Kind.SEQUENCE_READ:
        session.client.reads_sequences = True


def _whole(name: str, text: bytes, told: Mapping[str, str]) -> bytes:
    """What makes the setting as it is now. DateStyle has two halves, of which a text may say one;
    Postgres has told what has become of both (check_datestyle in variable.c)."""
    value = told.get("DateStyle") if name == "datestyle" else None
    return text if value is None else make(name, value)
