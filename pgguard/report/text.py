"""The summary on a terminal: at most 24 lines of 100 columns, or of as many as a terminal has.

Laws: never wider or longer, whatever clients call themselves; the verdict and what is to be done
are wrapped and not cut; no control character of a client reaches the terminal; what is left out is
counted; without a terminal, or with NO_COLOR set, plain ASCII without colours.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from pgguard.record.findings import severity, worst_table
from pgguard.report.summary import ClientRow, Outcome, RunSummary, plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgguard.findings import Finding

LINES = 24
COLUMNS = 100
NARROWEST = 40
NAME, SHORTEST_NAME = 44, 12
"""Columns of a client's name in the table."""
NUMBERS = 53
"""Columns of the table behind the name."""
VERDICT_LINES, NOTE_LINES, ADVICE_LINES = 3, 2, 10
"""Lines that these may take at most."""
TO_DO = "do this first: "

_SELECT_LIST = re.compile(r"^(select) .+? (from) ", re.IGNORECASE)

RED, GREEN, YELLOW, BOLD, DIM = "31", "32", "33", "1", "2"

_COLOR = {
    Outcome.HELD: GREEN,
    Outcome.AS_FAR_AS_SEEN: YELLOW,
    Outcome.NOT_HELD: RED,
    Outcome.NOTHING: RED,
}


@dataclass(frozen=True, slots=True)
class Style:
    """How much the place where we print can show."""

    color: bool = False
    unicode: bool = False
    columns: int = COLUMNS

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.color else text

    @property
    def ellipsis(self) -> str:
        return "…" if self.unicode else "..."


def style_of(stream: TextIO, env: Mapping[str, str] | None = None) -> Style:
    """What `stream` can show: colours on a terminal only, and not with NO_COLOR or TERM=dumb."""
    env = os.environ if env is None else env
    terminal = stream.isatty()
    plain = bool(env.get("NO_COLOR")) or env.get("TERM") == "dumb"
    encoding = (getattr(stream, "encoding", "") or "").lower().replace("-", "")
    unicode = terminal and encoding.startswith("utf")
    return Style(terminal and not plain, unicode, _columns_of(stream) if terminal else COLUMNS)


def _columns_of(stream: TextIO) -> int:
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return COLUMNS
    return max(NARROWEST, min(columns or COLUMNS, COLUMNS))


