"""`pgguard config show|check|schema`: effective settings, their problems, their JSON schema."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from pgguard.cli.options import config_option, load_settings


@click.group("config")
def command() -> None:
    """Show, check and describe the settings."""


@command.command()
@config_option
@click.option("--origin", is_flag=True, help="Say where each value came from.")
def show(config: Path | None, origin: bool) -> None:
    """Print the effective settings as TOML; secrets are masked."""
    loaded = load_settings(config, {})
    from pgguard.settings import schema

    lines = []
    for key in schema.fields():
        value = schema.shown(key, schema.value_of(loaded.settings, key))
        text = f"{key} = {value}" if value else f"# {key} is not set"
        lines.append((text, loaded.origins[key]))
    width = min(max(len(text) for text, _ in lines), 60)
    for text, source in lines:
        click.echo(f"{text:<{width}}  # {source}" if origin else text)


@command.command()
@config_option
def check(config: Path | None) -> int:
    """Check the settings of file and environment; exit 2 with every problem."""
    from pgguard.settings import examine

    loaded, problems = examine(config=config, env=os.environ, flags={}, cwd=Path.cwd())
    for problem in problems:
        click.echo(f"pgguard: {problem}", err=True)
    if loaded is None:
        return 2
    source = f"{loaded.file} and the environment" if loaded.file else "the environment"
    click.echo(f"settings are valid ({source})")
    return 0


@command.command("schema")
@config_option
def print_schema(config: Path | None) -> None:
    """Print the JSON schema of the settings, for editors."""
    from pgguard.settings import schema

    click.echo(json.dumps(schema.json_schema(), indent=2, ensure_ascii=False))
