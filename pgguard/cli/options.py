"""What commands share: `--config`, `-q` and `-v`, and the way to the settings.

Laws: imports click alone until settings are asked for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgguard.settings import Loaded

_F = TypeVar("_F", bound="Callable[..., Any]")


def config_option(function: _F) -> _F:
    """`--config FILE`, passed as `config: Path | None`."""
    return click.option(
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Settings file; without it the nearest pgguard.toml or [tool.pgguard].",
    )(function)


def verbosity_options(function: _F) -> _F:
    """`-q` and `-v`, passed as `quiet: bool` and `verbose: bool`."""
    function = click.option("-v", "--verbose", is_flag=True, help="Say more.")(function)
    return click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")(function)


def load_settings(
    config: Path | None, flags: Mapping[str, Any], *, quiet: bool = False, verbose: bool = False
) -> Loaded:
    """Settings of this process. `flags` maps dotted keys to values; None = not given.

    Raises SettingsError.
    """
    from pgguard.settings import load

    level = "error" if quiet else "debug" if verbose else None
    return load(config=config, env=os.environ, flags={"log.level": level, **flags}, cwd=Path.cwd())
