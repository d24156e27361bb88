"""The pages that are made from the code, and `python -m tests.docs.generate` that writes them.

Laws: a page is a function of the code alone, so that a test can compare it byte for byte.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

from pgguard import cli
from pgguard.cli.explain import HEADINGS
from pgguard.cli.explain import page as rule_page
from pgguard.counters import ProcessCounters
from pgguard.findings import CODES
from pgguard.record.families import (
    build_family,
    client_families,
    finding_family,
    process_families,
)
from pgguard.settings import Settings, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
NOTE = "<!-- Made from the code by `python -m tests.docs.generate`; change it there. -->"

SETTINGS = """
From weakest to strongest: defaults, settings file, environment, options. `pgguard config show
--origin` prints what is in force and where it came from, `pgguard config check` every problem with
its line, `pgguard config schema` a JSON schema for editors.

- **File**: the nearest `pgguard.toml`, or `pyproject.toml` with `[tool.pgguard]`, upwards to the
  repository root; `--config FILE` names one. `config/pgguard.toml` is an annotated example.
- **Environment**: `PGGUARD_SECTION__KEY`, lists and tables as JSON; `PGGUARD_UPSTREAM` is short for
  `PGGUARD_UPSTREAM__URL`. Empty variables count as not given. `PGGUARD_PG_BIN` (a directory with
  `initdb` and `postgres` for `--embedded`), `PGGUARD_LOOP` (`uvloop` or `asyncio`) and
  `PGGUARD_CONTROL` are no settings.
- **Durations** are `"20s"`, `"500ms"`, `"1m"` or `"1h"`, **sizes** `"16MiB"`; `off` where something
  can be off. Tables are named as in the catalogue, without quotes.

Unknown keys are errors that name the file, the line and the nearest valid key. What is not built
yet is an error, too: "not in this version".
"""

EXAMPLE = """\
# The settings of pgguard with their defaults. Copy what you change to `pgguard.toml` beside your
# tests, or to [tool.pgguard] in pyproject.toml. `pgguard config check` checks it.
"""

CLI = """
pgguard's own words go to stderr, never into the output of the command that it runs. Exit statuses:
that of the command (128 + n when a signal ended it); 70 when the command succeeded and the policy
(`--fail-on`) failed; 2 usage or settings; 3 the database cannot be reached.
"""

METRICS = """
`GET /metrics` on the HTTP address, as Prometheus text or OpenMetrics, whichever `Accept` asks for.
Times are seconds, sizes are bytes. The label `client` has at most 200 values, the others are
counted as `other`; `findings_total` has at most 2,000 series.
"""

METRICS_END = """
`added_seconds` is what pgguard itself added: `wait` in the queue, `analysis` of statements and
`loop` between the arrival of bytes and their turn.
"""

FINDINGS = """
A finding says what is wrong, where, how often, and the smallest fix. They are in the summary, in
`.pgguard/last/findings.json`, at `/api/v1/findings` and counted in `findings_total`. `pgguard
explain CODE` prints these pages offline; `--fail-on CLASS,…` makes classes fail a run.
"""


def settings_page() -> str:
    lines = ["# Settings", "", NOTE, SETTINGS.rstrip()]
    for section in ["", *schema.sections()]:
        lines += ["", f"## {section}", "", schema.describe(section)] if section else []
        lines += ["", "| key | default | meaning |", "| --- | --- | --- |"]
        for key in keys_of(section):
            lines.append(f"| `{key}` | {default_of(key)} | {cell(schema.describe(key))} |")
    return "\n".join(lines) + "\n"


def example_file() -> str:
    lines = [EXAMPLE.rstrip()]
    for section in ["", *schema.sections()]:
        if section:
            lines += ["", f"# {schema.describe(section)}", f"[{section}]"]
        for key in keys_of(section):
            value = schema.shown(key, schema.value_of(Settings(), key))
            name = key.rpartition(".")[2]
            lines += ["", *wrapped(schema.describe(key))]
            lines.append(f"# {name} = {value or EXAMPLES[key]}")
    return "\n".join(lines) + "\n"


EXAMPLES = {
    "upstream.url": '"postgresql://postgres:postgres@127.0.0.1:5432/app_test"',
    "upstream.ca": '"ca.pem"',
    "upstream.cert": '"client.pem"',
    "upstream.key": '"client.key"',
    "listen.unix": '"/run/pgguard"',
    "listen.cert": '"server.pem"',
    "listen.key": '"server.key"',
    "listen.client_ca": '"ca.pem"',
    "http.token": '"a long random text"',
    "log.file": '"pgguard.log"',
}
"""What stands in the example file for keys that have no default."""


def cli_page() -> str:
    lines = ["# Commands", "", NOTE, CLI.rstrip()]
    for path, command in commands():
        context = click.Context(command, info_name=path)
        usage = command.collect_usage_pieces(context)
        lines += ["", f"## {path}", "", f"`{' '.join([path, *usage])}`", ""]
        lines += [paragraph(command.help or "")]
        options = [option for option in command.params if isinstance(option, click.Option)]
        lines += ["", "| option | meaning |", "| --- | --- |"]
        for option in options:
            record = option.get_help_record(context)
            if record is not None:
                lines.append(f"| `{cell(record[0])}` | {cell(record[1])} |")
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    lines = ["# Metrics", "", NOTE, METRICS, "| metric | kind | labels | meaning |"]
    lines.append("| --- | --- | --- | --- |")
    for name, kind, labels, text in metrics():
        shown = ", ".join(f"`{label}`" for label in labels)
        lines.append(f"| `{name}` | {kind} | {shown} | {cell(text)} |")
    lines.append(METRICS_END.rstrip())
    return "\n".join(lines) + "\n"


def findings_page() -> str:
    lines = ["# Findings", "", NOTE, FINDINGS, "| code | class | severity | title |"]
    lines.append("| --- | --- | --- | --- |")
    for entry in CODES.values():
        link = f"[{entry.code}](#{entry.code.lower()})"
        lines.append(f"| {link} | `{entry.cls}` | {entry.severity} | {entry.title} |")
    for code in CODES:
        lines += ["", f"## {code}", "", *markdown(rule_page(code).removeprefix(f"{code}: "))]
    return "\n".join(lines) + "\n"


def markdown(page: str) -> list[str]:
    """A rule's page: its headings as headings, its text at the margin, its code as code."""
    title, *lines = page.splitlines()
    rendered = [title[0].upper() + title[1:]]
    for line in lines:
        if line in HEADINGS:
            rendered += [f"### {line}", ""]
        else:
            rendered.append(line.removeprefix("    "))
    return rendered


