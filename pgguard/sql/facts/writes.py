"""What INSERT, UPDATE and DELETE put where.

Laws: a value is a constant, `DEFAULT`, a column of the row, or `OPAQUE`; for each position of an
INSERT the values of all rows are united, bounded; nothing here knows the table's columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.sql.facts.constants import term, written
from pgguard.sql.facts.environment import bounded, known
from pgguard.sql.facts.predicates import Reader
from pgguard.sql.statement import DRAWN, OPAQUE, Conflict, Constant, Occurrence, Term

if TYPE_CHECKING:
    from pgguard.sql.scopes import Node
    from pgguard.sql.statement import Part

_Values = tuple[frozenset[Constant], ...]


def read_insert(body: Node, part: Part, table: Occurrence) -> bool:
    """Fill in an INSERT; whether a literal's value has decided something."""
    part.columns = tuple(c["ResTarget"]["name"] for c in body["cols"]) if "cols" in body else None
    source = body.get("selectStmt", {}).get("SelectStmt", {})
    if "valuesLists" in source:
        part.values = _united([row["List"].get("items", []) for row in source["valuesLists"]])
    elif source:
        part.values = _selected(source, part)
    if body.get("override") == "OVERRIDING_USER_VALUE":
        part.obstacle = "it overrides the values that it gives"
    clause = body.get("onConflictClause", {})
    if clause.get("action") != "ONCONFLICT_UPDATE":
        return False
    reader = Reader(table, excluded=True)
    condition = reader.read(clause.get("whereClause"))
    target = clause.get("infer", {})
    columns = tuple(
        element["IndexElem"]["name"]
        for element in target.get("indexElems", [])
        if "name" in element["IndexElem"]
    )
    part.conflict = Conflict(columns, target.get("conname", ""), known(condition))
    part.assigned = read_assignments(clause.get("targetList", []), table, excluded=True)
    return reader.by_value


def read_assignments(
    targets: list[Node], table: Occurrence, *, excluded: bool = False
) -> dict[str, Constant | Term]:
    """SET: what each column becomes."""
    assigned: dict[str, Constant | Term] = {}
    for target in targets:
        entry = target["ResTarget"]
        value = entry.get("val", {})
        if "MultiAssignRef" in value:
            value = _component(value["MultiAssignRef"])
        column = term(value, table, excluded=excluded)
        if "indirection" in entry or entry["name"] in assigned:
            assigned[entry["name"]] = OPAQUE
        elif column is not None and not column.cast:
            assigned[entry["name"]] = column
        else:
            assigned[entry["name"]] = written(value)
    return assigned


def _component(reference: Node) -> Node:
    """One value of `(a, b) = (1, 2)`; an empty node if it is a subquery."""
    row: list[Node] = reference.get("source", {}).get("RowExpr", {}).get("args", [])
    place = reference.get("colno", 0) - 1
    return row[place] if 0 <= place < len(row) else {"SubLink": {}}


def _united(rows: list[list[Node]]) -> _Values:
    width = max((len(row) for row in rows), default=0)
    columns: list[dict[Constant, None]] = [{} for _ in range(width)]
    for row in rows:
        for place, value in enumerate(row):
            columns[place][written(value)] = None
    return tuple(bounded(column) for column in columns)


def _selected(source: Node, part: Part) -> _Values:
    """INSERT … SELECT of constants, with nothing or functions in FROM."""
    targets = [entry["ResTarget"].get("val", {}) for entry in source.get("targetList", [])]
    if any(_is_star(value) for value in targets):
        part.obstacle = "the rows to insert come from SELECT *"
        return ()
    values = [written(value) for value in targets]
    if any(name.name != "generate_series" for name in part.functions) and "fromClause" in source:
        # What the caller gave as arrays or documents; a series is made up.
        values = [DRAWN if value == OPAQUE else value for value in values]
    return tuple(frozenset({value}) for value in values)


def _is_star(value: Node) -> bool:
    reference = value.get("ColumnRef") or value.get("A_Indirection") or {}
    pieces = [*reference.get("fields", []), *reference.get("indirection", [])]
    return any("A_Star" in piece for piece in pieces)
