"""DDL that sessions run: when it is news for all, for its own session, and when it is over.

Laws: what may change what others set off is told before it is sent, and whoever has anything under
way then counts as suspect, since its statement may have waited for that very DDL; a new table is
known to its own session when Postgres has made it, and to others when its transaction is over;
what is lost with its server is doubted (transparency T23).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pgguard.core.pins import Reason
from pgguard.core.suspecting import suspect
from pgguard.sql.definitions import NOTHING, TEMPORARY_SCHEMA, may_define
from pgguard.sql.effects import DDL
from pgguard.sql.session_effects import Effect, Kind
from pgguard.sql.statement import Name
from pgguard.tenancy.suspects import suspicions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgguard.core.shared_server import SharedServer
    from pgguard.core.shared_session import SharedSession
    from pgguard.sql.definitions import Born, Calls, Definitions
    from pgguard.sql.statement import Statement
    from pgguard.tenancy.judge import Judge
    from pgguard.tenancy.news import Definition, News


SEARCH_PATH = "search_path"
_MEANWHILE = "something that DDL of another session has changed meanwhile"


class Defining:
    """The DDL of one server's open transaction."""

    __slots__ = ("made", "odd", "sent", "temporary")

    def __init__(self) -> None:
        self.sent: list[Definition] = []
        """All of which the end is not known."""
        self.made: list[Definition] = []
        """Those of them that Postgres has carried out, as far as they count for their session."""
        self.temporary: dict[str, Born] = {}
        """Temporary tables that were there at the end of their transactions."""
        self.odd: list[str] = []
        """The names of those that may set off anything."""


def sends(session: SharedSession, statement: Statement) -> Definition | None:
    """DDL is about to be sent."""
    facts, judge = statement.facts, session.judge
    defined = facts.defined if facts is not None else may_define(statement.text)
    if defined is None or judge is None:
        return None
    server = session.shared
    what = _doubted(session, defined, judge)
    if what == NOTHING and not statement.effects & DDL:
        return None
    server.noted = server.ddl = True
    if what.relations or what.functions or what.types or what.anything:
        # Verdicts that were given before say nothing of what is sent from now on.
        judge.version += 1
        _suspect_others(session)
    one = judge.news.sent(what)
    server.defining.sent.append(one)
    return one


def _doubted(session: SharedSession, what: Definitions, judge: Judge) -> Definitions:
    """The same, with doubts about new tables that are not known to be harmless."""
    temporary = session.pins.reasons.get(Reason.TEMPORARY)
    names = temporary.names if temporary is not None else set()
    hidden = bool(names) and (what.anything or (bool(what.relations) and "" in names))
    if hidden or names & what.relations:
        # What a temporary table sets off is in no catalogue.
        session.pin_for_life("a temporary object that may set off anything")
    bad = [born for born in what.born if not _is_harmless(session, born.calls)]
    changed = [one for one in what.changed if not _is_harmless(session, one.calls)]
    good = [born for born in what.born if born not in bad]
    session.shared.defining.odd += (born.name.name for born in bad if born.temporary)
    hides(session)
    doubted = {born.name.name for born in bad if not born.temporary}
    doubted |= {name.name for born in bad for name in born.calls.models}
    doubted |= {one.name for one in changed}
    return what._replace(born=tuple(good), relations=what.relations | doubted)


def is_temporary(path: str) -> bool:
    """Whether what is created by that search_path may be temporary."""
    return TEMPORARY_SCHEMA in path.lower()


def leads(
    session: SharedSession, effects: Iterable[Effect], text: bytes, *, parameters: bool
) -> None:
    """Whether new names go to the schema of temporary objects from now on; perhaps not by its
    first word, since what is not there is passed over (recomputeNamespacePath in namespace.c)."""
    if any(effect.name == SEARCH_PATH for effect in effects) and (
        parameters or is_temporary(text.decode("latin1"))
    ):
        session.creates_temporary = True