PAGES: dict[str, Callable[[], str]] = {
    "docs/settings.md": settings_page,
    "docs/cli.md": cli_page,
    "docs/metrics.md": metrics_page,
    "docs/findings.md": findings_page,
    "config/pgguard.toml": example_file,
}
"""Path from the root of the project → what makes it."""


def keys_of(section: str) -> list[str]:
    return [key for key in schema.fields() if key.rpartition(".")[0] == section]


def default_of(key: str) -> str:
    value = schema.shown(key, schema.value_of(Settings(), key))
    return f"`{cell(value)}`" if value else ""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that can be called, as (`pgguard config show`, command)."""
    context = click.Context(cli.group)
    for name in cli.COMMANDS:
        command = cli.group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from ((f"pgguard {name} {inner}", it) for inner, it in command.commands.items())
        elif command is not None:
            yield f"pgguard {name}", command


def metrics() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """(name as Prometheus shows it, kind, labels, help) of every metric."""
    suffixes = {"counter": "_total", "info": "_info"}
    hub: Any = SimpleNamespace(
        servers=[], counters=ProcessCounters(), admission=SimpleNamespace(total=0)
    )
    for family in (
        *client_families({}),
        finding_family({}),
        *process_families(hub, 0),
        build_family("", ""),
    ):
        name = f"pgguard_{family.name}{suffixes.get(family.kind, '')}"
        yield name, family.kind, tuple(family.labels), family.help


def cell(text: str) -> str:
    """Text that stands in one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def paragraph(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))


def wrapped(text: str, width: int = 100) -> list[str]:
    """Text as comment lines."""
    lines, line = [], "#"
    for word in text.split():
        if len(line) + 1 + len(word) > width:
            lines.append(line)
            line = "#"
        line += f" {word}"
    return [*lines, line]


def main() -> int:
    for path, make in PAGES.items():
        target = ROOT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(make(), "utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
