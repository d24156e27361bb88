"""What `--version` and `doctor` say about the versions in use.

Laws: reads package metadata instead of importing the packages, except pglast for its grammar.
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


def loop_name() -> str:
    """The event loop that this process would use: `PGGUARD_LOOP=asyncio` asks for the stock one."""
    uvloop = package_version("uvloop")
    if uvloop is None or os.environ.get("PGGUARD_LOOP") == "asyncio":
        return "asyncio"
    return f"uvloop {uvloop}"


def grammar() -> str:
    """The major version of Postgres whose grammar pglast brings."""
    import pglast

    return str(pglast.get_postgresql_version()[0])


def version_lines() -> list[str]:
    return [
        f"pgguard {package_version('pgguard')}",
        f"Python {platform.python_version()}",
        f"event loop {loop_name()}",
        f"pglast {package_version('pglast')} (grammar of PostgreSQL {grammar()})",
    ]
