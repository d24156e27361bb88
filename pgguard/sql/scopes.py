"""Which relations and functions a statement names, wherever they stand.

Laws: one iterative walk over the dictionaries, whatever their depth; a CTE hides a table of its
name from the point where it becomes visible (every CTE of a WITH RECURSIVE sees all of them), and
never the target of a write or a name with a schema; names after `FOR UPDATE OF` are aliases, and
the table that INTO creates is not read.

    WITH users AS (SELECT * FROM users) SELECT * FROM users, public.orders
         hides ──────────────────► this is the table         this is the CTE
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from pgguard.sql.statement import Name

Node = dict[str, Any]

_LEAVES: Final = frozenset({"ColumnRef", "A_Const", "TypeName", "typeName", "lockingClause"})
_CREATED: Final = frozenset({"into", "intoClause"})
_TARGETS: Final = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})


@dataclass(slots=True)
class Survey:
    """What the walk met."""

    relations: list[Name] = field(default_factory=list)
    functions: list[Name] = field(default_factory=list)
    occurrences: int = 0
    """Relations and references to CTEs, each as often as it stands there."""
    subquery: bool = False
    cte: bool = False
    set_operation: bool = False
    table_function: bool = False
    cursor: bool = False
    """WHERE CURRENT OF."""
    parameters: int = 0


def survey(kind: str, body: Node) -> Survey:
    """Walk one statement: the name of its node and the node itself."""
    seen = Survey()
    stack: list[tuple[Any, frozenset[str]]] = [({kind: body}, frozenset())]
    while stack:
        node, hidden = stack.pop()
        if isinstance(node, list):
            stack.extend((item, hidden) for item in node if isinstance(item, (dict, list)))
            continue
        if "relname" in node:
            _relation(seen, node, hidden)
            continue
        if "withClause" in node:
            seen.cte = True
            hidden = _common_tables(node["withClause"], hidden, stack)
        for key, value in node.items():
            if not isinstance(value, (dict, list)) or key in _LEAVES or key == "withClause":
                continue
            if key in _CREATED:
                continue
            if key in _TARGETS and isinstance(value, dict) and "relation" in value:
                _relation(seen, value["relation"], frozenset())
                value = {name: part for name, part in value.items() if name != "relation"}
            else:
                _note(seen, key, value)
            stack.append((value, hidden))
    return seen


def _note(seen: Survey, key: str, value: Any) -> None:
    """Remember what a key alone says."""
    if key == "funcname":
        seen.functions.append(name_of(value))
    elif key == "ParamRef":
        seen.parameters = max(seen.parameters, value.get("number", 0))
    elif key in {"SubLink", "RangeSubselect"}:
        seen.subquery = True
    elif key in {"RangeFunction", "RangeTableFunc", "JsonTable"}:
        seen.table_function = True
    elif key == "larg":
        seen.set_operation = True
    elif key == "CurrentOfExpr":
        seen.cursor = True


def _relation(seen: Survey, node: Node, hidden: frozenset[str]) -> None:
    seen.occurrences += 1
    name = Name(node.get("schemaname", ""), node["relname"])
    if (name.schema or name.name not in hidden) and name not in seen.relations:
        seen.relations.append(name)


def _common_tables(
    clause: Node, hidden: frozenset[str], stack: list[tuple[Any, frozenset[str]]]
) -> frozenset[str]:
    """Put the CTEs on the stack, each with what it sees; returns what the body sees."""
    tables = [entry["CommonTableExpr"] for entry in clause.get("ctes", [])]
    everything = hidden | {table["ctename"] for table in tables}
    for table in tables:
        sees = everything if clause.get("recursive") else hidden
        stack.append((table.get("ctequery", {}), sees))
        hidden = hidden | {table["ctename"]}
    return everything


def name_of(parts: list[Node]) -> Name:
    """A qualified name from a list of String nodes; a database in front is dropped."""
    words = [part["String"].get("sval", "") for part in parts if "String" in part]
    return Name(words[-2] if len(words) > 1 else "", words[-1] if words else "")
