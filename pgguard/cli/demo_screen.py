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
    from pgguard.findings import Finding
    from pgguard.report.summary import ClientRow, RunSummary

INDENT = " " * 9
DIRECT_AT_LEAST = 8
"""Files that fail directly, or the machine was too slow to show anything."""


@dataclass(slots=True)
class Comparison:
    """Both runs, as far as they have come."""

    names: list[str]
    direct: dict[str, FileOutcome] = field(default_factory=dict)
    guarded: dict[str, FileOutcome] = field(default_factory=dict)
    rows: dict[str, ClientRow] = field(default_factory=dict)
    planted: list[Finding] = field(default_factory=list)
    most: int = 0
    """Most server connections at once through the guard."""
    limit: str = ""
    """How many there may be, and why."""
    seconds: dict[str, float] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)

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

    def refused(self) -> list[str]:
        """Files that failed directly, with Postgres's own words for it."""
        return [name for name, outcome in self.direct.items() if outcome.refusal]

    def problems(self) -> list[str]:
        """Why this demo showed not what it should; empty = it did."""
        problems = []
        if len(self.refused()) < DIRECT_AT_LEAST:
            problems.append(
                f"directly only {len(self.refused())} files met 'too many clients': is the machine"
                " very busy? try again"
            )
        green = [name for name in self.names if _is_green(self.guarded.get(name))]
        if len(green) < len(self.names) or self.statuses.get("guarded"):
            problems.append(f"through pgguard only {len(green)} files passed, see guarded.log")
        seen = {(relation.name, f.client) for f in self.planted for relation in f.relations}
        missed = [f"{table} in {file}" for table, file in PLANTED if (table, file) not in seen]
        if missed:
            problems.append(f"planted statements not seen: {', '.join(missed)}")
        return problems


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
        left = style.paint(f"{_cell(direct):<28}", RED if not _is_green(direct) else GREEN)
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
    names, refused = comparison.names, comparison.refused()
    words = next((o.refusal for o in comparison.direct.values() if o.refusal), "nothing")
    green = sum(_is_green(outcome) for outcome in comparison.guarded.values())
    seconds = {name: f"{value:.0f} s" for name, value in comparison.seconds.items()}
    direct = f"{len(refused)} of {len(names)} files failed in {seconds.get('direct')}"
    guarded = f"{green} of {len(names)} files passed in {seconds.get('guarded')}"
    return [
        f"directly:        {direct}; Postgres said:",
        f"                 {words[:80]}",
        f"through pgguard: {guarded}; {WANTED} connections wanted,",
        f"                 at most {comparison.most} at once: {comparison.limit}",
        f"without tenant:  {len(comparison.planted)} of {len(PLANTED)} planted statements found",
    ]


def _is_green(outcome: FileOutcome | None) -> bool:
    return outcome is not None and outcome.passed > 0 and not outcome.failed


def _cell(outcome: FileOutcome | None) -> str:
    if outcome is None:
        return "-"
    if not outcome.failed:
        return f"{outcome.passed} passed"
    why = "too many clients" if outcome.refusal else "failed"
    return f"{outcome.failed} failed: {why}" if outcome.refusal else f"{outcome.failed} failed"


def _live_table(comparison: Comparison, title: str) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for head in ("", "directly", "through pgguard"):
        table.add_column(head, min_width=24)
    for name in comparison.names:
        table.add_row(name, *(_live_cell(run.get(name)) for run in _runs(comparison)))
    return table


def _runs(comparison: Comparison) -> tuple[dict[str, FileOutcome], dict[str, FileOutcome]]:
    return comparison.direct, comparison.guarded


def _live_cell(outcome: FileOutcome | None) -> str:
    if outcome is None:
        return ""
    color = "red" if outcome.failed else "green"
    return f"[{color}]{_cell(outcome)}[/{color}]"
