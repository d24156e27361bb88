"""What a session is told about a statement: message, detail and hint of a refusal or a warning.

Laws: printable ASCII, since the session's encoding is not known here; the code, the occurrence, the
reason and the smallest fix are always in it where they are known; no literal of the statement is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pgguard.findings import CODES, Verdict

if TYPE_CHECKING:
    from pgguard.findings import Relation
    from pgguard.sql.statement import Statement

NOT_ANALYSED: Final = "PGG901"
_CODES: Final = {Verdict.unscoped: "PGG101", Verdict.cross_tenant: "PGG102"}
_LONGEST: Final = 1_000
"""Characters of a line that may grow with the statement."""


class Words(NamedTuple):
    """Fields M, D and H of an ErrorResponse or NoticeResponse."""

    message: str
    detail: str
    hint: str


def refusal(statement: Statement, *, blocked: bool = True) -> Words:
    """What is said about a judged statement that is blocked, or of which its session is warned."""
    code = statement.code or _CODES.get(Verdict(max(statement.verdict, 0)), NOT_ANALYSED)
    known = CODES.get(code)
    title = known.title if known else "statement"
    if code == NOT_ANALYSED:
        title = "statement was not checked"
    worst = _worst(statement)
    said = title if worst is None else f"{title}: {_named(worst)}: {worst.why}"
    if worst is None and statement.why:
        said = f"{title}: {statement.why}"
    fix = worst.fix if worst is not None else ""
    steps = [f"{fix[:1].upper()}{fix[1:]}" if fix else statement.remedy.rstrip(".")]
    steps.append(f"pgguard explain {code}")
    return Words(
        _ascii(f"pgguard: {said} ({code})"),
        _ascii(_detail(statement, code, blocked=blocked)),
        _ascii(". ".join(step for step in steps if step) + "."),
    )


def _detail(statement: Statement, code: str, *, blocked: bool) -> str:
    known = CODES.get(code)
    lines = [
        f"Rule {code}" + (f" ({known.cls})" if known else "") + f", {_done(blocked=blocked)};"
        f" statement {statement.fingerprint}"
        + (f", character {statement.position}" if statement.position else "")
        + "."
    ]
    lines += [f"{_named(one)} is {one.level}: {one.why}." for one in statement.relations[:10]]
    return "\n".join(lines)


def _done(*, blocked: bool) -> str:
    return "not executed (tenancy.mode = block)" if blocked else "executed"


def _worst(statement: Statement) -> Relation | None:
    levels = Verdict.__members__
    return max(
        statement.relations,
        key=lambda one: int(levels[one.level]) if one.level in levels else -1,
        default=None,
    )


def _named(relation: Relation) -> str:
    return f"{relation.name} AS {relation.alias}" if relation.alias else relation.name


def _ascii(text: str) -> str:
    plain = "".join(
        c if " " <= c <= "~" or c == "\n" else c.encode("unicode_escape", "surrogatepass").decode()
        for c in text
    )
    return plain[:_LONGEST]
