"""What `pgguard demo` shows: progress while it runs, and the two runs side by side.

Laws: the last screen fits 24 lines of 100 columns; bars and colours only on a terminal and without
NO_COLOR; rich is imported for a terminal alone.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import click

from pgguard.cli.guarding import say
from pgguard.launch.suite import PLANTED, WANTED, FileOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgguard.findings import Finding
    from pgguard.report.summary import ClientRow, RunSummary

INDENT = " " * 9
REFUSED_AT_LEAST = 8
"""Files that fail where there are too few connections, or the machine was too slow to show it."""
DIRECT = "too many clients"
"""How Postgres refuses, in short."""
NAMED = 3
"""Files whose idle connections are counted by name."""


@dataclass(slots=True, frozen=True)
class Crowd:
    """Who was at pgguard at one moment of the run."""

    sessions: int = 0
    """Connections of the suite, open to pgguard."""
    servers: int = 0
    """Connections of pgguard, open to Postgres."""
    waiting: int = 0
    """Sessions that wait for one of these."""
    idle: dict[str, int] = field(default_factory=dict)
    """Of which client how many sessions have one and do nothing with it."""

    def in_vain(self) -> tuple[int, int]:
        """How much is idle while others wait, and how many those are."""
        return (sum(self.idle.values()), self.waiting) if self.waiting else (0, 0)


@dataclass(slots=True)
class Comparison:
    """Both runs, as far as they have come."""

    names: list[str]
    direct: dict[str, FileOutcome] = field(default_factory=dict)
    guarded: dict[str, FileOutcome] = field(default_factory=dict)
    rows: dict[str, ClientRow] = field(default_factory=dict)
    planted: list[Finding] = field(default_factory=list)
    mode: str = "transparent"
    most: int = 0
    """Most server connections at once through the guard."""
    open: int = 0
    """Most connections of the suite at once."""
    worst: Crowd = field(default_factory=Crowd)
    """The moment at which most was idle while others waited."""
    limit: str = ""
    """How many there may be, and why."""
    seconds: dict[str, float] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)

    def saw(self, crowd: Crowd) -> None:
        """Take one moment of the guarded run."""
        self.most = max(self.most, crowd.servers)
        self.open = max(self.open, crowd.sessions)
        if crowd.in_vain() > self.worst.in_vain():
            self.worst = crowd

    def close(self, summary: RunSummary) -> None:
        """Take what is known at the end of the guarded run."""
        self.rows = {row.client: row for row in summary.clients}
        wanted = {(table, file) for table, file in PLANTED}
        self.planted = [
            finding
            for finding in summary.findings
            if finding.code == "PGG101"
            and any((relation.name, finding.client) in wanted for relation in finding.relations)
        ]

    def refused(self, run: Mapping[str, FileOutcome]) -> list[str]:
        """Files that failed in one of the runs because they were refused a connection."""
        return [name for name, outcome in run.items() if outcome.refusal]

    def problems(self) -> list[str]:
        """Why this demo showed not what it should; empty = it did."""
        problems = []
        refused = len(self.refused(self.direct))
        if refused < REFUSED_AT_LEAST:
            problems.append(
                f"directly only {refused} files met 'too many clients': is the machine"
                " very busy? try again"
            )
        problems += self._guarded_problems()
        seen = {(relation.name, f.client) for f in self.planted for relation in f.relations}
        missed = [f"{table} in {file}" for table, file in PLANTED if (table, file) not in seen]
        if missed:
            problems.append(f"planted statements not seen: {', '.join(missed)}")
        return problems

    def _guarded_problems(self) -> list[str]:
        if self.mode == "session":
            refused = len(self.refused(self.guarded))
            few = refused < REFUSED_AT_LEAST
            return [f"in session mode only {refused} files were refused"] if few else []
        green = [name for name in self.names if _is_green(self.guarded.get(name))]
        if len(green) < len(self.names) or self.statuses.get("guarded"):
            return [f"through pgguard only {len(green)} files passed, see guarded.log"]
        if self.open <= self.most:
            return ["no more connections were open than Postgres has: try again"]
        return []


class Progress:
    """Shows a run while it goes on: a live table on a terminal, plain lines elsewhere."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._live: Any = None

    def __enter__(self) -> Self:
        from pgguard.report.text import style_of

        if style_of(sys.stderr).color:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), transient=True, refresh_per_second=8)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, text: str) -> None:
        if self._live is None:
            say(text)

    def update(self, title: str) -> None:
        if self._live is not None:
            self._live.update(_live_table(self._comparison, title))