def creates(session: SharedSession, statement: Statement) -> None:
    """DDL is about to be sent: it may be that of temporary objects, or drop the last of them."""
    if session.creates_temporary:
        session.pin(Reason.TEMPORARY, statement.masked)
    if Reason.TEMPORARY in session.pins.reasons:
        session.unverified = True


def hides(session: SharedSession) -> None:
    """Whoever has a temporary table that may set off anything, in front of one that is known to set
    off nothing, keeps its server: nobody can tell which of the two a statement means."""
    judge, odd = session.judge, session.shared.defining.odd
    if not odd or judge is None or judge.model is None:
        return
    if any(judge.model.find(Name("", name)) or judge.news.born.get(name) for name in odd):
        session.pin_for_life("a temporary table that may set off anything")


def _is_harmless(
    session: SharedSession, calls: Calls, passed: frozenset[str] = frozenset()
) -> bool:
    judge = session.judge
    assert judge is not None
    types = frozenset().union(*(one.what.enums for one in session.shared.defining.made))
    found = suspicions(calls, judge.model, judge.news, types)
    return not found or not of_others(session, found, passed)


def _suspect_others(session: SharedSession) -> None:
    mine = session.shared
    for other in session.hub.servers:
        server = cast("SharedServer", other)
        if server is mine or server.session is None or server.database != mine.database:
            continue
        if server.status != "I" or server.pipeline.entries:
            suspect(server.session, _MEANWHILE)


def of_others(
    session: SharedSession, effects: tuple[Effect, ...], passed: frozenset[str] = frozenset()
) -> tuple[Effect, ...]:
    """The effects but for those of tables that are the session's own: temporary ones, and those
    that it has made in this transaction. `passed` are those whose own columns ask."""
    defining, judge = session.shared.defining, session.judge
    if judge is None or not (defining.made or defining.temporary):
        return effects
    own = dict(defining.temporary)
    for one in defining.made:
        own |= {born.name.name: born for born in one.what.born if not born.shows}

    def is_own(effect: Effect) -> bool:
        name = effect.name
        if effect.kind is not Kind.UNKNOWN or name not in own or name in passed:
            return False
        if judge.news.anything or name in judge.news.relations:
            return False
        return _is_harmless(session, own[name].calls, passed | {name})

    return tuple(effect for effect in effects if not is_own(effect))


def answered(
    session: SharedSession, definitions: Sequence[Definition], *, failed: bool, over: bool
) -> None:
    """A batch with DDL was answered; `over`: and no transaction is open behind it."""
    defining = session.shared.defining
    if not failed and not over:
        defining.made += definitions
        return
    _end(session.shared, definitions, kept=not failed)


def undone(session: SharedSession) -> None:
    """ROLLBACK TO: nobody knows what of it is left."""
    for one in session.shared.defining.made:
        one.what = one.what._replace(born=(), enums=frozenset())


def ended(server: SharedServer, *, kept: bool) -> None:
    """The transaction is over."""
    if server.defining.made:
        made, server.defining.made = server.defining.made, []
        _end(server, made, kept=kept)


def lost(server: SharedServer) -> None:
    """Nobody will say what became of it."""
    left, server.defining.sent = server.defining.sent, []
    if left:
        gate = server.hub.gate
        for one in left:
            gate.judge(server.database).news.ended(one, kept=False)
        gate.changed(server.database)


def _end(server: SharedServer, definitions: Sequence[Definition], *, kept: bool) -> None:
    news: News = server.hub.gate.judge(server.database).news
    for one in definitions:
        if one in server.defining.sent:
            server.defining.sent.remove(one)
            lasting = []
            for born in one.what.born if kept else ():
                if born.temporary and not born.shows:
                    server.defining.temporary[born.name.name] = born
                elif not born.temporary:
                    lasting.append(born)
            one.what = one.what._replace(born=tuple(lasting))
            news.ended(one, kept=kept)