def render(summary: RunSummary, *, report: str = "", style: Style | None = None) -> str:
    """The summary as text with a final newline; `report` is the path of the written report."""
    style = style or Style()
    color = _COLOR[summary.outcome]
    verdict = _wrap("", _verdict(summary), VERDICT_LINES, style)
    top = [style.paint(line, color) for line in verdict]
    notes = [line for note in _notes(summary) for line in _wrap("", note, NOTE_LINES, style)]
    advice = _advice(summary, style)
    end = [_fit(f"report: {report}", style.columns, style)] if report else []
    found = _groups(summary.findings)
    blanks = sum(map(bool, (summary.clients, found, notes + advice + end)))
    room = LINES - len(top) - len(notes) - len(advice) - len(end) - blanks
    table_wanted = len(summary.clients) + 1 if summary.clients else 0
    found_room = min(len(found), max(room - table_wanted, room // 2))
    blocks = [
        top,
        _table(summary.clients, room - found_room, style),
        _found(found, found_room, style),
        notes + advice + end,
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _verdict(summary: RunSummary) -> str:
    if summary.outcome is Outcome.NOTHING:
        return f"nothing came through pgguard: {summary.reason or 'no connection was opened'}"
    if summary.outcome is Outcome.NOT_HELD:
        return f"isolation did not hold: {plural(summary.errors, 'finding')}"
    if summary.outcome is Outcome.AS_FAR_AS_SEEN:
        return f"isolation held as far as seen: {', '.join(summary.gaps())}"
    seen = f"{plural(summary.statements, 'statement')} in {plural(summary.sessions, 'session')}"
    return f"isolation held: {seen} of {plural(len(summary.clients), 'client')}, all checked"


def _notes(summary: RunSummary) -> list[str]:
    notes = []
    if summary.outcome is Outcome.NOT_HELD and summary.gaps():
        notes.append(f"not seen: {', '.join(summary.gaps())}")
    if summary.one_client:
        notes.append("all sessions counted as one client")
    if summary.pins:
        first, more = summary.pins[0], len(summary.pins) - 1
        others = f", and {plural(more, 'other reason')}" if more else ""
        notes.append(
            f"kept their connection: {first.client} {first.number}x "
            f"({first.reason}: {first.statement}){others}"
        )
    if summary.neighbours:
        more = len(summary.neighbours) - 1
        others = f", and {more} more" if more else ""
        notes.append(f"on the same Postgres: {summary.neighbours[0]}{others}")
    return notes


def _advice(summary: RunSummary, style: Style) -> list[str]:
    """Every piece of advice whole; those for which there is no room are counted."""
    lines: list[str] = []
    for number, advice in enumerate(summary.advice):
        head = TO_DO if not lines else " " * len(TO_DO)
        wrapped = _wrap(head, advice, ADVICE_LINES, style)
        if lines and len(lines) + len(wrapped) >= ADVICE_LINES:
            return [*lines, f"{head}and {len(summary.advice) - number} more in the report"]
        lines += wrapped
    return lines


def _table(rows: Sequence[ClientRow], room: int, style: Style) -> list[str]:
    """Head and one line per client; the last line sums up those that have no room."""
    if not rows or room < 2:
        return []
    head = _line("client", "sessions", "peak/cap", "waited (max)", "refused", "findings", style)
    shown = rows if len(rows) < room else rows[: room - 2]
    lines = [style.paint(head, BOLD)]
    for row in shown:
        waited = f"{row.waits} ({_seconds(row.waited_max)})" if row.waits else "-"
        line = _line(
            row.client or "-",
            str(row.sessions),
            f"{row.peak}/{row.cap}",
            waited,
            str(row.refused or "-"),
            str(row.findings or "-"),
            style,
        )
        lines.append(style.paint(line, RED) if row.refused or row.findings else line)
    if len(shown) < len(rows):
        lines.append(style.paint(_rest(rows[len(shown) :], style), DIM))
    return lines


def _rest(rows: Sequence[ClientRow], style: Style) -> str:
    waits = sum(row.waits for row in rows)
    longest = max(row.waited_max for row in rows)
    return _line(
        f"and {plural(len(rows), 'more client')}",
        str(sum(row.sessions for row in rows)),
        "",
        f"{waits} ({_seconds(longest)})" if waits else "-",
        str(sum(row.refused for row in rows) or "-"),
        str(sum(row.findings for row in rows) or "-"),
        style,
    )


def _line(
    client: str, sessions: str, peak: str, waited: str, refused: str, findings: str, style: Style
) -> str:
    columns = min(NAME, max(SHORTEST_NAME, style.columns - NUMBERS))
    name = _pad(_fit(client, columns, style), columns)
    line = f"{name}{sessions:>9}{peak:>10}{waited:>15}{refused:>9}{findings:>10}"
    return _cut(line, style.columns, style)


def _found(groups: Sequence[Sequence[Finding]], room: int, style: Style) -> list[str]:
    """One line per group; the last line counts those that have no room."""
    shown = groups if len(groups) <= room else groups[: max(0, room - 1)]
    names = [_fit(_who(group), NAME, style) for group in shown]
    column = max(map(width, names), default=0)
    lines = []
    for group, name in zip(shown, names, strict=True):
        finding = group[0]
        count = sum(of.count for of in group)
        table = worst_table(finding.relations)
        head = f"{finding.code}{count:>6}x  {_pad(name, column)}  "
        if finding.text:
            head += printable(f"{table}:", style) + " "
            text = essence(printable(finding.text, style), style.columns - width(head))
        else:
            text = printable(finding.title, style)
        color = RED if severity(finding) == "error" else YELLOW
        lines.append(style.paint(_cut(head + text, style.columns, style), color))
    if len(shown) < len(groups) and room:
        rest = sum(map(len, groups[len(shown) :]))
        lines.append(style.paint(f"and {plural(rest, 'more finding')}", DIM))
    return lines


def essence(statement: str, columns: int) -> str:
    """A statement that is too wide without its select list: what counts stands behind FROM."""
    if width(statement) <= columns:
        return statement
    return _SELECT_LIST.sub(r"\1 ... \2 ", statement)


def _groups(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings about the same statement together, notes left out, in the order of the first."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        if severity(finding) != "note":
            groups.setdefault((finding.code, finding.fingerprint), []).append(finding)
    return list(groups.values())


def _who(group: Sequence[Finding]) -> str:
    names = list(dict.fromkeys(name for finding in group for name in finding.clients))
    first = names[0] if names else "-"
    return first if len(names) < 2 else f"{first} and {len(names) - 1} more"


def _seconds(value: float) -> str:
    return f"{value:.1f} s"


def width(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def printable(text: str, style: Style) -> str:
    """`text` in one line, without anything that a terminal could take as a command."""
    text = " ".join(text.split())
    if not style.unicode:
        text = text.encode("ascii", "backslashreplace").decode("ascii")
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _pad(text: str, columns: int) -> str:
    return text + " " * (columns - width(text))


def _wrap(head: str, text: str, most: int, style: Style) -> list[str]:
    """`text` printable behind `head`, in lines that are indented as deep; more than `most` are cut.

    A word that is wider than a line is broken.
    """
    room = style.columns - len(head)
    lines = [""]
    for word in printable(text, style).split(" "):
        if lines[-1] and width(lines[-1]) + 1 + width(word) > room:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
        while width(lines[-1]) > room:
            whole = lines[-1]
            lines[-1] = _beginning(whole, room)
            lines.append(whole[len(lines[-1]) :])
    if len(lines) > most:
        lines[most - 1 :] = [_cut(lines[most - 1] + style.ellipsis, room, style)]
    indent = " " * len(head)
    return [f"{indent if number else head}{line}" for number, line in enumerate(lines)]


def _fit(text: str, columns: int, style: Style) -> str:
    """`text` printable and cut to so many columns, with an ellipsis where it was cut."""
    return _cut(printable(text, style), columns, style)


def _cut(text: str, columns: int, style: Style) -> str:
    if width(text) <= columns:
        return text
    return _beginning(text, columns - width(style.ellipsis)) + style.ellipsis


def _beginning(text: str, columns: int) -> str:
    """As much of the text as fits."""
    for at, character in enumerate(text):
        columns -= _columns(character)
        if columns < 0:
            return text[:at]
    return text
