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

from pgguard.sql.statement import Name, Write

Node = dict[str, Any]

_LEAVES: Final = frozenset(
    {"ColumnRef", "A_Const", "TypeName", "typeName", "lockingClause", "withClause", "alias"}
)
"""What is not walked through, as it is read otherwise or holds names alone."""
_NOTED: Final = frozenset(
    {
        *("funcname", "method", "A_Expr", "CaseExpr", "operName", "useOp", "A_Indirection"),
        *("colnames", "ParamRef", "SubLink", "RangeSubselect", "RangeFunction", "RangeTableFunc"),
        *("JsonTable", "CurrentOfExpr", "JoinExpr"),
    }
)
"""The keys that `_note` knows."""
_CREATED: Final = frozenset({"into", "intoClause"})
_SET_OPERATIONS: Final = frozenset({"SETOP_UNION", "SETOP_INTERSECT", "SETOP_EXCEPT"})
_TARGETS: Final = {
    "InsertStmt": "i",
    "UpdateStmt": "u",
    "DeleteStmt": "d",
    "MergeStmt": "iud",
}
"""What each does to the rows of its target; see `Write`."""


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

_WORDS: Final = frozenset({"colnames", "funcname", "name", "operName", "useOp"})
"""Lists of words alone."""
_SPECIAL: Final = _LEAVES | _CREATED | _NOTED | _WORDS | set(_TARGETS)
_NONE: Final[Node] = {}

_Stack = list[tuple[Any, _Scope]]


@dataclass(slots=True)
class Survey:
    """What the walk met."""

    relations: dict[Name, None] = field(default_factory=dict)
    functions: dict[Name, None] = field(default_factory=dict)
    operators: dict[str, None] = field(default_factory=dict)
    """Without schema; those of pg_catalog, if it was named, left out."""
    words: dict[str, None] = field(default_factory=dict)
    """References without a qualifier: columns, and whole rows by their alias; and USING."""
    stars: dict[str, None] = field(default_factory=dict)
    """What a star stands for: an alias, or everything (empty), as NATURAL does."""
    attributes: dict[str, None] = field(default_factory=dict)
    """What stands behind a dot: columns, but functions too, for `t.f` may be `f(t)`."""
    types: dict[str, None] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    renames: bool = False
    """Columns of something in FROM have other names here, or go by the name of a join."""
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
    if kind == "CopyStmt" and body.get("is_from") and "relation" in body:
        relation = body["relation"]
        name = Name(relation.get("schemaname", ""), relation["relname"])
        seen.writes.append(Write(name, "i", ()))
    stack: _Stack = [({kind: body}, _OPEN)]
    while stack:
        node, scope = stack.pop()
        if node.__class__ is list:
            for item in node:
                if item.__class__ is dict:
                    if "ResTarget" in item:
                        # A result that is a plain column, which most are, needs no walk.
                        target = item["ResTarget"]
                        value = target.get("val", _NONE)
                        if "ColumnRef" in value and "indirection" not in target:
                            _reference(seen, value["ColumnRef"]["fields"])
                            continue
                    elif "A_Const" in item:
                        continue
                    elif "String" in item:
                        seen.words[item["String"].get("sval", "")] = None
                        continue
                    stack.append((item, scope))
                elif item.__class__ is list:
                    stack.append((item, scope))
            continue
        if "relname" in node:
            _relation(seen, node, scope)
            continue
        if "isNatural" in node:
            seen.stars[""] = None
        if "op" in node and node["op"] in _SET_OPERATIONS:
            seen.set_operation = True
        if "withClause" in node:
            seen.cte = True
            scope = _common_tables(seen, node["withClause"], scope, stack)
        for key, value in node.items():
            if value.__class__ is dict:
                if "ColumnRef" in value:
                    _reference(seen, value["ColumnRef"]["fields"])
                    continue
                if "A_Const" in value:
                    continue
            elif value.__class__ is not list:
                continue
            if key in _SPECIAL:
                if key in _LEAVES:
                    _leaf(seen, key, value)
                    continue
                if key in _CREATED:
                    continue
                if key in _TARGETS and isinstance(value, dict) and "relation" in value:
                    _relation(seen, value["relation"], _OPEN)
                    seen.writes.append(_write(key, value))
                    value = {name: part for name, part in value.items() if name != "relation"}
                elif key in _NOTED:
                    _note(seen, key, value)
                if key in _WORDS:
                    continue
            stack.append((value, scope))
    return seen


