"""What servers that are shared are doubted by: a small catalogue, and sessions that run texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.core.pins import Reason
from pgguard.tenancy.catalogue import Catalogue, Function, Table

if TYPE_CHECKING:
    from shared import Shared

    from pgguard.core.shared_session import SharedSession

KNOWN = Catalogue(
    tables={
        ("public", "old"): Table("public", "old"),
        ("public", "other"): Table("public", "other"),
        ("public", "risky"): Table(
            "public",
            "risky",
            parents=[("public", "other")],
            write_calls={"i": {("public", "f")}},
        ),
    },
    functions={"f": [Function("public", "v", "plpgsql")]},
    types=frozenset({"int4", "text"}),
    builtins=frozenset({"lower"}),
)


def runs(shared: Shared, session: SharedSession, text: str, status: str = "I") -> None:
    """Postgres carries it out."""
    shared.says(session, f'Query "{text}"')
    server = session.shared
    while server.linking:
        shared.done(server)
    tag = "ROLLBACK" if text.startswith("ROLLBACK") else "COMMIT" if text == "COMMIT" else "DONE"
    shared.done(server, tag, status)


def is_suspect(session: SharedSession) -> bool:
    return Reason.FUNCTION in session.pinned
