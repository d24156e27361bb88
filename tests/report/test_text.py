"""The summary as a user sees it: snapshots, and the limits of the screen whatever comes."""

from __future__ import annotations

import io
import os
import pty
import re
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgguard.findings import CODES, Finding, Relation
from pgguard.report.summary import ClientRow, Outcome, PinRow, RunSummary
from pgguard.report.text import LINES, Style, essence, render, style_of, width

TEXT = 'select count(*) from "Booking" where "status" = ?'
RELATION = Relation("Booking", "", "unscoped", "no tenantId")
WIDE = Style(color=False, unicode=True)


def finding(code: str = "PGG101", client: str = "tests/test_03.py", **more) -> Finding:
    text = more.pop("text", TEXT if code.startswith("PGG1") else "")
    return Finding(
        code,
        CODES[code].title,
        client,
        'add "tenantId" = $1',
        fingerprint=more.pop("fingerprint", "aa" if text else ""),
        text=text,
        relations=[RELATION] if text else [],
        **more,
    )


def row(client: str, **more) -> ClientRow:
    numbers = {
        "sessions": 20,
        "peak": 3,
        "cap": 3,
        "waits": 17,
        "waited_max": 2.96,
        "refused": 0,
        "findings": 0,
    }
    return ClientRow(client, **{**numbers, **more})


def summary(outcome: Outcome = Outcome.HELD, **more) -> RunSummary:
    values = {
        "started": 0.0,
        "ended": 30.0,
        "sessions": 40,
        "statements": 80,
        "unknown": 0,
        "unknown_statements": 0,
        "dropped": 0,
        "bypassed": 0,
        "one_client": False,
    }
    return RunSummary(outcome, **{**values, **more})


def plain(text: str) -> str:
    return re.sub(r"\x1b\[\d+m", "", text)


def test_a_run_that_held():
    rows = [row("tests/test_01.py"), row("tests/test_02.py", waits=0)]
    assert render(summary(clients=rows), report=".pgguard/last/findings.json") == (
        "isolation held: 80 statements in 40 sessions of 2 clients, all checked\n"
        "\n"
        "client                                       sessions  peak/cap   waited (max)  refused"
        "  findings\n"
        "tests/test_01.py                                   20       3/3     17 (3.0 s)        -"
        "         -\n"
        "tests/test_02.py                                   20       3/3              -        -"
        "         -\n"
        "\n"
        "report: .pgguard/last/findings.json\n"
    )


def test_a_run_that_did_not_hold():
    found = [
        finding(count=2),
        finding(client="tests/test_07.py", fingerprint="bb", text='delete from "AddOn"'),
        finding("PGG301", "tests/test_01.py"),
        finding("PGG104", "tests/test_01.py", fingerprint="cc"),
    ]
    shown = summary(
        Outcome.NOT_HELD,
        clients=[row("tests/test_01.py", refused=1, findings=2)],
        findings=found,
        unknown=3,
        unknown_statements=2,
        one_client=True,
        advice=["scope bookings (PGG101, 2 clients)", "close idle connections (PGG301, a)"],
    )
    assert render(shown, report="r.json") == (
        "isolation did not hold: 3 findings\n"
        "\n"
        "client                                       sessions  peak/cap   waited (max)  refused"
        "  findings\n"
        "tests/test_01.py                                   20       3/3     17 (3.0 s)        1"
        "         2\n"
        "\n"
        "PGG101     2x  tests/test_03.py  "
        'Booking: select count(*) from "Booking" where "status" = ?\n'
        'PGG101     1x  tests/test_07.py  Booking: delete from "AddOn"\n'
        "PGG301     1x  tests/test_01.py  client reached its cap\n"
        "\n"
        "not seen: 3 executions of unknown scope (2 statements)\n"
        "all sessions counted as one client\n"
        "do this first: scope bookings (PGG101, 2 clients)\n"
        "               close idle connections (PGG301, a)\n"
        "report: r.json\n"
    )


def test_a_run_that_held_as_far_as_seen():
    shown = summary(Outcome.AS_FAR_AS_SEEN, unknown=1, bypassed=2)
    assert render(shown) == (
        "isolation held as far as seen: 1 execution of unknown scope (1 statement), 2 sessions went"
        " past\npgguard\n"
    )


def test_a_run_in_which_nothing_came():
    assert render(summary(Outcome.NOTHING, reason="CMD opened no connection")) == (
        "nothing came through pgguard: CMD opened no connection\n"
    )
    assert render(summary(Outcome.NOTHING)) == (
        "nothing came through pgguard: no connection was opened\n"
    )


