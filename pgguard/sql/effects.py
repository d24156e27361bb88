"""What a statement does beside reading and writing rows, as bit flags.

Laws: the flags of a text are the union over its statements; a text that could not be read has
`ANY`, which stands for every flag. `TRANSACTION` is transaction control, `DDL` is whatever may
change the catalogue that the tenant model is made from.
"""

from __future__ import annotations

from typing import Any, Final

TRANSACTION: Final = 1
DDL: Final = 2
DATABASE_DDL: Final = 4
SET: Final = 8
COPY: Final = 16
OTHER: Final = 32
TEMPORARY: Final = 64
"""Creates a temporary relation; without DDL beside it the shared catalogue stays as it is."""
ANY: Final = 128
SEQUENCES: Final = 512
"""May advance a sequence, whose value the session will remember."""
SESSION: Final = 256
"""Leaves something behind in the session, or may: see `sql/session_effects`."""

_KINDS: Final[dict[str, int]] = {
    "SelectStmt": 0,
    "InsertStmt": 0,
    "UpdateStmt": 0,
    "DeleteStmt": 0,
    "MergeStmt": 0,
    "ExplainStmt": 0,
    "TransactionStmt": TRANSACTION,
    "VariableSetStmt": SET,
    "VariableShowStmt": 0,
    "CopyStmt": COPY,
    "CreatedbStmt": DATABASE_DDL,
    "DropdbStmt": DATABASE_DDL,
    "AlterDatabaseStmt": DATABASE_DDL,
    "AlterDatabaseSetStmt": DATABASE_DDL | DDL,
    "AlterDatabaseRefreshCollStmt": DATABASE_DDL,
    "TruncateStmt": 0,
    "DeclareCursorStmt": OTHER,
    "FetchStmt": 0,
    "ClosePortalStmt": OTHER,
    "PrepareStmt": OTHER,
    "ExecuteStmt": OTHER,
    "DeallocateStmt": OTHER,
    "DiscardStmt": OTHER | SET,
    "ListenStmt": OTHER,
    "UnlistenStmt": OTHER,
    "NotifyStmt": OTHER,
    "LockStmt": OTHER,
    "LoadStmt": OTHER,
    "VacuumStmt": OTHER,
    "CheckPointStmt": OTHER,
    "ConstraintsSetStmt": OTHER,
    "ReindexStmt": OTHER,
    "ClusterStmt": OTHER,
    "RefreshMatViewStmt": OTHER,
    "CallStmt": OTHER | DDL,
    "DoStmt": OTHER | DDL,
}
"""By node; what is not listed is DDL. CALL and DO may hide anything."""


def effects_of(kind: str, node: dict[str, Any]) -> int:
    """Flags of one statement: its node's name and the node itself."""
    if kind == "SelectStmt":
        into = node.get("intoClause")
        return _created(into.get("rel", {})) if into else 0
    if kind == "CreateTableAsStmt":
        return _created(node.get("into", {}).get("rel", {}))
    if kind == "CreateStmt":
        return _created(node.get("relation", {}))
    if kind == "ExplainStmt":
        inner_kind, inner = next(iter(node.get("query", {}).items()), ("SelectStmt", {}))
        return effects_of(inner_kind, inner) if inner_kind == "CreateTableAsStmt" else 0
    if kind == "RenameStmt" and node.get("renameType") == "OBJECT_DATABASE":
        return DATABASE_DDL
    if kind == "AlterOwnerStmt" and node.get("objectType") == "OBJECT_DATABASE":
        return DATABASE_DDL
    if kind == "TransactionStmt" and node.get("kind") == "TRANS_STMT_COMMIT_PREPARED":
        # What was done in it, whoever prepared it.
        return TRANSACTION | DDL
    return _KINDS.get(kind, DDL)


def is_temporary(relation: dict[str, Any]) -> bool:
    """Whether a RangeVar that is being created is temporary."""
    schema = relation.get("schemaname", "")
    # The schema of a session's temporary objects has a name with a number, too.
    return relation.get("relpersistence") == "t" or schema.startswith("pg_temp")


def _created(relation: dict[str, Any]) -> int:
    return TEMPORARY if is_temporary(relation) else DDL
