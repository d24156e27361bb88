"""The two schemas of the collection, with their settings, catalogues and models."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg.pq import ExecStatus

from pgguard.tenancy.model import CATALOGUE_QUERIES, Model, TenancySettings, catalogue_from_rows

if TYPE_CHECKING:
    import psycopg

FIXTURES = Path(__file__).parent.parent.parent / "fixtures"

OWNER = "tracker"
"""The role that owns all tables; row level security binds it only where it is forced."""
MEMBER = "app_user"
"""A role that may read and write everything and owns nothing."""
SETTING = "app.tenant_id"


@dataclass(frozen=True, slots=True)
class Schema:
    name: str
    settings: TenancySettings = field(default_factory=TenancySettings)

    @property
    def sql(self) -> str:
        return (FIXTURES / "tenancy" / f"{self.name}.schema.sql").read_text()


SCHEMAS = {
    schema.name: schema
    for schema in (
        Schema(
            "camel",
            TenancySettings(
                shared=("Template",),
                global_=("Currency",),
                owned=(("BookingAddOn", "bookingId"), ("_BookingToTag", "A")),
            ),
        ),
        Schema(
            "snake",
            TenancySettings(
                shared=("labels",), global_=("countries",), functions=("current_tenant",)
            ),
        ),
    )
}


def create(connection: psycopg.Connection, schema: Schema) -> None:
    """The schema's objects, owned by OWNER and open to MEMBER."""
    for role in (OWNER, MEMBER):
        connection.execute(
            f"""DO $$ BEGIN
              IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}')
              THEN CREATE ROLE {role}; END IF; END $$""".encode()
        )
    connection.execute(f"GRANT ALL ON SCHEMA public TO {OWNER}, {MEMBER}".encode())
    connection.execute(f"SET SESSION AUTHORIZATION {OWNER}".encode())
    connection.execute(schema.sql.encode())
    connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {MEMBER}".encode())
    connection.execute(b"RESET SESSION AUTHORIZATION")


def read_model(connection: psycopg.Connection, schema: Schema) -> Model:
    """The model that pgguard makes of the database behind the connection."""
    rows = {}
    for name, sql in CATALOGUE_QUERIES.items():
        result = connection.pgconn.exec_(sql.encode())
        assert result.status == ExecStatus.TUPLES_OK, result.error_message
        rows[name] = [
            [
                None if (value := result.get_value(row, column)) is None else value.decode()
                for column in range(result.nfields)
            ]
            for row in range(result.ntuples)
        ]
    return Model(catalogue_from_rows(rows), schema.settings)
