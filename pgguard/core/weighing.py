"""What an execution's values say of its statement: tenants compared, transactions followed.

Called for the statements that the hot loops do not count themselves, and in a watched session (one
in a transaction, or with a tenant setting) for every one. Laws: in the order in which they are
sent; what is not known of a value decides nothing; a clean statement of a session that is not
watched is never weighed.
"""

from __future__ import annotations

from contextlib import suppress
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import TYPE_CHECKING, cast

from pgguard.core.following import note, passes
from pgguard.core.watching import forget, watch_of
from pgguard.findings import Verdict
from pgguard.sql.commands import arguments
from pgguard.sql.effects import DDL, TEMPORARY
from pgguard.sql.session_effects import Kind
from pgguard.sql.split import split
from pgguard.tenancy.policy import Action
from pgguard.tenancy.tenants import (
    Given,
    Named,
    Parameter,
    named,
    nobody,
    nulls,
    same,
    tenants,
    unread,
    values,
)
from pgguard.tenancy.variants import variant
from pgguard.wire import codes
from pgguard.wire.frontend import query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgguard.core.session import Session
    from pgguard.core.shared_session import SharedSession
    from pgguard.core.watching import Watch
    from pgguard.sql.statement import Statement

_header = Struct(">BI").unpack_from
_int16 = Struct(">H").unpack_from
_int32 = Struct(">i").unpack_from

_LONGEST_EXECUTE = 32 * 1024
"""Bytes of an EXECUTE whose arguments are read."""

_REFERRING = frozenset({Kind.PREPARE, Kind.DECLARE, Kind.EXECUTE, Kind.FETCH})
_CHANGING = DDL | TEMPORARY

_SEVERAL = "its values are {} different tenants in one execution: {}"
_NOBODY = "its tenant is NULL in this execution: the new row belongs to no tenant"
_UNREAD = "the values that EXECUTE gives its parameters are not all literals"
_BYTES = " (compared by their bytes: the type is not known)"


def weigh(
    session: Session,
    statement: Statement,
    message: bytes,
    *,
    text: bytes = b"",
    oids: Sequence[int] = (),
) -> Statement:
    """The statement as this execution shows it; `message` is its Query or Bind, as far as it has
    come, `text` and `oids` are those of the Parse, empty = not known."""
    if session.guard is not None:
        note(session, session.guard)
    by_text = message[:1] == b"Q"
    if by_text:
        text = message[5:-1]
        if statement.marks and _refers(statement):
            return _in_turn(session, statement, text)
    if statement.marks:
        found = _follow(session, statement, message, text)
        if found is not None:
            return found
    if not _counts(session, statement):
        return statement
    return _shown(session, statement, Given(text, () if by_text else parameters(message[5:], oids)))


def expect(
    session: Session,
    statement: Statement,
    message: bytes,
    *,
    text: bytes = b"",
    oids: Sequence[int] = (),
) -> Statement:
    """`weigh`, and for a flagged statement the tenant that it names is remembered: rows of another
    one are proof of a leak (PGG107)."""
    shown = weigh(session, statement, message, text=text, oids=oids)
    if shown.verdict >= Verdict.by_id and shown.tenants and not shown.marks:
        shown.number()
        if message[:1] == b"Q":
            given = Given(message[5:-1])
        else:
            given = Given(text, parameters(message[5:], oids))
        found = named(shown.tenants, given)
        keys = frozenset((*found.statement, *found.others))
        one = keys if found.sure and len(keys) == 1 else frozenset()
        watch_of(session).expected = shown, one
    return shown


def _counts(session: Session, statement: Statement) -> bool:
    """Whether it matters what the values of an execution are."""
    if statement.nulls or (statement.keys and statement.verdict == Verdict.by_id):
        return True
    return bool(statement.tenants) and (statement.varies or session.watched)


