"""The tables that HTTP and the console show: one function per view, rows as plain dictionaries.

Laws: a row is made from one object of the core at one moment; ages and waits are seconds, rounded
to milliseconds; no statement text with literals, no secret. Columns are listed in `COLUMNS` and
keep their order.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pgguard.findings import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgguard.findings import Finding
    from pgguard.record.subject import Client, Hub, Pin, Reason, Server, Session

Row = dict[str, Any]

COLUMNS: dict[str, dict[str, str]] = {
    "clients": {
        "client": "name of the client",
        "rule": "rule that named it (clients.identify)",
        "sessions": "frontend connections now",
        "sessions_total": "frontend connections ever",
        "waiting": "sessions that wait for a server connection",
        "server_connections": "server connections that it holds now",
        "peak": "most that it held at once",
        "connection_limit": "most that it may hold at once",
        "pool_timeout": "seconds that a session waits because of the cap, or null for ever",
        "statements": "statements executed",
        "unknown": "statements executed of which the scope is not known",
        "waits": "times that a session had to wait",
        "waited": "seconds waited in all",
        "waited_max": "longest wait in seconds",
        "refused": "sessions refused a server connection",
        "flagged": "different statements that were flagged",
    },
    "servers": {
        "server": "number of the server connection",
        "pid": "process of Postgres",
        "user": "its user",
        "database": "its database",
        "state": "connecting, idle, linked or closing",
        "state_age": "seconds in this state",
        "client": "client that it counts for",
        "session": "session that it is linked to, or null",
        "status": "transaction status: I idle, T in a transaction, E in a failed one",
        "transaction_age": "seconds since the transaction began, or null",
        "due": "ReadyForQuery that are still outstanding",
    },
    "waiters": {
        "session": "number of the session",
        "client": "its client",
        "position": "place in the queue of its client, from 1",
        "waited": "seconds since it began to wait",
        "user": "its user",
        "database": "its database",
        "application_name": "as the session gave it",
        "address": "where it comes from",
        "pid": "process behind a loopback address, or null",
    },
    "pins": {
        "session": "number of the session",
        "client": "its client",
        "reason": "why it keeps its server connection",
        "what": "the same in words",
        "age": "seconds since the reason came up",
        "statement": "statement that brought it, literals masked",
        "user": "its user",
        "database": "its database",
        "server": "number of the server connection, or null",
        "pid": "process of Postgres, or null",
    },
    "findings": {
        "code": "code of the rule: see pgguard explain",
        "class": "kind of finding",
        "severity": "error, warning or note",
        "title": "what is wrong",
        "client": "client that did it first",
        "clients": "how often each client did it",
        "test": "test that did it, or null",
        "statement": "fingerprint, text with literals masked, position in characters; or null",
        "relations": "tables of the statement with alias, level, why and fix",
        "evidence": "lines that show it",
        "count": "how often",
        "first_seen": "seconds since 1970, UTC",
        "last_seen": "seconds since 1970, UTC",
        "remedy": "the smallest fix",
        "confidence": "certain or likely",
    },
}


def clients(hub: Hub, now: float) -> list[Row]:
    """One row per client, by name."""
    del now
    return [client_row(client) for client in client_order(hub)]


def servers(hub: Hub, now: float) -> list[Row]:
    """One row per server connection, oldest first."""
    return [server_row(server, now) for server in server_order(hub)]


def waiters(hub: Hub, now: float) -> list[Row]:
    """One row per session that waits for a server connection: client by client, in turn."""
    return [waiter_row(position, session, now) for position, session in waiter_order(hub)]


def pins(hub: Hub, now: float) -> list[Row]:
    """One row per session that keeps its server and reason: client by client, oldest first."""
    return [pin_row(*pinned, now) for pinned in pin_order(hub)]


def findings(found: Iterable[Finding]) -> list[Row]:
    """One row per finding, in the order given."""
    return [finding.to_dict() for finding in found]


def client_order(hub: Hub) -> list[Client]:
    return sorted(hub.clients.values(), key=lambda client: client.key)


def server_order(hub: Hub) -> list[Server]:
    return sorted(hub.servers, key=lambda server: server.id)


def waiter_order(hub: Hub) -> list[tuple[int, Session]]:
    waiting = [session for session in hub.sessions if session.state.name == "WAITING"]
    waiting.sort(key=lambda session: (session.client.key, session.since, session.id))
    return [
        numbered
        for _, queue in groupby(waiting, key=lambda session: session.client.key)
        for numbered in enumerate(queue, 1)
    ]


def pin_order(hub: Hub) -> list[tuple[Session, Reason, Pin]]:
    pinned = [session for session in hub.sessions if session.pinned]
    pinned.sort(key=lambda session: (session.client.key, session.id))
    return [(session, *of) for session in pinned for of in session.pinned.items()]


def client_row(client: Client) -> Row:
    counters, share, limits = client.counters, client.share, client.limits
    return {
        "client": client.key,
        "rule": client.rule,
        "sessions": len(client.sessions),
        "sessions_total": counters.sessions,
        "waiting": share.waiting,
        "server_connections": share.held,
        "peak": share.peak,
        "connection_limit": limits.connection_limit,
        "pool_timeout": _finite(limits.pool_timeout),
        "statements": sum(counters.statements),
        "unknown": counters.statements[Verdict.unknown],
        "waits": counters.waits,
        "waited": round(counters.waited, 3),
        "waited_max": round(counters.waited_max, 3),
        "refused": sum(counters.refusals.values()),
        "flagged": len(client.flagged),
    }


def server_row(server: Server, now: float) -> Row:
    since, session = server.transaction_since, server.session
    return {
        "server": server.id,
        "pid": server.pid,
        "user": server.user,
        "database": server.database,
        "state": server.state.name.lower(),
        "state_age": _age(server.since, now),
        "client": server.client.key,
        "session": None if session is None else session.id,
        "status": server.status,
        "transaction_age": None if since is None else _age(since, now),
        "due": server.due,
    }


def waiter_row(position: int, session: Session, now: float) -> Row:
    process = session.process
    return {
        "session": session.id,
        "client": session.client.key,
        "position": position,
        "waited": _age(session.since, now),
        "user": session.user,
        "database": session.database,
        "application_name": session.application_name,
        "address": session.address,
        "pid": None if process is None else process.pid,
    }


def pin_row(session: Session, reason: Reason, pin: Pin, now: float) -> Row:
    server = session.server
    return {
        "session": session.id,
        "client": session.client.key,
        "reason": reason.name.lower(),
        "what": reason.value,
        "age": _age(pin.since, now),
        "statement": pin.text,
        "user": session.user,
        "database": session.database,
        "server": None if server is None else server.id,
        "pid": None if server is None else server.pid,
    }


def _finite(seconds: float | None) -> float | None:
    return None if seconds is None or math.isinf(seconds) else seconds


def _age(since: float, now: float) -> float:
    return round(max(0.0, now - since), 3)
