"""What `pgguard check` found, as text for people, lines of JSON, and annotations of GitHub.

    queries.sql:3:15: error PGG101: statement is not scoped to a tenant
      3 | SELECT * FROM bookings AS b WHERE b.status = $1
                        ^^^^^^^^
      bookings b is unscoped: the condition does not fix tenant_id
      fix: add AND b.tenant_id = $2

Laws: a statement that comes again (by its fingerprint) is shown once, with the other places; what
is left out is counted; no control character of a statement reaches the terminal.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from pgguard.findings import CODES, Verdict
from pgguard.report.summary import plural
from pgguard.report.text import BOLD, DIM, GREEN, RED, YELLOW, Style, printable
from pgguard.tenancy.checking import worse_than_scoped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pgguard.tenancy.checking import Checked

_COLOR: Final = {"error": RED, "warning": YELLOW, "note": DIM}
PLACES: Final = 5
"""Other places of a statement that are named."""
_LONGEST: Final = 200
"""Characters of a line that are shown."""
_GITHUB: Final = {"error": "error", "warning": "warning", "note": "notice"}


def text(found: Sequence[Checked], style: Style, *, notes: bool) -> Iterator[str]:
    """Findings in the order of the input, then what came of it all; `notes` = these, too."""
    shown: dict[tuple[str, str, str], list[Checked]] = {}
    for checked in found:
        if checked.is_finding and (notes or checked.severity != "note"):
            key = (checked.code, checked.fingerprint or str(checked.item.id), checked.why)
            shown.setdefault(key, []).append(checked)
    for same in shown.values():
        yield "\n".join(_block(same, style)) + "\n"
    yield from _totals(found, style, notes=notes)


def json_line(checked: Checked) -> str:
    """The line of one statement."""
    answer: dict[str, Any] = {
        "id": checked.item.id,
        "verdict": checked.verdict.name,
        "relations": worse_than_scoped(checked.relations),
        "codes": [checked.code] if checked.code else [],
        "why": checked.why,
        "levels": _levels(checked),
    }
    if checked.allowed:
        answer["allowed"] = checked.allowed
    return json.dumps(answer, ensure_ascii=False)


def _levels(checked: Checked) -> dict[str, str]:
    """Every tenant table of the statement with its worst level."""
    worst: dict[str, Verdict] = {}
    for relation in checked.relations:
        level = Verdict[relation.level]
        worst[relation.name] = max(level, worst.get(relation.name, level))
    return {name: worst[name].name for name in sorted(worst)}


def github(found: Iterable[Checked], *, notes: bool) -> Iterator[str]:
    """Workflow commands: `::error file=…,line=…,col=…,title=…::message`."""
    for checked in found:
        if not checked.is_finding or (checked.severity == "note" and not notes):
            continue
        line, column = checked.place
        place = {
            "file": _property(checked.item.source.path),
            "line": str(line),
            "col": str(column),
            "title": _property(f"{checked.code}: {CODES[checked.code].title}"),
        }
        given = ",".join(f"{name}={value}" for name, value in place.items())
        yield f"::{_GITHUB[checked.severity]} {given}::{_data(message(checked))}"


def message(checked: Checked) -> str:
    """What is wrong and what to do, in plain lines."""
    return "\n".join([*_reasons(checked), *_fixes(checked)])


def _property(value: str) -> str:
    return _data(value).replace(":", "%3A").replace(",", "%2C")


def _data(value: str) -> str:
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _reasons(checked: Checked) -> list[str]:
    """Why, for each occurrence that is no better than the statement."""
    worst = [r for r in checked.relations if Verdict[r.level] == checked.verdict]
    lines = [f"{f'{r.name} {r.alias}'.strip()} is {r.level}: {r.why}" for r in worst]
    return list(dict.fromkeys(lines)) or [checked.why or CODES[checked.code].title]


def _fixes(checked: Checked) -> list[str]:
    fixes = list(dict.fromkeys(r.fix for r in checked.relations if r.fix))
    return [f"fix: {fix}" for fix in fixes] or [checked.remedy] * bool(checked.remedy)


def _block(same: list[Checked], style: Style) -> Iterator[str]:
    checked = same[0]
    line, column = checked.place
    where = f"{checked.item.source.path}:{line}:{column}"
    grade = style.paint(f"{checked.severity} {checked.code}", _COLOR[checked.severity])
    title = CODES[checked.code].title
    yield f"{style.paint(printable(where, style), BOLD)}: {grade}: {title}"
    yield from _excerpt(checked, line, style)
    for reason in [*_reasons(checked), *_fixes(checked)]:
        yield f"  {printable(reason, style)}"
    if len(same) > 1:
        places = [":".join([c.item.source.path, *map(str, c.place)]) for c in same[1:]]
        more = f" and {len(places) - PLACES} more" if len(places) > PLACES else ""
        yield f"  also at {', '.join(places[:PLACES])}{more}"


def _excerpt(checked: Checked, number: int, style: Style) -> Iterator[str]:
    """The line with the place marked."""
    item = checked.item
    position = checked.position
    begin = item.sql.rfind("\n", 0, position) + 1
    end = item.sql.find("\n", position)
    line = item.sql[begin : end if end >= 0 else len(item.sql)]
    if not line.strip():
        return
    cut = line[:_LONGEST] + (style.ellipsis if len(line) > _LONGEST else "")
    head = f"  {number} | "
    yield style.paint(head, DIM) + "".join(_column(char, style) for char in cut)
    if position - begin < _LONGEST:
        yield " " * (len(head) + position - begin) + style.paint("^", _COLOR[checked.severity])


def _column(char: str, style: Style) -> str:
    """A character as something that takes one column."""
    if char.isspace():
        return " "
    return char if char.isprintable() and (style.unicode or char.isascii()) else "?"


def _totals(found: Sequence[Checked], style: Style, *, notes: bool) -> Iterator[str]:
    verdicts = Counter(checked.verdict for checked in found)
    kinds = ", ".join(f"{verdicts[v]} {v.name}" for v in sorted(Verdict) if verdicts[v])
    yield f"{plural(len(found), 'statement')}: {kinds or 'none'}"
    grades = Counter(checked.severity for checked in found if checked.is_finding)
    color = RED if grades["error"] else YELLOW if grades["warning"] else GREEN
    named = [plural(grades[grade], grade) for grade in _COLOR if grades[grade]]
    allowed = sum(1 for checked in found if checked.code and checked.allowed)
    named += [f"{allowed} allowed"] * bool(allowed)
    yield style.paint(", ".join(named) or "nothing found", color)
    if grades["note"] and not notes:
        yield "notes are left out; -v shows them"
    codes = sorted({c.code for c in found if c.is_finding and (notes or c.severity != "note")})
    if codes:
        yield f"pgguard explain {codes[0]} says more" + (
            f", and so for {', '.join(codes[1:])}" if codes[1:] else ""
        )