def _shown(session: Session, statement: Statement, given: Given) -> Statement:
    """The statement as these values show it."""
    statement.number()
    if statement.nulls and session.judge is not None:
        found = nulls(statement.nulls, given)
        if found is None:
            return statement
        statement = session.judge.given(statement, found)
        statement.number()
    if not _counts(session, statement):
        return statement
    if statement.keys and statement.verdict == Verdict.by_id:
        return _owned(session, statement, given)
    watch = session.guard
    state = watch.tenants if watch is not None else None
    if state is not None:
        given = given._replace(setting=state.setting)
    if statement.publishes and nobody(statement.tenants, given):
        return variant(statement, "PGG101", Verdict.unscoped, _NOBODY)
    all_named = named(statement.tenants, given, state.settings if state is not None else None)
    if all_named.crosses:
        if watch is not None:
            forget(session, watch)
        return variant(statement, "PGG102", Verdict.cross_tenant, _why(all_named))
    _learn(session, statement, given)
    keys = [*all_named.statement, *all_named.others]
    if keys and watch is not None and set(keys) != {watch.key}:
        session.tenant = ""
    if watch is not None and watch.asked is not None:
        (asked, of), watch.asked = watch.asked, None
        if of is statement and all_named.sure and len(set(keys)) == 1:
            watch.raws[asked] = keys[0]
    crosses = len(set(keys)) > 1 and not statement.marks
    if state is not None:
        crosses = state.crosses(keys) or crosses
    return _crossing(session, statement) if crosses else statement


def _learn(session: Session, statement: Statement, given: Given) -> None:
    """The keys of new rows, with their tenant."""
    judge = session.judge
    for key in statement.keys if judge is not None else ():
        of = [
            one for one in statement.tenants if (one.relation, one.use) == (key.relation, "insert")
        ]
        owners = {one.key for each in of for one in tenants(each, given)}
        if key.use == "insert" and len(owners) == 1 and len(key.columns) == 1 and judge:
            for one in values(key.constants[0], key.types[0], given):
                judge.owners.learn(key.table, key.columns, one.key, *owners)


def _owned(session: Session, statement: Statement, given: Given) -> Statement:
    """A statement that chooses rows by key: of whom are they, as far as was seen, and for whom
    does the session work: its transaction's tenant, or that of its setting."""
    judge, watch = session.judge, session.guard
    if judge is None or watch is None:
        return statement
    state = watch.tenants
    ours = set(state.keys)
    whose: set[str] = set()
    for key in statement.keys:
        known = None
        if key.use != "insert" and len(key.columns) == 1:
            keys = [one.key for one in values(key.constants[0], key.types[0], given)]
            known = judge.owners.of(key.table, key.columns, keys)
        if known is None:
            return statement
        whose |= known
    for text_ in state.settings.values():
        if text_:
            ours.add(next((one for one in whose if same(text_, one)), text_))
    if len(ours) != 1 or len(statement.keys) < sum(
        1 for one in statement.relations if one.level == Verdict.by_id.name
    ):
        return statement
    if whose == ours:
        return variant(statement, "", Verdict.scoped, "its rows were seen to be the tenant's own")
    why = "the key is that of another tenant's row, as an INSERT or a result has shown"
    return variant(statement, "PGG102", Verdict.cross_tenant, why)


def _crossing(session: Session, statement: Statement) -> Statement:
    """It makes the transaction one of two tenants: a finding beside the statement's own, and in
    its place only where that blocks it."""
    why = "its transaction had named another tenant before, in a statement or a setting"
    found = variant(statement, "PGG103", Verdict.by_id, why)
    gate = session.hub.gate
    if gate.action(session.client, found) is Action.block:
        return found
    gate.flag(session.client, found, session.hub.clock())
    return statement


def _why(found: Named) -> str:
    uses = ", ".join(dict.fromkeys(found.statement.values()))
    return _SEVERAL.format(len(found.statement), uses) + ("" if found.sure else _BYTES)


