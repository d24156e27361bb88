"""The metrics of surface.md: names, kinds, labels, help, and where each number comes from.

Laws: names are final and have no prefix here; everything is read lazily, row by row, so that the
writer decides how much is done at a time. Those of a feature that is not built do not exist.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pgguard.findings import Verdict
from pgguard.record.exposition import Family, clean
from pgguard.record.ledger import OTHER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgguard.counters import Histogram
    from pgguard.record.ledger import Series, Sums
    from pgguard.record.subject import Hub

SQLSTATES = 200
"""SQLSTATEs that have a series of their own."""

SESSION_STATES = ("login", "waiting", "linked", "closing")
SERVER_STATES = ("connecting", "idle", "linked", "closing")


def client_families(sums: Mapping[str, Sums]) -> Iterator[Family]:
    yield Family(
        "client_sessions",
        "gauge",
        "Frontend connections of a client now, by state.",
        ("client", "state"),
        (
            ((label, state), of.states.get(state, 0))
            for label, of in sums.items()
            for state in dict.fromkeys((*SESSION_STATES, *of.states))
        ),
    )
    for name, attribute, text in (
        ("client_server_connections", "held", "Server connections that a client holds now."),
        (
            "client_server_connections_peak",
            "peak",
            "Most server connections that a client ever held at once.",
        ),
        ("client_connection_limit", "limit", "Server connections that a client may hold at once."),
        ("client_waiting", "waiting", "Sessions of a client that wait for a server connection."),
    ):
        yield Family(name, "gauge", text, ("client",), _of_each(sums, attribute))
    yield Family(
        "refusals",
        "counter",
        "Sessions that pgguard refused a server connection, by reason.",
        ("client", "reason"),
        (
            ((label, reason), number)
            for label, of in sums.items()
            for reason, number in of.refusals.items()
        ),
    )
    yield Family(
        "pinned_sessions",
        "gauge",
        "Sessions of a client that keep their server connection now, by reason.",
        ("client", "reason"),
        (
            ((label, reason), number)
            for label, of in sums.items()
            for reason, number in of.pinned.items()
        ),
    )
    pins = Counter[str]()
    for of in sums.values():
        pins.update(of.pins)
    yield Family(
        "pins",
        "counter",
        "Times that a session began to keep its server connection, by reason.",
        ("reason",),
        [((reason,), number) for reason, number in pins.items()],
    )
    yield Family(
        "statements",
        "counter",
        "Statements executed, by what is known of their tenant scope.",
        ("client", "verdict"),
        (
            ((label, verdict.name), of.statements[verdict])
            for label, of in sums.items()
            for verdict in Verdict
        ),
    )


def _of_each(sums: Mapping[str, Sums], attribute: str) -> Iterator[tuple[tuple[str, ...], int]]:
    return (((label,), getattr(of, attribute)) for label, of in sums.items())


def process_families(hub: Hub, executed: int) -> Iterator[Family]:
    """`executed` statements were counted under a verdict so far."""
    counters = hub.counters
    states = dict.fromkeys(SERVER_STATES, 0)
    for server in list(hub.servers):
        state = server.state.name.lower()
        states[state] = states.get(state, 0) + 1
    yield Family(
        "server_connections",
        "gauge",
        "Connections to Postgres now, by state.",
        ("state",),
        [((state,), number) for state, number in states.items()],
    )
    total = hub.admission.total
    yield Family(
        "server_connections_limit",
        "gauge",
        "Connections to Postgres allowed in all; no value where there is no limit.",
        (),
        [] if total is None else [((), total)],
    )
    for name, text, value in (
        ("upstream_up", "1 while Postgres answers.", int(counters.upstream_up)),
        ("loop_lag_seconds", "How late the event loop runs its timers.", counters.loop_lag_seconds),
    ):
        yield Family(name, "gauge", text, (), [((), value)])
    # The hot loop does not count what it finds: it is what was executed and not settled.
    hits = executed - counters.settled + counters.cache_hits
    for name, text, number in (
        ("statement_cache_hits", "Executions of statements whose facts were known.", hits),
        ("statement_cache_misses", "Statements seen for the first time.", counters.cache_misses),
        ("received_bytes", "Bytes received from sessions.", counters.received_bytes),
        ("sent_bytes", "Bytes sent to sessions.", counters.sent_bytes),
    ):
        yield Family(name, "counter", text, (), [((), number)])
    yield Family(
        "transactions",
        "counter",
        "Transactions ended, by outcome.",
        ("outcome",),
        [
            (("commit",), counters.transactions["commit"] + counters.autocommit_seconds.count),
            (("rollback",), counters.transactions["rollback"]),
        ],
    )
    yield Family(
        "pinned_transactions",
        "counter",
        "Transactions behind which the session was pinned to its server, by one of the reasons; by "
        "what is only suspected if there is nothing else.",
        ("reason",),
        [((reason,), number) for reason, number in counters.pinned_transactions.items()],
    )
    yield Family(
        "errors",
        "counter",
        "Errors that Postgres sent, by SQLSTATE.",
        ("sqlstate",),
        _bounded(counters.errors, SQLSTATES),
    )
    yield from _histograms(hub)


def _histograms(hub: Hub) -> Iterator[Family]:
    counters = hub.counters
    for name, text, histogram in (
        (
            "pool_wait_seconds",
            "How long sessions waited for a server connection.",
            counters.pool_wait_seconds,
        ),
        (
            "statement_seconds",
            "From a statement's arrival to the end of its reply.",
            counters.statement_seconds + counters.autocommit_seconds,
        ),
        (
            "transaction_seconds",
            "Length of transactions.",
            counters.transaction_seconds + counters.autocommit_seconds,
        ),
        (
            "idle_in_transaction_seconds",
            "How long transactions waited for their client.",
            counters.idle_in_transaction_seconds,
        ),
        ("analysis_seconds", "Time to analyse a new statement.", counters.analysis_seconds),
    ):
        yield Family(name, "histogram", text, (), [((), histogram)])
    parts: list[tuple[tuple[str, ...], Histogram]] = [
        (("wait",), counters.added_wait),
        (("analysis",), counters.added_analysis),
        (("loop",), counters.added_loop),
    ]
    yield Family("added_seconds", "histogram", "Time that pgguard added.", ("part",), parts)


def _bounded(numbers: Mapping[str, int], limit: int) -> list[tuple[tuple[str, ...], int]]:
    """The first `limit` of a table that only grows, and the sum of the others."""
    items = list(numbers.items())
    rows: list[tuple[tuple[str, ...], int]] = [((clean(key),), n) for key, n in items[:limit]]
    if len(items) > limit:
        rows.append(((OTHER,), sum(number for _, number in items[limit:])))
    return rows


def finding_family(findings: Mapping[Series, int]) -> Family:
    return Family(
        "findings",
        "counter",
        "Times that something was found, by code, class, client, table and action.",
        ("code", "class", "client", "table", "action"),
        list(findings.items()),
    )


def build_family(version: str, python: str) -> Family:
    return Family(
        "build",
        "info",
        "Version of pgguard and of the Python that runs it.",
        ("version", "python"),
        [((version, python), 1)],
    )
