"""A few tenant tables, and statements over them read and solved without a server.

tenants (root), bookings (direct), lines (owned by a booking), visits (direct, and of
a booking), posts (shared), words (of nobody).
"""

from __future__ import annotations

from planning import planned

from pgguard.counters import ProcessCounters
from pgguard.findings import Verdict
from pgguard.tenancy.catalogue import Catalogue, Column, ForeignKey, Key, Table
from pgguard.tenancy.changes import Builder
from pgguard.tenancy.inference import Solver
from pgguard.tenancy.judge import Judge
from pgguard.tenancy.model import Model, TenancySettings


def _table(name: str, columns: str, *unique: str, **references: str) -> Table:
    """Columns with a `!` are NOT NULL; the first is the key."""
    words = columns.split()
    keys = [Key(f"{name}_pkey", (words[0].rstrip("!"),), primary=True)]
    keys += [Key(f"{name}_{'_'.join(key.split())}_key", tuple(key.split())) for key in unique]
    return Table(
        "public",
        name,
        columns=[Column(word.rstrip("!"), "text", not_null="!" in word) for word in words],
        keys=keys,
        foreign_keys=[
            ForeignKey(f"{name}_{column}_fkey", (column,), ("public", target), ("id",))
            for column, target in references.items()
        ],
    )


TABLES = [
    _table("tenants", "id! slug! name", "slug"),
    _table("bookings", "id! tenant_id! code! note", "tenant_id code", tenant_id="tenants"),
    _table("lines", "id! booking_id! note", booking_id="bookings"),
    _table("visits", "id! tenant_id! booking_id! note", booking_id="bookings"),
    _table("posts", "id! tenant_id note", tenant_id="tenants"),
    _table("words", "id! note"),
]
MODEL = Model(
    Catalogue(tables={table.key: table for table in TABLES}),
    TenancySettings(root=("tenants",), shared=("posts",)),
)


def solved(sql: str) -> Solver:
    """All that follows from a statement; its builder is `built`."""
    built = Builder(MODEL)
    built.statement(planned(sql))
    solver = Solver(built)
    solver.solve()
    return solver


def level(sql: str) -> Verdict:
    """The verdict of a statement, given without a fault of ours."""
    counters = ProcessCounters()
    judge = Judge(MODEL.settings, counters)
    judge.set_catalogue(MODEL.catalogue)
    statement = judge.statement(sql.encode())
    judge.judge(statement)
    assert counters.internal_errors == 0
    return Verdict(statement.verdict)
