"""Which replies are looked at for rows of tenants (PGG107), beside the loops that pass them on.

A look hangs on a server while the answer to one statement comes, and takes no part in it. Laws:
statements that are flagged are looked at whenever nothing else is owed, so that the answer is sure
to be theirs; of all others one in `EVERY` seconds over all servers; who is not looked at pays for
one attribute of the server in each chunk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.core.pipeline import BATCH, BATCH_NAMED, BIND, QUERY
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
_EXECUTIONS = frozenset({BIND, QUERY, BATCH, BATCH_NAMED})


class Tap:
    """One look; `statement` None = whatever the session sends next."""

    __slots__ = ("look", "statement")

    def __init__(self, look: Look, statement: Statement | None) -> None:
        self.look, self.statement = look, statement


def watch(session: Session, statement: Statement, expected: frozenset[str] = frozenset()) -> None:
    """A statement was sent alone, and its answer is the next that comes."""
    server, judge = session.server, session.judge
    if server is None or judge is None or statement.verdict < Verdict.by_id:
        return
    if statement.facts is None or len(statement.facts.parts) != 1:
        return
    if server.tap is not None and server.tap.statement is not None:
        # Two in one batch: whose rows come is not sure.
        server.tap = None
    else:
        server.tap = _tap(judge, statement, expected)


def _tap(judge: Judge, statement: Statement | None, expected: frozenset[str]) -> Tap | None:
    model = judge.model
    if model is None or not model.roles:
        return None
    if judge.looked_at is None or judge.looked_at[0] is not model:
        judge.looked_at = model, columns_of(model)
    columns = judge.looked_at[1]
    return Tap(Look(columns, judge.owners, expected), statement) if columns else None


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
