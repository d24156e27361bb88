"""What a run came to: "held" is said only if everything was seen."""

from __future__ import annotations

import pytest
from hubs import FakeHub, FakeStatement, FakeTally

from pgguard.findings import Finding, Relation, Verdict
from pgguard.report.summary import ADVICE, Outcome, RunSummary, summarise


def finding(code: str = "PGG101", client: str = "a", **more) -> Finding:
    return Finding(code, "title", client, more.pop("remedy", f"fix {code}"), **more)


def run(hub: FakeHub, *findings: Finding, bypassed: int | None = 0, **more) -> RunSummary:
    return summarise(
        hub,
        findings,
        bypassed=bypassed,
        neighbours=more.pop("neighbours", ()),
        started=100.0,
        ended=160.0,
        reason_nothing=more.pop("reason_nothing", "CMD opened no connection"),
    )


@pytest.fixture
def hub() -> FakeHub:
    hub = FakeHub()
    hub.client("a", sessions=3, statements=10)
    return hub


def test_a_run_in_which_all_was_seen_and_fine_held(hub):
    summary = run(hub)
    assert (summary.outcome, summary.gaps()) == (Outcome.HELD, [])
    assert (summary.sessions, summary.statements) == (3, 10)
    assert (summary.started, summary.ended) == (100.0, 160.0)


def test_an_error_means_that_it_did_not_hold(hub):
    summary = run(hub, finding(), finding("PGG104"), finding("PGG309"))
    assert (summary.outcome, summary.errors) == (Outcome.NOT_HELD, 1)


def test_notes_and_warnings_alone_do_not_break_it(hub):
    assert run(hub, finding("PGG104"), finding("PGG309")).outcome is Outcome.HELD


def test_a_severity_of_its_own_counts(hub):
    softened = finding("PGG310", severity="warning")
    assert run(hub, softened).outcome is Outcome.HELD
    assert run(hub, finding("PGG310")).outcome is Outcome.NOT_HELD


def test_a_statement_of_unknown_scope_means_only_as_far_as_seen(hub):
    client = hub.clients["a"]
    client.counters.statements[Verdict.unknown] = 5
    client.flagged[FakeStatement("1", verdict=Verdict.unknown, code="PGG106")] = FakeTally(2)
    client.flagged[FakeStatement("2", verdict=Verdict.unknown, code="PGG106")] = FakeTally(3)
    summary = run(hub)
    assert summary.outcome is Outcome.AS_FAR_AS_SEEN
    assert summary.gaps() == ["5 executions of unknown scope (2 statements)"]


def test_one_unknown_execution_is_enough(hub):
    hub.clients["a"].counters.statements[Verdict.unknown] = 1
    summary = run(hub)
    assert summary.outcome is Outcome.AS_FAR_AS_SEEN
    assert summary.gaps() == ["1 execution of unknown scope (1 statement)"]


@pytest.mark.parametrize(
    ("bypassed", "gap"),
    [
        (1, "1 session went past pgguard"),
        (4, "4 sessions went past pgguard"),
        (None, "sessions past pgguard could not be looked for"),
    ],
)
def test_sessions_past_us_mean_only_as_far_as_seen(hub, bypassed, gap):
    summary = run(hub, bypassed=bypassed)
    assert (summary.outcome, summary.gaps()) == (Outcome.AS_FAR_AS_SEEN, [gap])


def test_beside_another_guard_it_is_not_known_who_went_past_us(hub):
    summary = run(hub, neighbours=["another pgguard at h:1 (pid 2) holds 3 of 5"])
    assert summary.outcome is Outcome.AS_FAR_AS_SEEN
    assert summary.gaps() == ["sessions past pgguard look like those of another one"]


def test_dropped_rows_mean_only_as_far_as_seen(hub):
    dropped = finding("PGG902", "", count=7)
    assert run(hub, dropped).gaps() == ["7 rows dropped"]
    assert run(hub, dropped).outcome is Outcome.AS_FAR_AS_SEEN
    hub.counters.events_dropped = 1
    assert run(hub).gaps() == ["1 row dropped"]


def test_a_statement_that_was_not_analysed_means_only_as_far_as_seen(hub):
    summary = run(hub, finding("PGG901"))
    assert (summary.outcome, summary.gaps()) == (
        Outcome.AS_FAR_AS_SEEN,
        ["1 statement not analysed"],
    )


