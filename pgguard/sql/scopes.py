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
from typing import Any, Final, NamedTuple

from pgguard.sql.statement import Name

Node = dict[str, Any]

_LEAVES: Final = frozenset({"ColumnRef", "A_Const", "TypeName", "typeName", "lockingClause"})
_CREATED: Final = frozenset({"into", "intoClause"})
_SET_OPERATIONS: Final = frozenset({"SETOP_UNION", "SETOP_INTERSECT", "SETOP_EXCEPT"})
_TARGETS: Final = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})


class _Scope(NamedTuple):
    """The CTEs that hide tables: the first `limit` of `names`, and those further out."""

    names: dict[str, int]
    limit: int
    outer: _Scope | None

    def hides(self, name: str) -> bool:
        scope: _Scope | None = self
        while scope is not None:
            if scope.names.get(name, scope.limit) < scope.limit:
                return True
            scope = scope.outer
        return False


_OPEN: Final = _Scope({}, 0, None)

_Stack = list[tuple[Any, _Scope]]


@dataclass(slots=True)
class Survey:
    """What the walk met."""

    relations: dict[Name, None] = field(default_factory=dict)
    functions: dict[Name, None] = field(default_factory=dict)
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
    stack: _Stack = [({kind: body}, _OPEN)]
    while stack:
        node, scope = stack.pop()
        if isinstance(node, list):
            stack.extend((item, scope) for item in node if isinstance(item, (dict, list)))
            continue
        if "relname" in node:
            _relation(seen, node, scope)
            continue
        if node.get("op") in _SET_OPERATIONS:
            seen.set_operation = True
        if "withClause" in node:
            seen.cte = True
            scope = _common_tables(node["withClause"], scope, stack)
        for key, value in node.items():
            if not isinstance(value, (dict, list)) or key in _LEAVES or key == "withClause":
                continue
            if key in _CREATED:
                continue
            if key in _TARGETS and isinstance(value, dict) and "relation" in value:
                _relation(seen, value["relation"], _OPEN)
                value = {name: part for name, part in value.items() if name != "relation"}
            else:
                _note(seen, key, value)
            stack.append((value, scope))
    return seen


def _note(seen: Survey, key: str, value: Any) -> None:
    """Remember what a key alone says."""
    if key == "funcname":
        seen.functions[name_of(value)] = None
    elif key == "ParamRef":
        seen.parameters = max(seen.parameters, value.get("number", 0))
    elif key in {"SubLink", "RangeSubselect"}:
        seen.subquery = True
    elif key in {"RangeFunction", "RangeTableFunc", "JsonTable"}:
        seen.table_function = True
    elif key == "CurrentOfExpr":
        seen.cursor = True


def _relation(seen: Survey, node: Node, scope: _Scope) -> None:
    seen.occurrences += 1
    name = Name(node.get("schemaname", ""), node["relname"])
    if name.schema or not scope.hides(name.name):
        seen.relations[name] = None


def _common_tables(clause: Node, scope: _Scope, stack: _Stack) -> _Scope:
    """Put the CTEs on the stack, each with what it sees; returns what the body sees."""
    tables = [entry["CommonTableExpr"] for entry in clause.get("ctes", [])]
    names: dict[str, int] = {}
    for number, table in enumerate(tables):
        names.setdefault(table["ctename"], number)
    everything = _Scope(names, len(tables), scope)
    for number, table in enumerate(tables):
        sees = everything if clause.get("recursive") else _Scope(names, number, scope)
        stack.append((table.get("ctequery", {}), sees))
    return everything


def name_of(parts: list[Node]) -> Name:
    """A qualified name from a list of String nodes; a database in front is dropped."""
    words = [part["String"].get("sval", "") for part in parts if "String" in part]
    return Name(words[-2] if len(words) > 1 else "", words[-1] if words else "")
