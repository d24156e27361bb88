"""Settings: models, their sources, and what users write, `pgguard.toml` and `PGGUARD_…`.

Laws: the only package that imports pydantic, and only when a name that needs it is asked for:
`pgguard.settings.sources`, `.upstream` and `.values` do without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgguard.settings.loading import Loaded, examine, load
    from pgguard.settings.schema import Override, Settings
    from pgguard.settings.upstream import UpstreamAddress, mask_url, parse_url
    from pgguard.settings.values import Address

__all__ = [
    "Address",
    "Loaded",
    "Override",
    "Settings",
    "UpstreamAddress",
    "examine",
    "load",
    "mask_url",
    "parse_url",
]

_HOMES = {
    "loading": ("Loaded", "examine", "load"),
    "schema": ("Override", "Settings"),
    "upstream": ("UpstreamAddress", "mask_url", "parse_url"),
    "values": ("Address",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"pgguard.settings.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