def _reference(seen: Survey, fields: list[Node]) -> None:
    """A column, a whole row, or a star."""
    last = fields[-1]
    if "String" not in last:
        seen.stars[fields[-2]["String"].get("sval", "") if len(fields) > 1 else ""] = None
    elif len(fields) == 1:
        seen.words[last["String"].get("sval", "")] = None
    else:
        for part in fields[1:]:
            seen.attributes[part["String"].get("sval", "")] = None


def _note(seen: Survey, key: str, value: Any) -> None:
    """Remember what a key alone says."""
    if key in {"funcname", "method"}:
        seen.functions[name_of(value)] = None
    elif key == "A_Expr":
        _operator(seen, value)
    elif key == "CaseExpr" and "arg" in value:
        seen.operators["="] = None
    elif key in {"operName", "useOp"}:
        _operator(seen, {"name": value})
    elif key == "A_Indirection":
        _attributes(seen, value.get("indirection", []))
    elif key == "colnames":
        seen.renames = True
    elif key == "ParamRef":
        seen.parameters = max(seen.parameters, value.get("number", 0))
    elif key in {"SubLink", "RangeSubselect"}:
        seen.subquery = True
    elif key in {"RangeFunction", "RangeTableFunc", "JsonTable"}:
        seen.table_function = True
    elif key == "CurrentOfExpr":
        seen.cursor = True
    elif key == "JoinExpr" and "alias" in value:
        seen.renames = True


def _leaf(seen: Survey, key: str, value: Any) -> None:
    """Remember the names in what is not walked through."""
    if key == "ColumnRef":
        _reference(seen, value["fields"])
    elif key == "alias":
        seen.renames = seen.renames or "colnames" in value
    elif key in {"TypeName", "typeName"}:
        seen.types[name_of(value.get("names", [])).name] = None


def _operator(seen: Survey, body: Node) -> None:
    name = name_of(body.get("name", []))
    if body.get("kind", "").startswith(("AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN")):
        seen.operators |= {"<": None, "<=": None, ">": None, ">=": None}
    elif name.schema != "pg_catalog":
        seen.operators[name.name] = None


def _attributes(seen: Survey, parts: list[Node]) -> None:
    for part in parts:
        if "String" in part:
            seen.attributes[part["String"].get("sval", "")] = None


def _write(kind: str, body: Node) -> Write:
    """What a statement does to the rows of its target."""
    actions, targets = _TARGETS[kind], body.get("targetList", [])
    conflict = body.get("onConflictClause", {})
    if conflict.get("action") == "ONCONFLICT_UPDATE":
        actions, targets = "iu", conflict.get("targetList", [])
    columns = tuple(target["ResTarget"].get("name", "") for target in targets)
    relation = body["relation"]
    name = Name(relation.get("schemaname", ""), relation["relname"])
    return Write(name, actions, None if kind == "MergeStmt" else columns)


def _relation(seen: Survey, node: Node, scope: _Scope) -> None:
    seen.occurrences += 1
    seen.renames = seen.renames or "colnames" in node.get("alias", {})
    name = Name(node.get("schemaname", ""), node["relname"])
    if name.schema or not scope.hides(name.name):
        seen.relations[name] = None


def _common_tables(seen: Survey, clause: Node, scope: _Scope, stack: _Stack) -> _Scope:
    """Put the CTEs on the stack, each with what it sees; returns what the body sees."""
    tables = [entry["CommonTableExpr"] for entry in clause.get("ctes", [])]
    names: dict[str, int] = {}
    for number, table in enumerate(tables):
        names.setdefault(table["ctename"], number)
        seen.renames = seen.renames or "aliascolnames" in table
    everything = _Scope(names, len(tables), scope)
    for number, table in enumerate(tables):
        sees = everything if clause.get("recursive") else _Scope(names, number, scope)
        stack.append((table.get("ctequery", {}), sees))
    return everything


def name_of(parts: list[Node]) -> Name:
    """A qualified name from a list of String nodes; a database in front is dropped."""
    if len(parts) == 1:
        return Name("", parts[0].get("String", _NONE).get("sval", ""))
    words = [part["String"].get("sval", "") for part in parts if "String" in part]
    return Name(words[-2] if len(words) > 1 else "", words[-1] if words else "")
