"""`pgguard config show|check|schema`: effective settings, their problems, their JSON schema."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgguard.cli.options import config_option, load_settings
from pgguard.settings.sources import PREFIX

if TYPE_CHECKING:
    from pgguard.settings import Loaded


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
    """Check file and environment; exit 2 and name every problem."""
    from pgguard.settings import examine

    loaded, problems = examine(config=config, env=os.environ, flags={}, cwd=Path.cwd())
    for problem in problems:
        click.echo(f"pgguard: {problem}", err=True)
    if loaded is None:
        return 2
    click.echo(f"settings are valid ({_sources(loaded)})")
    return 0


def _sources(loaded: Loaded) -> str:
    """Where settings were found."""
    origins = dict.fromkeys(loaded.origins.values())
    names = [origin for origin in origins if origin.startswith(PREFIX)]
    if loaded.file is None and not names:
        return "no settings file; defaults"
    return ", ".join([str(loaded.file) if loaded.file else "no settings file", *names])


@command.command("schema")
@config_option
def print_schema(config: Path | None) -> None:
    """Print the JSON schema of the settings, for editors."""
    from pgguard.settings import schema

    click.echo(json.dumps(schema.json_schema(), indent=2, ensure_ascii=False))
