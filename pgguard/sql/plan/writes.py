"""INSERT, UPDATE, DELETE and MERGE; and the planner that reads any statement.

Laws: what a column becomes is an expression like any other; DEFAULT is one of its own kind; a
column that is set in a way that is not understood is set to something unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pgguard.sql.plan.combining import queries_of
from pgguard.sql.plan.expressions import Seen, TooDeepError, first
from pgguard.sql.plan.nodes import Action, Conflicting, Expression, Other, Query, Write
from pgguard.sql.plan.queries import QueryReader, condition_word, relation

if TYPE_CHECKING:
    from pgguard.sql.scopes import Node

_KINDS: Final = {
    "InsertStmt": "insert",
    "UpdateStmt": "update",
    "DeleteStmt": "delete",
    "MergeStmt": "merge",
}
_COMMANDS: Final = {"CMD_INSERT": "insert", "CMD_UPDATE": "update", "CMD_DELETE": "delete"}
_WHEN: Final = {
    "MERGE_WHEN_MATCHED": "matched",
    "MERGE_WHEN_NOT_MATCHED_BY_SOURCE": "left_over",
    "MERGE_WHEN_NOT_MATCHED_BY_TARGET": "missing",
}


class Planner(QueryReader):
    """Reads one statement."""

    __slots__ = ()

    def write(self, kind: str, body: Node) -> Query:
        """A statement that changes rows; what is none of them is not understood."""
        if kind not in _KINDS or "relation" not in body:
            raise TooDeepError
        self.enter()
        seen, self.seen = self.seen, Seen()
        write = Write(_KINDS[kind], relation(body["relation"]))
        write.common, write.recursive = self.common_tables(body)
        if kind == "InsertStmt":
            self._insert(body, write)
        elif kind == "MergeStmt":
            write.sources = (self.source(body["sourceRelation"]),)
            write.where = self.predicate(body.get("joinCondition"))
            write.actions = tuple(
                self._action(when["MergeWhenClause"]) for when in body.get("mergeWhenClauses", [])
            )
        else:
            key = "fromClause" if kind == "UpdateStmt" else "usingClause"
            write.sources = self.nested(body.get(key, []))
            where = body.get("whereClause")
            if where and "CurrentOfExpr" in where:
                write.cursor = True
            else:
                write.where = self.predicate(where)
            write.condition = condition_word(where)
            write.assigned = self.assignments(body.get("targetList", []))
        write.returning = self.targets(_returning(body))
        self.seen = seen
        self.depth -= 1
        return write

    def _insert(self, body: Node, write: Write) -> None:
        if "cols" in body:
            write.columns = tuple(column["ResTarget"]["name"] for column in body["cols"])
            if any("indirection" in column["ResTarget"] for column in body["cols"]):
                raise TooDeepError
        kind, source = first(body.get("selectStmt", {}))
        write.source = self.query(source) if kind == "SelectStmt" else None
        write.overriding = body.get("override") == "OVERRIDING_USER_VALUE"
        clause = body.get("onConflictClause", {})
        target = clause.get("infer", {})
        write.queries += self.collect(target)
        if clause.get("action") != "ONCONFLICT_UPDATE":
            return
        columns = tuple(
            element["IndexElem"]["name"]
            for element in target.get("indexElems", [])
            if "name" in element["IndexElem"]
        )
        write.conflict = Conflicting(
            columns,
            target.get("conname", ""),
            self.predicate(clause.get("whereClause")),
            self.assignments(clause.get("targetList", [])),
        )

    def _action(self, body: Node) -> Action:
        kind = _COMMANDS.get(body.get("commandType", ""), "")
        columns: tuple[str, ...] | None = None
        values: tuple[Expression, ...] = ()
        assigned: tuple[tuple[str, Expression], ...] = ()
        if kind == "insert":
            if "targetList" in body:
                columns = tuple(t["ResTarget"].get("name", "") for t in body["targetList"])
            values = tuple(self.expression(value) for value in body.get("values", []))
        elif kind == "update":
            assigned = self.assignments(body.get("targetList", []))
        when = _WHEN.get(body.get("matchKind", "MERGE_WHEN_MATCHED"), "left_over")
        condition = self.predicate(body.get("condition"))
        return Action(kind, when, condition, columns, values, assigned)

    def assignments(self, targets: list[Node]) -> tuple[tuple[str, Expression], ...]:
        """SET: what each column becomes."""
        assigned: dict[str, Expression] = {}
        for target in targets:
            entry = target["ResTarget"]
            value = self._assigned(entry.get("val", {}))
            if "indirection" in entry or entry["name"] in assigned:
                value = Other((), queries_of(value))
            assigned[entry["name"]] = value
        return tuple(assigned.items())

    def _assigned(self, value: Node) -> Expression:
        reference = value.get("MultiAssignRef")
        if reference is None:
            return self.expression(value)
        source = reference.get("source", {})
        row = source.get("RowExpr", {}).get("args", [])
        place = reference.get("colno", 0) - 1
        if 0 <= place < len(row):
            return self.expression(row[place])
        return Other((), self.collect(source))


def _returning(body: Node) -> list[Node]:
    """RETURNING, as PostgreSQL 18's grammar has it and as earlier ones did."""
    clause = body.get("returningClause")
    if clause is not None:
        exprs: list[Node] = clause.get("exprs", [])
        return exprs
    older: list[Node] = body.get("returningList", [])
    return older


class Planned(NamedTuple):
    """How a statement was read."""

    plan: Any
    by_value: bool
    """Literals' values decided something."""
    depends: bool = False
    """It depends on the values of an execution."""
    nulls: tuple[int, ...] = ()
    """Parameters that decide something by being NULL or not."""
    obstacle: str = ""
    """Why there is no plan."""


def plan(kind: str, body: Node, *, columns: bool = False) -> Planned:
    """The plan of a statement."""
    planner = Planner()
    planner.top = {} if columns else body
    try:
        read = planner.any_query(kind, body)
    except (TooDeepError, RecursionError):
        return Planned(None, planner.by_value, obstacle="it is nested too deeply or too large")
    return Planned(read, planner.by_value, planner.depends, tuple(sorted(planner.nulls)))
