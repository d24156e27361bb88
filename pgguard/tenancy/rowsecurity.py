"""Row security as a fact: F10 of tenancy.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgguard.tenancy.catalogue import Table
    from pgguard.tenancy.environment import Constants
    from pgguard.tenancy.model import Model


def setting(model: Model, table: Table, use: str, *, through: Table | None) -> Constants | None:
    """The tenant setting, if policies tie the table's rows to it for the role that runs."""
    return None
