"""The schemas of tests/fixtures/scopes, and how a catalogue is read without the proxy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from psycopg.pq import ExecStatus

from pgguard.tenancy.model import (
    CATALOGUE_QUERIES,
    Catalogue,
    TenancySettings,
    catalogue_from_rows,
)

if TYPE_CHECKING:
    import psycopg

SCOPES = Path(__file__).parent.parent / "fixtures" / "scopes"

SETTINGS = {
    "booking": TenancySettings(functions=("current_tenant",)),
    "hidden": TenancySettings(),
    "prisma": TenancySettings(shared=("Template",), global_=("Currency",)),
}


def text_rows(connection: psycopg.Connection, sql: str) -> list[list[str | None]]:
    """Rows of a query over the simple protocol, as the service connection sees them."""
    result = connection.pgconn.exec_(sql.encode())
    assert result.status == ExecStatus.TUPLES_OK, result.error_message
    return [
        [
            None if (value := result.get_value(row, column)) is None else value.decode()
            for column in range(result.nfields)
        ]
        for row in range(result.ntuples)
    ]


def read_catalogue(connection: psycopg.Connection) -> Catalogue:
    return catalogue_from_rows(
        {name: text_rows(connection, sql) for name, sql in CATALOGUE_QUERIES.items()}
    )