def _follow(
    session: Session, statement: Statement, message: bytes, text: bytes
) -> Statement | None:
    """What the statement does to transaction, tenant settings and names; the remembered statement
    if it runs one, as the values show it that it gives."""
    facts = statement.facts
    if facts is None:
        return None
    if statement.frees and session.judge is not None:
        session.judge.owners.forget()
    if statement.border is not None:
        passes(session, statement.border)
        return None
    watch = watch_of(session)
    forget(session, watch)
    state = watch.tenants
    assigned = list(statement.assigned)
    for kind, name in facts.session:
        if kind is Kind.BEGIN:
            state.begin()
        elif kind in (Kind.COMMIT, Kind.ROLLBACK):
            state.end(failed=kind is Kind.ROLLBACK)
        elif kind is Kind.SAVEPOINT:
            state.savepoint(name)
        elif kind is Kind.RELEASE:
            state.release(name)
        elif kind is Kind.ROLLBACK_TO:
            state.rollback_to(name)
        elif kind in (Kind.RESET_ALL, Kind.DISCARD_ALL):
            state.reset_all()
        elif assigned and assigned[0].name == name:
            one = assigned.pop(0)
            value = one.value
            if isinstance(value, int):
                given = parameters(message[5:], ()) if message[:1] == b"B" else []
                raw = given[value - 1].raw if 0 < value <= len(given) else None
                value = raw.decode("utf-8", "replace") if raw is not None else None
            state.set(name, value, local=one.local)
    session.watched = state.watches
    if state.in_transaction and statement.assigned and state.crosses(()):
        _crossing(session, statement)
    return _remembered(session, watch, statement, text) if len(facts.parts) == 1 else None


def _refers(statement: Statement) -> bool:
    """Whether one of several statements of a text names what another one may have prepared."""
    facts = statement.facts
    if facts is None or len(facts.parts) < 2:
        return False
    return any(kind in _REFERRING for kind, _ in facts.session)


def _in_turn(session: Session, statement: Statement, text: bytes) -> Statement:
    """Each statement of a text by itself, one after the other: the worst."""
    judge, gate = session.judge, session.hub.gate
    pieces: list[bytes] = []
    if judge is not None and len(text) <= _LONGEST_EXECUTE:
        with suppress(UnicodeDecodeError):
            pieces = [piece.text.encode() for piece in split(text.decode())]
    facts = statement.facts
    if facts is None or judge is None or len(pieces) != len(facts.parts):
        return statement
    worst: Statement | None = None
    for piece in pieces:
        one = judge.statement(piece, session.readable)
        gate.settled(session, one, final=True)
        shown = weigh(session, one, query(piece)) if _tells(one) else one
        if worst is None or shown.verdict > worst.verdict:
            worst = shown
    if worst is None or (worst.verdict < statement.verdict and facts.effects & _CHANGING):
        # What the text itself changes decides what its names mean.
        return statement
    return worst


def _tells(statement: Statement) -> bool:
    return bool(statement.tenants or statement.marks or statement.keys or statement.nulls)


def _remembered(
    session: Session, watch: Watch, statement: Statement, text: bytes
) -> Statement | None:
    """PREPARE, DECLARE: kept under the name. EXECUTE, FETCH: what is kept there."""
    assert statement.facts is not None
    for kind, name in statement.facts.session:
        if kind in (Kind.PREPARE, Kind.DECLARE):
            watch.remember((kind is Kind.DECLARE, name), statement, text)
        elif kind is Kind.DEALLOCATE:
            watch.names.pop((False, name), None)
        elif kind in (Kind.DEALLOCATE_ALL, Kind.DISCARD_ALL):
            watch.forget_prepared()
        elif kind in (Kind.EXECUTE, Kind.FETCH):
            key = kind is Kind.FETCH, name
            if key in watch.names or kind is Kind.FETCH:
                found, own = watch.names.get(key, (None, b""))
            else:
                found, own = _prepared(session, name.encode())
            if found is None:
                return None
            session.hub.gate.settled(session, found, final=True)
            if kind is Kind.FETCH:
                return found
            return _executed(session, found, own or found.text, text)
    return None


