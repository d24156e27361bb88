"""`pgguard explain CODE`: the page of a rule, which is the docstring of the rule's module.

    CODE: title.            one line

    What it does            the headings of `HEADINGS`, in this order, at the margin
        text, indented by four, with code indented by eight

Laws: offline; the module is read, never imported.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click

import pgguard
from pgguard.cli.options import config_option
from pgguard.errors import SettingsError
from pgguard.findings import CODES

HEADINGS = ("What it does", "Why it is bad", "Example", "Use instead", "References")


def rule_files() -> dict[str, Path]:
    """Code → the file that holds its rule and its page."""
    package = Path(pgguard.__file__).parent
    found = {}
    for path in sorted(package.glob("*/rules/pgg*.py")):
        if match := re.match(r"(pgg\d{3})_", path.name):
            found[match[1].upper()] = path
    return found


def page(code: str) -> str:
    """The page of a code. Raises SettingsError for a code that does not exist."""
    wanted = f"PGG{code}" if code.isdigit() else code.upper()
    path = rule_files().get(wanted)
    if path is None or wanted not in CODES:
        raise SettingsError(f"there is no code {code!r}; codes: {', '.join(CODES)}")
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    entry = CODES[wanted]
    return f"{text}\n\nClass: {entry.cls}. Severity: {entry.severity}."


@click.command("explain")
@config_option
@click.argument("code", required=False)
def command(config: Path | None, code: str | None) -> None:
    """Print a rule's page; without CODE the list of codes."""
    if code is None:
        for entry in CODES.values():
            click.echo(f"{entry.code}  {entry.cls:<12}  {entry.severity:<7}  {entry.title}")
        return
    click.echo(page(code))
