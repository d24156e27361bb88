"""Known differences between direct and through pgguard, each with its cause. The only such list.

A line is for what cannot or should not be the same, and says why in words that somebody who trusts
nothing can check; transparency is the aim, so the list is short and a line that no longer fits is
a failure of its suite, too (`unused`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

INVENTED_PID = (
    "with pool.mode = transparent a login may be answered without a server, so BackendKeyData has"
    " a pid that no backend can have (above 4194304); pg_backend_pid() is that of the server which"
    " the session has then, and keeps from then on, so that it can be looked up in"
    " pg_stat_activity. pg_terminate_backend and pg_cancel_backend take either; notifications name"
    " the former, and the latter from when the session has asked for it"
)

LATE_STATISTICS = (
    "what a backend has counted it keeps to itself until it next reports, at most once a second,"
    " after ten seconds at rest at the latest (pgstat_report_stat in pgstat.c);"
    " pg_stat_force_next_flush(), which the manual does not have, sets a variable of the backend"
    " that executes it. What earlier transactions of the session have counted on another server is"
    " reported a little later, and none of it is lost"
)

LIBRARY_STATE = (
    "its trigger functions are C code of the test's own library with variables of their own: refint"
    " caches, for the life of a backend, plans into which the values of the first row are written,"
    " and set_ttdummy() flips a static one. Postgres shows such variables to nobody (a backend with"
    " a loaded library is no different in any view), and to keep the server after every call of a"
    " function in C would keep it for most extensions. LOAD, PL/Python, PL/Perl and PL/Tcl keep it"
)

KNOWN: dict[tuple[str, str], str] = {
    ("PostgreSQL's suites where servers are shared", "stats"): LATE_STATISTICS,
    ("PostgreSQL's suites where servers are shared", "triggers"): LIBRARY_STATE,
    (
        "asyncpg",
        "tests/test_execute.py::TestExecuteMany::test_executemany_server_failure_during_writes",
    ): (
        "a race that it loses directly, too (19 of 35 times; through pgguard 27 of 35, both on two "
        "busy cores): Postgres's error has to overtake 4 MiB that the test itself is writing, and "
        "the kernel takes just as much into one send buffer; a second connection has a second one"
    ),
    (
        "node-postgres",
        "pg-pool/events: events emits acquire every time a client is acquired",
    ): (
        "ten logins at once, and 100 ms for all of them and twenty statements: at the 140 logins a"
        " second of Postgres on one processor they take 71 ms, at the 107 through pgguard, where"
        " two dialogues are held for each, 93 ms (`python -m tests.bench connects`, SCRAM, 8 at"
        " once). Seen beside another battery on two cores: 1 of 7 runs, and 17 of the 20 in time"
    ),
    (
        "node-postgres",
        "pg-pool/sizing: pool size of 1 can only send 1 query at a time",
    ): (
        "it counts the rows of pg_stat_activity whose `query` is its own text. There Postgres shows"
        " of a backend at rest what it executed last (manual, table pg_stat_activity), and with"
        " pool.restless, a setting for tests alone, each of its queries gets the server that has"
        " rested longest, so that all of them show it in the end. Alone it has one server, and"
        " without pool.restless it keeps one"
    ),
    ("node-postgres-client", "test/integration/connection-pool/error-tests.js"): (
        "it terminates every backend that pg_stat_activity shows at rest, and waits for the error"
        " of a client at rest. With pool.restless, a setting for tests alone, that client has no"
        " server between its transactions: the backends that die are nobody's, and it goes on"
        " unharmed. Whoever means the session names the pid that it was told"
    ),
    ("logins", "startup: protocol 2.0"): (
        "Postgres answers such a client in the format of protocol 2, which nobody has spoken since"
        " Postgres 7.3; pgguard in that of protocol 3. Both refuse"
    ),
    ("logins", "startup: protocol 4.0"): (
        "the same refusal; it names the versions that pgguard speaks (3.0 to 3.2), not those of the"
        " Postgres behind it (before 18: 3.0)"
    ),
    ("logins", "startup: setting twice"): (
        "of a startup parameter that comes twice the last value counts; Postgres applies both in"
        " turn, which shows in DateStyle alone, whose two halves can be set by one value each"
    ),
    ("logins", "relayed login that a client would bind to TLS"): (
        "TLS ends at pgguard on both sides, so a binding to either certificate would fail at the"
        " other end (RFC 5802 section 6); pgguard holds no secret of this user and may not read"
        " pg_authid, so it says so (28000, with three remedies) instead of letting the login fail"
    ),
    ("logins", "relayed login over TLS: PLUS is not offered"): (
        "the same: SCRAM-SHA-256-PLUS is taken out of Postgres's offer, everything else is equal"
    ),
    ("logins", "known for another one: HINT"): (
        "Postgres's words and SQLSTATE to whom peer or cert knows for another one; pgguard adds a"
        " HINT on whom it can let in, because the remedy (listen.trust, or a client of its own"
        " user) is one that Postgres does not have"
    ),
    ("logins", "known to Postgres by its own uid or certificate"): (
        "peer and cert judge the process at the other end of Postgres's own socket, and that is"
        " pgguard: a uid cannot be passed on (unix(7)), nor can a certificate, whose owner signs"
        " this very TLS connection (RFC 8446 section 4.4.3). Who is not of pgguard's user is"
        " refused (28000) rather than let in by what somebody else is"
    ),
    ("logins", "trust over a unix socket, another user"): (
        "the socket of Postgres may be in a directory that only some can enter, which pgguard"
        " cannot know of its clients; listen.trust lets them in"
    ),
    ("logins", "clientcert=verify-full: the name in the client's certificate"): (
        "the certificate whose name Postgres compares is pgguard's, for the same reason. A client"
        " needs the role's password and, with listen.client_ca, a certificate of the same"
        " authority. Another role than that of pgguard's certificate is refused in Postgres's"
        " words, which come behind pgguard's own AuthenticationOk"
    ),
    **dict.fromkeys(
        (
            ("drivers", "psycopg 3, login[outcome][8]"),
            ("drivers", "psycopg2, login[outcome][6]"),
            ("drivers", "asyncpg, login[outcome][2]"),
            ("drivers", "node-postgres, login[outcome][0]"),
            ("psycopg2", "tests/test_connection.py::TestConnectionInfo::test_backend_pid"),
        ),
        INVENTED_PID,
    ),
    ("features", "lastval"): (
        "the first lastval of a client, behind an INSERT whose server another session needed in"
        " between: 55000, never another session's number. Postgres has no way to make that state on"
        " another server (sequence.c keeps it in the backend alone), and to keep the server after"
        " every INSERT into a serial column would pin all that ORMs do. From this call on the"
        " client's sessions keep theirs: the states with `lastval` and `currval` behind a first use"
        " are kept in every way"
    ),
    ("fuzz", "protocol version below 18"): "pgguard speaks protocol 3.2 with every server, so with "
    "one before PostgreSQL 18 the version in NegotiateProtocolVersion and the length of the cancel "
    "key are pgguard's own; names of unknown options are compared",
    ("fuzz", "last words behind a reset"): "when Postgres closes with bytes of the client unread, "
    "its kernel resets the connection and throws away what it has not sent yet, so nobody can "
    "receive it, pgguard as little as a client. Last words are missing without being a difference "
    "only if the record of the connection between pgguard and Postgres shows that reset, that "
    "pgguard gave its client all that came before it (and in their place at most its own word "
    "that the connection was lost), and nothing but the client's bytes to Postgres",
    (
        "fuzz",
        "an end before the login is over",
    ): "a client that half-closes or says Terminate before "
    "its first ReadyForQuery has left while it waited for its server: its ticket is withdrawn and "
    "nothing of it is executed (transparency T4), so that it may hear less than directly, never "
    "anything else",
    (
        "fuzz",
        "protocol below 3",
    ): "Postgres refuses whoever asks for it in the format of protocol 2, "
    "pgguard in that of protocol 3; the words are compared (as in the logins)",
    ("fuzz", "place in the source"): "errors of the login that pgguard gives itself have no file, "
    "line and routine (fields F, L, R)",
}
"""(suite, name of the test) to cause."""


def unexplained(suite: str, names: Collection[str]) -> list[str]:
    """Those names for which no cause is known."""
    return sorted(name for name in names if (suite, name) not in KNOWN)


def explained(suite: str, names: Collection[str]) -> list[str]:
    """`name: cause` of the others."""
    return [f"{name}: {KNOWN[suite, name]}" for name in sorted(names) if (suite, name) in KNOWN]


def unused(suite: str, names: Collection[str]) -> list[str]:
    """Names with a cause that did not differ in a run of the whole suite."""
    return sorted(name for listed, name in KNOWN if listed == suite and name not in names)


def causes(suite: str) -> list[str]:
    """All of a suite."""
    return [cause for (listed, _), cause in KNOWN.items() if listed == suite]
