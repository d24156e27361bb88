"""`pgguard check`: judge statements that nobody runs, for a commit hook, for CI, for a question.

    FILE… ──► items ──► verdicts by the catalogue of --dsn or --schema ──► text, JSON, SARIF, GitHub

Laws: answers go to stdout, everything else to stderr; every statement gets an answer; the status is
0, 70 with `--fail-on`, and 2 if some input could not be understood.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgguard.cli.guarding import say
from pgguard.cli.options import config_option, load_settings, verbosity_options
from pgguard.errors import SettingsError
from pgguard.findings import CLASSES, CODES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgguard.cli.models import Script
    from pgguard.settings import Loaded
    from pgguard.tenancy.catalogue import Catalogue
    from pgguard.tenancy.checking import Checked, Checker

POLICY_FAILED = 70
MISUNDERSTOOD = 2
FORMATS = ("text", "jsonl", "sarif", "github")


@click.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--dsn", metavar="URL", help="Judge by the catalogue of this database; only read.")
@click.option(
    "--schema",
    multiple=True,
    metavar="FILE.sql",
    type=click.Path(path_type=Path),
    help="Judge by this schema, loaded into a throw-away Postgres; repeatable.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="What is printed.",
)
@click.option("--fail-on", metavar="CLASS,...", help="Exit 70 if there are findings of these.")
@config_option
@verbosity_options
def command(
    files: tuple[str, ...],
    dsn: str | None,
    schema: tuple[Path, ...],
    form: str,
    fail_on: str | None,
    config: Path | None,
    quiet: bool,
    verbose: bool,
) -> int:
    """Judge SQL without running it: files of statements, for CI and commit hooks.

    FILE is a script (.sql), lines of JSON (.jsonl), or - for standard input. The settings file says
    which columns carry the tenant. -v shows notes, too.
    """
    from pgguard.cli.inputs import read_items

    if dsn and schema:
        raise click.UsageError("--dsn and --schema exclude each other.")
    classes = _classes(fail_on)
    loaded = load_settings(config, {}, quiet=quiet, verbose=verbose)
    items = list(chain.from_iterable(map(read_items, files)))
    scripts = _scripts(schema)
    catalogue = asyncio.run(_catalogue(dsn, scripts, loaded))
    checker = _checker(loaded, catalogue, quiet=quiet)
    found = [checker.check(item) for item in items]
    _print(found, form, notes=verbose)
    wrong = [checked for checked in found if checked.item.problem and not checked.item.harmless]
    for checked in wrong:
        place = ":".join(map(str, (checked.item.source.path, *checked.place)))
        say(f"{place}: not checked: {checked.item.problem}")
    if any(checked.is_finding and checked.cls in classes for checked in found):
        return POLICY_FAILED
    return MISUNDERSTOOD if wrong else 0


def _classes(fail_on: str | None) -> frozenset[str]:
    named = [name.strip() for name in (fail_on or "").split(",") if name.strip()]
    for name in named:
        if name not in CLASSES:
            raise SettingsError(
                f"there is no class {name!r}; classes: {', '.join(CLASSES)}", where="--fail-on"
            )
    return frozenset(named)


def _scripts(paths: Sequence[Path]) -> list[Script]:
    from pgguard.cli.models import read_script

    return [read_script(path) for path in paths]


async def _catalogue(dsn: str | None, scripts: list[Script], loaded: Loaded) -> Catalogue:
    from pgguard.cli import models
    from pgguard.launch.environment import find_upstream
    from pgguard.net.certificates import encryption
    from pgguard.settings.encryption import demanded

    if scripts:
        return await models.of_scripts(scripts, say)
    upstream = loaded.settings.upstream
    origin = "--dsn" if dsn else loaded.origins["upstream.url"]
    try:
        address = find_upstream(dsn or upstream.url, origin, os.environ, Path.cwd())[0]
    except SettingsError as error:
        if dsn or upstream.url or error.where:
            raise
        raise SettingsError(
            "which tables belong to tenants?",
            hint="give --schema FILE.sql, --dsn URL, or set DATABASE_URL",
        ) from None
    tls = encryption(demanded(upstream, address.query, os.environ))
    return await models.of_database(address, tls)


def _checker(loaded: Loaded, catalogue: Catalogue, *, quiet: bool) -> Checker:
    from pgguard.counters import ProcessCounters
    from pgguard.tenancy.checking import Checker
    from pgguard.tenancy.judge import Judge
    from pgguard.tenancy.policy import Policy
    from pgguard.wiring import hub_settings

    settings = hub_settings(loaded.settings)
    judge = Judge(settings.tenancy, ProcessCounters())
    judge.set_catalogue(catalogue)
    judge.users.add(catalogue.roles.user)
    policy = Policy(settings.policy, datetime.now(UTC).date())
    if not quiet:
        for finding in judge.model_findings():
            fixes = "".join(f" (fix: {one.fix})" for one in finding.relations if one.fix)
            say(f"{finding.code}: {finding.title}{fixes}")
        for entry in policy.expired():
            say(f"PGG109: has expired and allows nothing: {entry.shown} ({entry.reason})")
    return Checker(judge, policy)


def _print(found: list[Checked], form: str, *, notes: bool) -> None:
    from pgguard.report import checked

    out = sys.stdout
    if form == "jsonl":
        out.writelines(f"{checked.json_line(one)}\n" for one in found)
    elif form == "sarif":
        import json

        from pgguard.cli.explain import page
        from pgguard.cli.versions import package_version
        from pgguard.report import sarif

        pages = {code: page(code) for code in {one.code for one in found if one.code} & set(CODES)}
        log = sarif.build(found, package_version("pgguard"), pages)
        out.write(json.dumps(log, ensure_ascii=False, indent=2) + "\n")
    elif form == "github":
        out.writelines(f"{line}\n" for line in checked.github(found, notes=notes))
    else:
        from pgguard.report.text import style_of

        out.writelines(f"{line}\n" for line in checked.text(found, style_of(out), notes=notes))
    out.flush()