def test_an_error_outweighs_what_was_not_seen(hub):
    assert run(hub, finding(), bypassed=1).outcome is Outcome.NOT_HELD


def test_nothing_came_through_says_why():
    summary = run(FakeHub())
    assert (summary.outcome, summary.reason) == (Outcome.NOTHING, "CMD opened no connection")


def test_a_refusal_is_told_even_if_no_session_was_served():
    assert run(FakeHub(), finding("PGG310")).outcome is Outcome.NOT_HELD


def test_rows_come_busiest_first_with_their_numbers():
    hub = FakeHub()
    for name, sessions, refused in (("a", 5, 0), ("b", 9, 0), ("c", 1, 2), ("d", 9, 0)):
        client = hub.client(name, sessions=sessions)
        client.counters.refusals = {"cap": refused}
    client.counters.waits, client.counters.waited_max = 4, 1.5
    client.share.peak = 3
    rows = run(hub, finding(client="d"), finding("PGG104", "d")).clients
    assert [row.client for row in rows] == ["c", "d", "b", "a"]
    d = rows[1]
    assert (d.sessions, d.peak, d.cap, d.waits, d.waited_max, d.refused, d.findings) == (
        9,
        3,
        10,
        4,
        1.5,
        0,
        2,
    )


def test_all_sessions_under_one_address_are_said_to_be_one_client():
    hub = FakeHub()
    hub.client("127.0.0.1", sessions=2).rule = "address"
    summary = run(hub)
    assert summary.one_client
    assert summary.advice[-1].startswith("name your clients")
    hub.client("tests/test_a.py", sessions=1)
    assert not run(hub).one_client


def test_a_single_session_by_address_needs_no_advice():
    hub = FakeHub()
    hub.client("127.0.0.1", sessions=1).rule = "address"
    assert not run(hub).one_client


def test_advice_names_what_would_remove_most_errors_first():
    hub = FakeHub()
    hub.client("a", sessions=2).rule = "address"
    summary = run(
        hub,
        finding("PGG309", remedy="wait longer"),
        *(finding(client=name, remedy="scope bookings") for name in "abc"),
        finding(client="a", remedy="scope packages"),
        finding("PGG104", remedy="never said"),
        finding("PGG310", "", severity="warning", remedy=""),
    )
    assert summary.advice == [
        "scope bookings (PGG101, 3 clients)",
        "scope packages (PGG101, a)",
        (
            "name your clients: one application_name for each test file "
            "(now all sessions counted as one client)"
        ),
    ]
    assert len(summary.advice) == ADVICE


def test_advice_about_a_table_says_where_and_in_what_statement(hub):
    relation = Relation("bookings", "", "unscoped", "no tenant_id", "add AND tenant_id = $2")
    once = {"fingerprint": "1", "text": "DELETE FROM bookings", "relations": [relation]}
    other = once | {"fingerprint": "2", "text": "select * from bookings"}
    assert run(hub, finding(client="a.py", **once)).advice == [
        "bookings in a.py: add AND tenant_id = $2 (PGG101, DELETE)"
    ]
    assert run(hub, *(finding(client=name, **other) for name in "ab")).advice == [
        "bookings in 2 clients: add AND tenant_id = $2 (PGG101, SELECT)"
    ]
    assert run(hub, finding(client="a.py", **once), finding(client="a.py", **other)).advice == [
        "bookings in a.py: add AND tenant_id = $2 (PGG101, 2 statements)"
    ]


def test_a_statement_of_two_clients_that_was_not_analysed_is_one_statement(hub):
    found = [finding("PGG901", name, fingerprint="1") for name in "ab"]
    assert run(hub, *found).gaps() == ["1 statement not analysed"]


def test_advice_about_nobody_names_nobody(hub):
    summary = run(hub, finding("PGG902", "", remedy="split the run"))
    assert summary.advice == ["split the run (PGG902)"]


def test_pins_are_told_by_client_and_reason_the_most_frequent_first(hub):
    hub.clients["a"].pin("listen", "LISTEN x", 2)
    other = hub.client("b", sessions=1)
    other.pin("lock", "select pg_advisory_lock(?)", 3)
    other.pin("listen", "LISTEN y", 2)
    assert [(row.client, row.reason, row.number) for row in run(hub).pins] == [
        ("b", "lock", 3),
        ("a", "listen", 2),
        ("b", "listen", 2),
    ]