def print_result(comparison: Comparison, report: str) -> None:
    """The last screen, on stdout."""
    from pgguard.report.text import COLUMNS, GREEN, RED, essence, style_of

    style = style_of(sys.stdout)
    click.echo(f"{'':<24}{'directly':<28}{'through pgguard':<18}{'peak/cap':>9}  waited (longest)")
    for name in comparison.names:
        direct, guarded = comparison.direct.get(name), comparison.guarded.get(name)
        row = comparison.rows.get(name)
        left = style.paint(f"{_cell(direct, DIRECT):<28}", GREEN if _is_green(direct) else RED)
        right = style.paint(f"{_cell(guarded):<18}", GREEN if _is_green(guarded) else RED)
        peak = f"{row.peak}/{row.cap}" if row else "-"
        waited = f"{row.waits} ({row.waited_max:.1f} s)" if row and row.waits else "-"
        click.echo(f"{name:<24}{left}{right}{peak:>9}  {waited}")
    click.echo()
    for line in _conclusions(comparison):
        click.echo(line)
    for finding in comparison.planted:
        text = essence(" ".join(finding.text.split()), COLUMNS - len(INDENT))
        click.echo(f"  {finding.code} {finding.relations[0].name} in {finding.client}")
        click.echo(f"{INDENT}{text}"[:COLUMNS])
    click.echo(f"report: {report}")
    for problem in comparison.problems():
        click.echo(style.paint(f"not as it should be: {problem}", RED))


def _conclusions(comparison: Comparison) -> list[str]:
    names, refused = comparison.names, comparison.refused(comparison.direct)
    words = next((o.refusal for o in comparison.direct.values() if o.refusal), "nothing")
    green = sum(_is_green(outcome) for outcome in comparison.guarded.values())
    seconds = {name: f"{value:.0f} s" for name, value in comparison.seconds.items()}
    direct = f"{len(refused)} of {len(names)} files failed in {seconds.get('direct')}"
    guarded = f"{green} of {len(names)} files passed in {seconds.get('guarded')}"
    return [
        f"directly:        {direct}; Postgres said:",
        f"                 {words[:80]}",
        f"through pgguard: {guarded}; {comparison.open} of {WANTED} connections open at once,",
        f"                 on at most {comparison.most} servers: {comparison.limit}",
        *(_why_in_vain(comparison.worst) if comparison.mode == "session" else []),
        f"without tenant:  {len(comparison.planted)} of {len(PLANTED)} planted statements found",
    ]


def _why_in_vain(worst: Crowd) -> list[str]:
    """One sentence: who waited for what, and who kept it."""
    most = sorted(worst.idle.items(), key=lambda one: (-one[1], one[0]))
    names = ", ".join(f"{name} {number}" for name, number in most[:NAMED])
    rest = sum(number for _, number in most[NAMED:])
    others = f", others {rest}" if rest else ""
    what = f"{worst.waiting} waited for {sum(worst.idle.values())} that were idle in pools"
    return [
        f"--mode session:  {what}, and kept until the pool closes:",
        f"                 {names}{others}",
    ]


def _is_green(outcome: FileOutcome | None) -> bool:
    return outcome is not None and outcome.passed > 0 and not outcome.failed


def _cell(outcome: FileOutcome | None, refused: str = "refused") -> str:
    if outcome is None:
        return "-"
    if not outcome.failed:
        return f"{outcome.passed} passed"
    why = f": {refused}" if outcome.refusal else ""
    return f"{outcome.failed} failed{why}"


def _live_table(comparison: Comparison, title: str) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for head in ("", "directly", "through pgguard"):
        table.add_column(head, min_width=24)
    for name in comparison.names:
        direct = _live_cell(comparison.direct.get(name), DIRECT)
        table.add_row(name, direct, _live_cell(comparison.guarded.get(name)))
    return table


def _live_cell(outcome: FileOutcome | None, refused: str = "refused") -> str:
    if outcome is None:
        return ""
    color = "red" if outcome.failed else "green"
    return f"[{color}]{_cell(outcome, refused)}[/{color}]"