def _executed(session: Session, statement: Statement, own: bytes, text: bytes) -> Statement:
    """What EXECUTE runs, with the values that its `text` gives to the parameters of `own`."""
    if not _counts(session, statement):
        return statement
    given = Given(own, _arguments(text, own))
    shown = _shown(session, statement, given)
    if shown.varies and shown.verdict < Verdict.unknown and unread(shown.tenants, given):
        return variant(shown, "PGG106", Verdict.unknown, _UNREAD)
    return shown


def _arguments(text: bytes, prepared: bytes) -> list[Parameter | None]:
    """The values in the text of an EXECUTE, as a Bind would bring them."""
    if max(len(text), len(prepared)) > _LONGEST_EXECUTE:
        return []
    try:
        found = arguments(text.decode(), prepared.decode())
    except UnicodeDecodeError:
        return []
    return [
        Parameter(one.value.encode() if one.value is not None else None) if one.known else None
        for one in found
    ]


def _prepared(session: Session, name: bytes) -> tuple[Statement | None, bytes]:
    """The statement that the session has prepared under the name by a Parse, and its very text;
    empty = it is the statement's."""
    if not session.hub.shares:
        texts = session.guard.texts if session.guard is not None else {}
        found = session.prepared.get(name) if session.prepared is not None else None
        return found, texts.get(name, b"")
    prepared = cast("SharedSession", session).names.get(name)
    if prepared is None:
        return None, b""
    return prepared.statement, prepared.body.partition(b"\0")[0]


def ended(session: Session, *, failed: bool, owed: bool) -> None:
    """ReadyForQuery said that no transaction is open; `owed` = more was sent meanwhile.

    Where none of it failed, the session is not watched and its tenants have nothing to `undo`,
    this changes nothing."""
    watch = session.guard
    if watch is None:
        return
    note(session, watch)
    state = watch.tenants
    state.answered(failed=failed)
    if failed or state.has_settings:
        forget(session, watch)
    if failed and session.judge is not None:
        # What was learned in it may not be there.
        session.judge.owners.forget()
    if not owed:
        if state.in_transaction:
            session.tenant = ""
            state.end(failed=failed)
        session.watched = state.watches


def parameters(body: bytes, oids: Sequence[int]) -> list[Parameter]:
    """The parameters of a Bind, as many as have come whole."""
    found: list[Parameter] = []
    try:
        at = body.index(0, body.index(0) + 1) + 1
        count = _int16(body, at)[0]
        formats = [_int16(body, at + 2 + 2 * number)[0] for number in range(count)]
        at += 2 + 2 * count
        total = _int16(body, at)[0]
        at += 2
        for number in range(total):
            size = _int32(body, at)[0]
            at += 4
            if size > len(body) - at:
                break
            raw = None if size < 0 else body[at : at + size]
            at += max(size, 0)
            binary = formats[number if count > 1 else 0] == 1 if count else False
            found.append(Parameter(raw, binary, oids[number] if number < len(oids) else 0))
    except (ValueError, IndexError, StructError):
        # It has not come whole, or Postgres will refuse it.
        pass
    return found


def parse_of(chunk: bytes, at: int) -> tuple[bytes, tuple[int, ...]]:
    """Text and types of the Parse in this chunk that the Bind at `at` is about, else nothing."""
    start = chunk.find(b"\0", at + 5) + 1
    name = chunk[start : chunk.find(b"\0", start)]
    found: tuple[bytes, tuple[int, ...]] = (b"", ())
    pos = 0
    while pos + 5 <= at:
        kind, length = _header(chunk, pos)
        if kind == codes.PARSE:
            own, _, rest = chunk[pos + 5 : pos + 1 + length].partition(b"\0")
            if own == name:
                text, _, types = rest.partition(b"\0")
                words = [types[n : n + 4] for n in range(2, len(types), 4)]
                found = text, tuple(int.from_bytes(word, "big") for word in words)
        if length < 4:
            break
        pos += 1 + length
    return found
