"""What servers that are shared are doubted by: a small catalogue, and sessions that run texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.core.pins import Reason
from pgguard.tenancy.catalogue import Catalogue, ForeignKey, Function, Table

if TYPE_CHECKING:
    from shared import Shared

    from pgguard.core.shared_session import SharedSession


def _to_itself(name: str) -> ForeignKey:
    return ForeignKey("up", ("up",), ("public", name), ("id",), on_delete=True, on_update=False)


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
        ("public", "looped"): Table("public", "looped", foreign_keys=[_to_itself("looped")]),
        ("public", "looped_child"): Table(
            "public",
            "looped_child",
            parents=[("public", "looped")],
            write_calls={"d": {("public", "f")}},
        ),
        ("public", "looped_well"): Table(
            "public", "looped_well", foreign_keys=[_to_itself("looped_well")]
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