def test_one_statement_of_many_clients_is_one_line():
    found = [finding(client=f"tests/test_{number}.py", count=2) for number in range(5)]
    lines = render(summary(Outcome.NOT_HELD, findings=found)).splitlines()
    assert lines[0] == "isolation did not hold: 5 findings"
    assert lines[2].startswith("PGG101    10x  tests/test_0.py and 4 more  Booking: select")


def test_many_clients_and_findings_share_the_screen_and_the_rest_is_counted():
    rows = [row(f"client {number}", findings=1) for number in range(40)]
    found = [finding(fingerprint=str(number), client=f"client {number}") for number in range(40)]
    advice = ["one", "two", "three"]
    shown = summary(
        Outcome.NOT_HELD, clients=rows, findings=found, advice=advice, one_client=True, unknown=1
    )
    lines = render(shown, report="r.json").splitlines()
    assert len(lines) == LINES
    named = [line for line in lines if line.startswith("client ")][1:]
    [rest] = [line for line in lines if line.startswith("and ") and "client" in line]
    [more] = [line for line in lines if line.startswith("and ") and "finding" in line]
    assert re.split(r"  +", rest) == [
        f"and {40 - len(named)} more clients",
        str(20 * (40 - len(named))),
        f"{17 * (40 - len(named))} (3.0 s)",
        "-",
        str(40 - len(named)),
    ]
    found_lines = [line for line in lines if line.startswith("PGG101")]
    assert more == f"and {40 - len(found_lines)} more findings"


def test_advice_is_wrapped_and_never_cut():
    remedy = "bookings in tests/test_cancellations.py: add AND EXISTS (SELECT FROM bookings AS"
    remedy += " owner WHERE owner.id = booking_add_ons.booking_id AND owner.tenant_id = $2)"
    shown = summary(Outcome.NOT_HELD, advice=[remedy, "second", "third"])
    assert render(shown) == (
        "isolation did not hold: 0 findings\n"
        "\n"
        "do this first: bookings in tests/test_cancellations.py: add AND EXISTS (SELECT FROM"
        " bookings AS\n"
        "               owner WHERE owner.id = booking_add_ons.booking_id AND owner.tenant_id ="
        " $2)\n"
        "               second\n"
        "               third\n"
    )


def test_advice_for_which_there_is_no_room_is_counted():
    shown = summary(Outcome.NOT_HELD, advice=["first " * 60, "second " * 80, "third"])
    lines = render(shown).splitlines()
    assert sum(line.count("first") for line in lines) == 61
    assert lines[-1].strip() == "and 2 more in the report"


def test_the_remedy_of_a_run_without_sessions_stands_before_the_report():
    shown = summary(Outcome.NOTHING, reason="likely because x", advice=["look there"])
    assert render(shown, report="r.json").splitlines()[2:] == [
        "do this first: look there",
        "report: r.json",
    ]


def test_a_long_verdict_is_wrapped():
    reason = "likely because " + "configuration " * 12
    lines = render(summary(Outcome.NOTHING, reason=reason.strip())).splitlines()
    assert " ".join(lines) == f"nothing came through pgguard: {reason.strip()}"
    assert len(lines) == 3


def test_a_statement_that_is_too_wide_loses_its_select_list_first():
    columns = ", ".join(f"packages.column_{number}" for number in range(9))
    text = f"SELECT {columns} FROM packages WHERE packages.active = $1"
    lines = render(summary(Outcome.NOT_HELD, findings=[finding(text=text)])).splitlines()
    assert lines[2].endswith("Booking: SELECT ... FROM packages WHERE packages.active = $1")
    assert essence(text, 1000) == text
    assert essence("DELETE FROM a", 3) == "DELETE FROM a"


def test_a_narrow_terminal_is_filled_and_not_left():
    rows = [row("tests/test_a_file_with_a_long_name.py")]
    style = Style(columns=70)
    shown = summary(clients=rows, advice=["x" * 30 + " " + "y" * 40])
    lines = render(shown, style=style).splitlines()
    assert max(map(width, lines)) == 70
    assert lines[3].startswith("tests/test_a_f...       20       3/3 ")


def test_a_table_that_just_fits_is_shown_whole():
    rows = [row(f"client {number}") for number in range(LINES - 5)]
    lines = render(summary(clients=rows), report="r.json").splitlines()
    assert len(lines) == LINES
    assert not any(line.startswith("and ") for line in lines)
    rows.append(row("one too many"))
    lines = render(summary(clients=rows), report="r.json").splitlines()
    assert len(lines) == LINES
    assert lines[-3].startswith("and 2 more clients")


