"""The demo's last screen: small enough, honest, and strict about what it must show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.cli.demo_screen import Comparison, Crowd, Progress, print_result
from pgguard.findings import Finding, Relation
from pgguard.launch.suite import PLANTED, FileOutcome, files
from pgguard.report.summary import ClientRow, Outcome, RunSummary

if TYPE_CHECKING:
    import pytest

WORDS = "FATAL:  sorry, too many clients already"
PGGUARDS = "FATAL:  pgguard: all 24 server connections are in use (limits.total)"


def planted() -> list[Finding]:
    return [
        Finding(
            code="PGG101",
            title="",
            client=file,
            remedy="",
            text="SELECT title\nFROM packages WHERE active = $1 ORDER BY price, id, title, tenant",
            relations=[Relation(table, table, "unscoped", "")],
        )
        for table, file in PLANTED
    ]


def summary(findings: list[Finding]) -> RunSummary:
    rows = [ClientRow(name, 22, 7, 10, 15, 3.25, 0, 0) for name in files()]
    return RunSummary(
        outcome=Outcome.NOT_HELD,
        started=0.0,
        ended=1.0,
        sessions=220,
        statements=300,
        unknown=0,
        unknown_statements=0,
        dropped=0,
        bypassed=0,
        one_client=False,
        clients=rows,
        findings=findings,
    )


def comparison(*, direct_failures: int = 10, findings: list[Finding] | None = None) -> Comparison:
    names = files()
    result = Comparison(
        names,
        direct={
            name: FileOutcome(1, 2, WORDS) if number < direct_failures else FileOutcome(3)
            for number, name in enumerate(names)
        },
        guarded={name: FileOutcome(3) for name in names},
        most=24,
        open=200,
        limit="the limit is 24 (30 less 3 reserved less a margin of 3)",
        seconds={"direct": 12.4, "guarded": 17.0},
        statuses={"direct": 1, "guarded": 0},
    )
    result.close(summary(planted() if findings is None else findings))
    return result


WORST = Crowd(sessions=200, servers=24, waiting=176, idle=dict.fromkeys(files(), 2) | {"x.py": 4})


def in_session_mode() -> Comparison:
    result = comparison()
    result.mode = "session"
    result.guarded = {name: FileOutcome(2, 1, PGGUARDS) for name in files()}
    result.statuses["guarded"] = 1
    result.saw(WORST)
    return result


def test_everything_as_it_should_be_has_no_problems() -> None:
    assert comparison().problems() == []
    assert comparison(direct_failures=8).problems() == []


def test_too_few_direct_failures_are_a_problem() -> None:
    (problem,) = comparison(direct_failures=7).problems()
    assert problem.startswith("directly only 7 files met 'too many clients'")


def test_a_direct_failure_for_another_reason_does_not_count() -> None:
    result = comparison(direct_failures=8)
    result.direct[files()[0]].refusal = ""
    assert len(result.problems()) == 1


def test_a_file_that_failed_or_is_missing_through_the_guard_is_a_problem() -> None:
    result = comparison()
    result.guarded[files()[0]].failed = 1
    del result.guarded[files()[1]]
    (problem,) = result.problems()
    assert problem.startswith("through pgguard only 8 files passed")


def test_a_suite_that_ended_badly_is_a_problem_even_if_no_test_failed() -> None:
    result = comparison()
    result.statuses["guarded"] = 3
    assert len(result.problems()) == 1


def test_without_more_connections_than_servers_nothing_is_shown() -> None:
    result = comparison()
    result.open = result.most
    (problem,) = result.problems()
    assert problem.startswith("no more connections were open than Postgres has")


def test_in_session_mode_files_that_fail_are_what_is_to_be_shown() -> None:
    result = in_session_mode()
    assert result.problems() == []
    for name in files()[:3]:
        result.guarded[name] = FileOutcome(3)
    assert result.problems() == ["in session mode only 7 files were refused"]


def test_the_worst_moment_is_when_most_was_idle_while_others_waited() -> None:
    result = comparison()
    for waiting, idle in ((0, 9), (5, 3), (7, 3), (9, 2)):
        result.saw(Crowd(sessions=1, servers=idle, waiting=waiting, idle={"x.py": idle}))
    assert (result.worst.waiting, result.worst.idle) == (7, {"x.py": 3})
    assert (result.most, result.open) == (24, 200)
    result.saw(Crowd(sessions=201, servers=25))
    assert (result.most, result.open) == (25, 201)


def test_the_screen_of_session_mode_says_who_waits_for_what_and_who_keeps_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_result(in_session_mode(), "x")
    out = capsys.readouterr().out
    assert len(out.splitlines()) <= 24
    assert max(map(len, out.splitlines())) <= 100
    assert out.isascii()
    said = (
        "176 waited for 24 that were idle in pools, and kept until the pool closes:"
        " x.py 4, test_add_ons.py 2, test_availability.py 2, others 16"
    )
    assert said in " ".join(out.split())
    assert "0 of 10 files passed" in out
    assert out.count("1 failed: refused") == 10


def test_a_planted_statement_must_be_seen_with_its_table_and_file() -> None:
    findings = planted()
    findings[0].client = "test_search.py"
    findings[1].relations[0].name = "packages"
    (problem,) = comparison(findings=findings).problems()
    assert problem == (
        "planted statements not seen: packages in test_catalog.py,"
        " bookings in test_cancellations.py"
    )


def test_the_last_screen_fits_and_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(comparison(), ".pgguard/20260101T000000Z-1/findings.json")
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert err == ""
    assert out.isascii()
    for text in (
        WORDS,
        "10 of 10 files failed in 12 s",
        "10 of 10 files passed in 17 s; 200 of 200 connections open at once,",
        "                 on at most 24 servers: the limit is 24 (30 less",
        "SELECT title FROM packages WHERE active = $1 ORDER BY price, id, title, tenant\n",
        "2 of 2 planted statements found",
        "packages in test_catalog.py",
        "bookings in test_cancellations.py",
        "report: .pgguard/20260101T000000Z-1/findings.json",
        "7/10  15 (3.2 s)",
    ):
        assert text in out
    assert sum(line.startswith("test_") for line in lines) == 10


def test_what_is_not_as_it_should_be_is_said_last(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(comparison(findings=[]), "x")
    assert capsys.readouterr().out.splitlines()[-1].startswith("not as it should be: planted")


def test_without_a_terminal_progress_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(comparison()) as progress:
        progress.update("not shown")
        progress.tell("directly: starting")
    assert capsys.readouterr() == ("", "pgguard: directly: starting\n")
