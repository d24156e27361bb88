"""Placeholder of the first commit: settings and catalogue."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TenancySettings:
    """`tenancy.*` of surface.md, as plain values."""

    columns: tuple[str, ...] = ("tenant_id", "tenantId")
    root: tuple[str, ...] = ()
    owned: tuple[tuple[str, str], ...] = ()
    shared: tuple[str, ...] = ()
    global_: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    settings: tuple[str, ...] = ("app.tenant_id", "app.current_tenant")
    mode: str = "observe"
    max_statement: int = 16 * 1024 * 1024


@dataclass(slots=True)
class Catalogue:
    search_path: tuple[str, ...] = ("public",)
    tables: dict[tuple[str, str], object] = field(default_factory=dict)


CATALOGUE_QUERIES: dict[str, str] = {}
NEWEST_ROW_QUERY = "SELECT 1"


def catalogue_from_rows(rows: dict[str, list[list[str | None]]]) -> Catalogue:
    return Catalogue()