def test_a_client_cannot_reach_the_terminal():
    hostile = "\x1b[2J\x07evil\r\nisolation held\u202e\udce9"
    for style in (Style(), Style(color=True, unicode=True)):
        text = render(summary(clients=[row(hostile)]), style=style)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", plain(text))
        assert len(text.splitlines()) == 4
        text.encode()


def test_without_a_terminal_all_is_ascii():
    shown = summary(clients=[row("prüfung ✓" * 30)])
    assert render(shown).isascii()
    assert "prüfung ✓" in render(shown, style=WIDE)
    assert "…" in render(shown, style=WIDE)


def test_colours_change_nothing_but_colours():
    shown = summary(
        Outcome.NOT_HELD,
        clients=[row("a", refused=1), *(row(f"c {number}") for number in range(40))],
        findings=[finding(), finding("PGG309", "b")],
        advice=["x"],
    )
    colored = render(shown, style=Style(color=True))
    assert colored != render(shown)
    assert plain(colored) == render(shown)


NAMES = st.text(max_size=150)
NUMBERS = st.integers(0, 10**12)
ROWS = st.lists(
    st.builds(
        row,
        NAMES,
        sessions=NUMBERS,
        peak=NUMBERS,
        cap=NUMBERS,
        waits=NUMBERS,
        waited_max=st.floats(0, 1e9),
        refused=NUMBERS,
        findings=NUMBERS,
    ),
    max_size=40,
)
FOUND = st.lists(
    st.builds(
        finding,
        st.sampled_from(sorted(CODES)),
        NAMES,
        text=NAMES,
        fingerprint=st.text("abc", max_size=2),
        count=NUMBERS,
    ),
    max_size=40,
)


@given(
    st.sampled_from(Outcome),
    ROWS,
    FOUND,
    st.lists(NAMES, max_size=3),
    NAMES,
    st.booleans(),
    NUMBERS,
)
def test_it_never_leaves_the_screen(outcome, rows, found, advice, report, flag, number):
    shown = summary(
        outcome,
        clients=rows,
        findings=found,
        advice=advice,
        reason=report,
        one_client=flag,
        unknown=number,
        dropped=number,
        bypassed=None if flag else number,
    )
    for style in (Style(), Style(color=flag, unicode=True, columns=40)):
        lines = plain(render(shown, report=report, style=style)).split("\n")
        assert lines.pop() == ""
        assert len(lines) <= LINES
        assert max(map(width, lines)) <= style.columns


def test_wide_characters_count_twice_and_combining_ones_not_at_all():
    assert width("日本") == 4
    assert width("e\u0301") == 1


class Screen(io.StringIO):
    def __init__(self, *, terminal: bool, encoding: str = "utf-8") -> None:
        super().__init__()
        self._terminal, self._encoding = terminal, encoding

    def isatty(self) -> bool:
        return self._terminal

    @property
    def encoding(self) -> str:
        return self._encoding


@pytest.mark.parametrize(("columns", "used"), [(80, 80), (200, 100), (10, 40), (0, 100)])
def test_a_terminal_is_used_as_wide_as_it_is_up_to_100_columns(columns, used):
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    with os.fdopen(slave, "w", encoding="utf-8") as terminal:
        assert style_of(terminal, {}).columns == used
    os.close(master)


@pytest.mark.parametrize(
    ("screen", "env", "style"),
    [
        (Screen(terminal=True), {}, Style(color=True, unicode=True)),
        (Screen(terminal=True), {"NO_COLOR": "1"}, Style(color=False, unicode=True)),
        (Screen(terminal=True), {"NO_COLOR": ""}, Style(color=True, unicode=True)),
        (Screen(terminal=True), {"TERM": "dumb"}, Style(color=False, unicode=True)),
        (Screen(terminal=True, encoding="latin-1"), {}, Style(color=True, unicode=False)),
        (Screen(terminal=False), {}, Style()),
    ],
)
def test_the_style_is_what_the_stream_can_show(screen, env, style):
    assert style_of(screen, env) == style


def test_other_guards_are_named():
    one, two = (f"another pgguard at h:1 (pid {pid}) holds 3 of 5" for pid in (1, 2))
    assert f"\non the same Postgres: {one}\n" in render(summary(neighbours=[one]))
    assert f"\non the same Postgres: {one}, and 1 more\n" in render(summary(neighbours=[one, two]))


def test_who_kept_connections_most_is_told_with_the_statement():
    lock = PinRow("a.py", "lock", 12, "select pg_advisory_lock(?)")
    line = "kept their connection: a.py 12x (lock: select pg_advisory_lock(?))"
    assert f"\n{line}\n" in render(summary(pins=[lock]))
    listen = PinRow("b.py", "listen", 1, "LISTEN x")
    assert f"\n{line}, and 1 other reason\n" in render(summary(pins=[lock, listen]))
