"""What `--version` and `doctor` say about the versions in use.

Laws: the parser and the event loop are imported when somebody asks, never before.
"""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version


def package_version(name: str) -> str | None:
    """The installed version of a distribution, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def version_lines() -> list[str]:
    """The four lines of `--version`."""
    from pgguard.net.loop import loop_name
    from pgguard.sql.parse import grammar

    return [
        f"pgguard {package_version('pgguard')}",
        f"Python {platform.python_version()}",
        f"event loop {loop_name(os.environ)}",
        f"pglast {package_version('pglast')} (grammar of PostgreSQL {grammar()})",
    ]
