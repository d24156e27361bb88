"""Keeps plugins of pydantic out of the process.

Before it builds a model pydantic asks every distribution that is installed whether it is a plugin:
5 to 9 ms of each start with seventy of them, and foreign code in the guard where one is. Laws: the
environment is as it was when the models are built, so that no command of `run` sees the difference.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SWITCH = "PYDANTIC_DISABLE_PLUGINS"
"""Of pydantic: documentation, "Pydantic Plugins"."""


@contextmanager
def no_plugins() -> Iterator[None]:
    """Models that are built meanwhile have none."""
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = "__all__"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SWITCH]
        else:
            os.environ[SWITCH] = before
