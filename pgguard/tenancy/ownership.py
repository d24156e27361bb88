"""Whose row is it: keys seen with their tenant, in INSERTs and in results.

Laws: bounded, the oldest goes; the newest word counts; what may have freed keys (DELETE, TRUNCATE,
DDL) forgets them all, since the same key may come back for somebody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgguard.tenancy.catalogue import TableName

MOST = 50_000

Row = tuple["TableName", tuple[str, ...], str]
"""Table, columns of a unique key, and its value."""


class Owners:
    """Of one database."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[Row, str] = {}

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, table: TableName, columns: tuple[str, ...], key: str, tenant: str) -> None:
        row = (table, columns, key)
        self._known.pop(row, None)
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[row] = tenant

    def of(
        self, table: TableName, columns: tuple[str, ...], keys: Iterable[str]
    ) -> set[str] | None:
        """The tenants of these rows; None if one of them is not known."""
        found = [self._known.get((table, columns, key)) for key in keys]
        known = {one for one in found if one is not None}
        return known if found and None not in found else None

    def forget(self) -> None:
        self._known.clear()
