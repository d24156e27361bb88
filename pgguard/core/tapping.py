"""Which replies are looked at for rows of tenants (PGG107), beside the loops that pass them on.

A look hangs on a server while the answer to one statement comes, and takes no part in it. Laws:
statements that are flagged are looked at whenever nothing else is owed, so that the answer is sure
to be theirs; of all others one in `EVERY` seconds over all servers; who is not looked at pays for
one attribute of the server in each chunk.
"""

from __future__ import annotations

from contextlib import suppress
from struct import error as StructError  # noqa: N812
from typing import TYPE_CHECKING

from pgguard.core.pipeline import BATCH, BATCH_NAMED, BIND, QUERY
from pgguard.core.watching import watch_of
from pgguard.findings import Verdict
from pgguard.tenancy.results import Look, columns_of
from pgguard.tenancy.variants import variant

if TYPE_CHECKING:
    from pgguard.core.hub import Hub
    from pgguard.core.server import Server
    from pgguard.core.session import Session
    from pgguard.sql.statement import Statement
    from pgguard.tenancy.judge import Judge

EVERY = 0.1
MINIMUM = Verdict.by_id
"""From here on statements are flagged."""
_EXECUTIONS = frozenset({BIND, QUERY, BATCH, BATCH_NAMED})


class Tap:
    """One look; `statement` None = whatever the session sends next."""

    __slots__ = ("look", "prepares", "statement")

    def __init__(self, look: Look, statement: Statement | None, *, prepares: bool = False) -> None:
        self.look, self.statement = look, statement
        self.prepares = prepares
        """It is only to tell what its executions return."""


def prepares(session: Session, statement: Statement) -> None:
    """A Parse gives the statement a name, and is the first that is owed: what it is described as
    counts for executions that are not described any more."""
    server, judge = session.server, session.judge
    if server is None or judge is None or Verdict.no_tenant_data <= statement.verdict < MINIMUM:
        return
    if server.tap is not None and server.tap.statement is not None:
        server.tap = None
    elif len(server.pipeline.entries) == 1:
        server.tap = _tap(judge, statement, frozenset())
        if server.tap is not None:
            server.tap.prepares = True


def described(session: Session, statement: Statement, rows: bytes) -> None:
    """The body of a RowDescription, without formats, that a flagged statement had when it was
    prepared."""
    judge, guard = session.judge, watch_of(session)
    tap = _tap(judge, statement, frozenset()) if judge is not None else None
    if tap is None or not rows or statement.text in guard.described:
        return
    with suppress(ValueError, IndexError, StructError):
        tap.look.describe(rows, formats=False)
        guard.describe(statement.text, tap.look.found)


def watch(session: Session, statement: Statement) -> None:
    """A statement was sent alone, and its answer is the next that comes."""
    server, judge = session.server, session.judge
    if server is None or judge is None or statement.verdict < Verdict.by_id:
        return
    if statement.facts is None or len(statement.facts.parts) != 1:
        return
    tap = server.tap
    if tap is not None and tap.statement is not None and not tap.prepares:
        # Two in one batch: whose rows come is not sure.
        server.tap = None
        return
    guard = session.guard
    settings: tuple[str, ...] = ()
    expected: frozenset[str] = frozenset()
    if guard is not None:
        settings = tuple(text for text in guard.tenants.settings.values() if text)
        of, named = guard.expected
        expected = named if of is statement else expected
    server.tap = _tap(judge, statement, expected, settings)
    if server.tap is not None and guard is not None:
        server.tap.look.found = guard.described.get(statement.text, [])


def _tap(
    judge: Judge,
    statement: Statement | None,
    expected: frozenset[str],
    settings: tuple[str, ...] = (),
) -> Tap | None:
    model = judge.model
    if model is None or not model.roles:
        return None
    if judge.looked_at is None or judge.looked_at[0] is not model:
        judge.looked_at = model, columns_of(model)
    columns = judge.looked_at[1]
    look = Look(columns, judge.owners, expected, settings)
    return Tap(look, statement) if columns else None


def feed(server: Server, data: bytes) -> None:
    """A chunk of the answer."""
    tap, session = server.tap, server.session
    if tap is None:
        return
    if session is None:
        server.tap = None
        return
    if not tap.look.feed(data):
        return
    server.tap = None
    if tap.statement is not None and tap.look.found:
        watch_of(session).describe(tap.statement.text, tap.look.found)
    if tap.prepares:
        return
    why = tap.look.proof()
    alone = sum(1 for entry in server.pipeline.entries if entry in _EXECUTIONS) < 2
    statement = tap.statement or (session.last if alone else None)
    if why and statement is not None and statement.verdict >= Verdict.no_tenant_data:
        found = variant(statement, "PGG107", Verdict.cross_tenant, why)
        session.hub.gate.flag(session.client, found, session.hub.clock())


def sample(hub: Hub, now: float) -> None:
    """Every 100 ms: one server that owes nothing, another one each time."""
    if not hub.servers:
        return
    servers = sorted(hub.servers, key=lambda one: one.id)
    server = servers[int(now / EVERY) % len(servers)]
    session = server.session
    quiet = not server.pipeline.entries and not server.partial and not server.skip
    if session is None or session.judge is None or server.tap is not None:
        return
    if quiet and server.between_messages():
        server.tap = _tap(session.judge, None, frozenset())
