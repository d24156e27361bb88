"""SELECT, VALUES, set operations, what stands in FROM, and common table expressions.

Laws: chains that the grammar nests (set operations, joins) are read in a loop on their left side;
of VALUES only what all rows have in common is kept; ORDER BY, LIMIT and the like matter for their
subqueries and as barriers (F6 of tenancy.md).
"""

from __future__ import annotations

from typing import Any, Final

from pgguard.sql.facts.constants import array_of, constant
from pgguard.sql.facts.environment import bounded
from pgguard.sql.plan.combining import NEVER, conjunction, queries_of
from pgguard.sql.plan.expressions import Seen, TooDeepError, first
from pgguard.sql.plan.nodes import (
    NOTHING,
    Column,
    Common,
    Derived,
    Join,
    Other,
    Predicate,
    Query,
    Relation,
    Rows,
    Select,
    SetOperation,
    Source,
    Target,
    Value,
    Values,
)
from pgguard.sql.plan.predicates import PredicateReader
from pgguard.sql.scopes import Node, name_of
from pgguard.sql.statement import DEFAULT, Constant, Name

_JOINS: Final = {
    "JOIN_INNER": "inner",
    "JOIN_LEFT": "left",
    "JOIN_RIGHT": "right",
    "JOIN_FULL": "full",
}
_OPERATORS: Final = {
    "SETOP_UNION": "union",
    "SETOP_EXCEPT": "except",
    "SETOP_INTERSECT": "intersect",
}
_REST: Final = ("sortClause", "limitCount", "limitOffset", "windowClause", "distinctClause")


class QueryReader(PredicateReader):
    """Reads what returns rows; `write` is of the subclass."""

    __slots__ = ()

    def write(self, kind: str, body: Node) -> Any:
        raise NotImplementedError

    def query(self, node: Node) -> Query:
        """The body of a SelectStmt."""
        self.enter()
        # Conditions of an inner query are none of the outer HAVING.
        having, self.having = self.having, False
        seen, self.seen = self.seen, Seen()
        if node.get("op", "SETOP_NONE") in _OPERATORS:
            read = self._set_operation(node)
        elif "valuesLists" in node:
            read = self._values_lists(node)
        else:
            read = self._select(node)
        self.seen, self.having = seen, having
        self.depth -= 1
        return read

    def any_query(self, kind: str, body: Node) -> Query:
        """A SELECT or a write."""
        return self.query(body) if kind == "SelectStmt" else self.write(kind, body)

    def _set_operation(self, node: Node) -> Query:
        operator = node["op"]
        arms: list[Node] = []
        left = node
        while left.get("op") == operator and (left is node or not _has_tail(left)):
            if operator != "SETOP_UNION" and left is not node:
                break
            arms.append(left["rarg"])
            left = left["larg"]
        arms.append(left)
        arms.reverse()
        common, recursive = self.common_tables(node)
        return SetOperation(
            _OPERATORS[operator],
            tuple(self.query(arm) for arm in arms),
            _is_limited(node),
            self._rest(node),
            common,
            recursive,
        )

    def _values_lists(self, node: Node) -> Query:
        rows = [row["List"].get("items", []) for row in node["valuesLists"]]
        common, recursive = self.common_tables(node)
        columns, queries = self.united(rows)
        rest = queries + self._rest(node)
        return Values(columns, len(rows), _is_limited(node), rest, common, recursive)

    def united(self, rows: list[list[Node]]) -> tuple[tuple[Any, ...], tuple[Query, ...]]:
        """What all rows have in each place, and the subqueries of all."""
        width = max((len(row) for row in rows), default=0)
        if len(rows) == 1:
            return tuple(self.expression(value) for value in rows[0]), ()
        constants: list[dict[Constant, None] | None] = [{} for _ in range(width)]
        queries: list[Query] = []
        for row in rows:
            for place, value in enumerate(row):
                known = DEFAULT if "SetToDefault" in value else constant(value)
                held = constants[place]
                if known is None:
                    one = self.expression(value)
                    queries += queries_of(one)
                    constants[place] = None
                elif held is not None:
                    held[known] = None
        return tuple(Value(bounded(held)) if held else Other() for held in constants), tuple(
            queries
        )

    def _select(self, node: Node) -> Query:
        select = Select(limited=_is_limited(node))
        select.common, select.recursive = self.common_tables(node)
        select.sources = tuple(self.source(item) for item in node.get("fromClause", []))
        where = node.get("whereClause")
        select.where = self.predicate(where)
        select.condition = condition_word(where)
        seen = self.seen = Seen()
        select.targets = self.targets(_telling(node, top=node is self.top))
        select.queries = self._rest(node)
        if "groupClause" in node or "havingClause" in node:
            self._group(node, select)
        select.aggregated = select.aggregated or seen.aggregated
        select.calls = tuple(seen.calls)
        select.windowed = seen.windowed
        distinct = node.get("distinctClause", [])
        if seen.windowed:
            select.partitions = self._partitions(seen.windows, node.get("windowClause", []))
            if not distinct and len(seen.windows) == seen.shown:
                select.over = tuple(seen.over)
        if distinct and first(distinct[0])[0]:
            select.distinct = tuple(self._by_number(item, select) for item in distinct)
        return select

    def _group(self, node: Node, select: Select) -> None:
        groups = node.get("groupClause", [])
        select.grouped = bool(groups)
        select.sets = any("GroupingSet" in group for group in groups)
        if not select.sets:
            select.groups = tuple(self._by_number(group, select) for group in groups)
            for group in select.groups:
                select.queries += queries_of(group)
        else:
            select.queries += self.collect(groups)
        having = node.get("havingClause")
        if having is None:
            return
        select.aggregated = True
        self.having = True
        said = self.predicate(having)
        self.having = False
        self.collect(having)
        if select.groups:
            # No group is left, but an impossible HAVING still reads every row.
            select.having = NOTHING if said is NEVER else said
        else:
            select.queries += self.collect(having)

    def _by_number(self, node: Node, select: Select) -> Any:
        """GROUP BY 1 and GROUP BY an output's name mean what the result column is."""
        number = node.get("A_Const", {}).get("ival", {}).get("ival")
        plain = number is not None and not any(target.star for target in select.targets)
        if plain and 0 < number <= len(select.targets):
            return select.targets[number - 1].value
        return self.expression(node)

    def _partitions(self, used: list[Node], named: list[Node]) -> tuple[tuple[Any, ...], ...]:
        known = {w["WindowDef"].get("name", ""): w["WindowDef"] for w in named}
        found = []
        for window in used:
            name = window.get("name") or window.get("refname") or ""
            keys = list(window.get("partitionClause", []))
            for _ in range(8):
                if name not in known:
                    break
                keys += known[name].get("partitionClause", [])
                name = known[name].get("refname", "")
            found.append(tuple(self.expression(key) for key in keys))
        return tuple(found)

    def targets(self, nodes: list[Node]) -> tuple[Target, ...]:
        """A select list, or RETURNING."""
        found = []
        for node in nodes:
            entry = node["ResTarget"]
            value = entry.get("val", {})
            star = _star(value)
            if star is not None:
                found.append(Target("", Column(star), star=True))
            else:
                name = entry.get("name") or _figured(value)
                found.append(Target(name, self.expression(value)))
                if len(self.seen.windows) > self.seen.shown:
                    self.seen.over.append(name)
                    self.seen.shown = len(self.seen.windows)
        return tuple(found)

    def _rest(self, node: Node) -> tuple[Query, ...]:
        """The subqueries outside of WHERE and the select list."""
        kept = [node[key] for key in _REST if key in node]
        return self.collect(kept) if kept else ()

    def common_tables(self, node: Node) -> tuple[tuple[Common, ...], bool]:
        """WITH, in its order."""
        clause = node.get("withClause")
        if clause is None:
            return (), False
        found = []
        for entry in clause.get("ctes", []):
            table = entry["CommonTableExpr"]
            kind, body = first(table.get("ctequery", {}))
            cycles = "search_clause" in table or "cycle_clause" in table
            query = self.any_query(kind, body)
            name, columns = table["ctename"], _strings(table.get("aliascolnames"))
            itself = bool(clause.get("recursive")) and _names(body, name)
            found.append(Common(name, columns, query, itself, cycles))
        return tuple(found), bool(clause.get("recursive"))

    def source(self, node: Node) -> Source:
        """What stands in FROM."""
        kind, body = first(node)
        if kind == "RangeTableSample":
            self.collect(body.get("args", []))
            kind, body = first(body.get("relation", {}))
        if kind == "RangeVar":
            return relation(body)
        alias, columns = alias_of(body)
        if kind == "JoinExpr":
            return self._join(body)
        if kind == "RangeSubselect":
            inner, query = first(body.get("subquery", {}))
            return Derived(self.any_query(inner, query), alias, columns, "lateral" in body)
        if kind == "RangeFunction" and not alias:
            alias = _function_name(body)
        if "coldeflist" in body:
            columns = tuple(c["ColumnDef"].get("colname", "") for c in body["coldeflist"])
        queries = self.collect([v for k, v in body.items() if k not in {"alias", "coldeflist"}])
        given = kind != "RangeFunction" or _function_name(body) != "generate_series"
        elements = _elements(body) if kind == "RangeFunction" else None
        return Rows(alias, columns, queries, "coldeflist" not in body, given, elements)

    def _join(self, body: Node) -> Source:
        chain: list[Node] = []
        node: Node = {"JoinExpr": body}
        while "JoinExpr" in node:
            chain.append(node["JoinExpr"])
            node = node["JoinExpr"]["larg"]
            if len(chain) > 100:
                raise TooDeepError
        left = self.source(node)
        for join in reversed(chain):
            self.enter()
            right = self.source(join["rarg"])
            alias, columns = alias_of(join)
            using = alias_of(join, "join_using_alias")[0]
            left = Join(
                _JOINS.get(join.get("jointype", "JOIN_INNER"), "full"),
                left,
                right,
                self.predicate(join.get("quals")),
                _strings(join.get("usingClause")),
                bool(join.get("isNatural")),
                alias or (f"\0{using}" if using else ""),
                columns,
            )
        self.depth -= len(chain)
        return left

    def nested(self, joins: list[Node]) -> tuple[Source, ...]:
        """FROM or USING of a write."""
        return tuple(self.source(item) for item in joins)

    def both(self, one: Predicate, other: Predicate) -> Predicate:
        return conjunction([one, other])


def _telling(node: Node, *, top: bool) -> list[Node]:
    """The select list; of the statement itself, whose columns nobody reads, what is more than a
    column."""
    targets: list[Node] = node.get("targetList", [])
    if not top or "groupClause" in node or "distinctClause" in node:
        return targets
    found = []
    for one in targets:
        value = one["ResTarget"].get("val", {})
        if "ColumnRef" not in value or "String" not in value["ColumnRef"]["fields"][-1]:
            found.append(one)
    return found


def relation(body: Node) -> Relation:
    """A table's name in FROM or as a target."""
    alias, columns = alias_of(body)
    name = Name(body.get("schemaname", ""), body["relname"])
    return Relation(name, alias, columns, body.get("location", 0))


def alias_of(body: Node, key: str = "alias") -> tuple[str, tuple[str, ...]]:
    if key not in body:
        return "", ()
    alias = body[key]
    return alias.get("aliasname", ""), _strings(alias.get("colnames"))


def condition_word(where: Node | None) -> str:
    """How a further condition is added to this one."""
    if not where:
        return ""
    return "or" if where.get("BoolExpr", {}).get("boolop") == "OR_EXPR" else "and"


def _strings(nodes: list[Node] | None) -> tuple[str, ...]:
    return tuple([part["String"].get("sval", "") for part in nodes]) if nodes else ()


def _is_limited(node: Node) -> bool:
    """LIMIT or OFFSET, but for OFFSET 0 and LIMIT ALL."""
    for key in ("limitCount", "limitOffset"):
        value = node.get(key)
        if value is None or value.get("A_Const", {}).get("isnull"):
            continue
        zero = "ival" in value.get("A_Const", {}) and not value["A_Const"]["ival"].get("ival")
        if not (key == "limitOffset" and zero):
            return True
    return False


def _has_tail(node: Node) -> bool:
    return any(key in node for key in ("withClause", "sortClause", "limitCount", "limitOffset"))


def _star(value: Node) -> tuple[str, ...] | None:
    """The qualifier of `*` or `t.*`; what else stands in front of a star is not understood."""
    fields = value.get("ColumnRef", {}).get("fields", [])
    if fields and "A_Star" in fields[-1]:
        return tuple(field["String"].get("sval", "") for field in fields[:-1])
    indirection = value.get("A_Indirection", {}).get("indirection", [])
    if any("A_Star" in part for part in indirection):
        return ("", "", "", "")
    return None


def _figured(value: Node) -> str:
    """The name that Postgres gives a result column."""
    for _ in range(16):
        kind, body = first(value)
        if kind == "ColumnRef":
            words = [f["String"].get("sval", "") for f in body["fields"] if "String" in f]
            return words[-1] if words else ""
        if kind == "FuncCall":
            return name_of(body.get("funcname", [])).name
        if kind in {"TypeCast", "CollateClause"}:
            inner = first(body.get("arg", {}))[0]
            if kind == "TypeCast" and inner in {"A_Const", "ParamRef", "A_Expr", "RowExpr"}:
                return name_of(body["typeName"].get("names", [])).name
            value = body.get("arg", {})
            continue
        if kind == "SubLink" and body.get("subLinkType") == "EXPR_SUBLINK":
            targets = first(body.get("subselect", {}))[1].get("targetList", [])
            if not targets:
                return ""
            entry = targets[0]["ResTarget"]
            if "name" in entry:
                return str(entry["name"])
            value = entry.get("val", {})
            continue
        return {"CoalesceExpr": "coalesce", "CaseExpr": "case", "SubLink": "exists"}.get(kind, "")
    return ""


def _function_name(body: Node) -> str:
    for entry in body.get("functions", []):
        items = entry.get("List", {}).get("items", [])
        for item in items[:1]:
            return name_of(item.get("FuncCall", {}).get("funcname", [])).name
    return ""


def _elements(body: Node) -> Constant | None:
    """The constant array of `unnest(array)`, if that is all."""
    functions = body.get("functions", [])
    if len(functions) != 1 or "ordinality" in body or "is_rowsfrom" in body:
        return None
    call = functions[0].get("List", {}).get("items", [{}])[0].get("FuncCall", {})
    arguments = call.get("args", [])
    name = name_of(call.get("funcname", []))
    if name.name != "unnest" or name.schema not in {"", "pg_catalog"} or len(arguments) != 1:
        return None
    array = arguments[0]
    while "TypeCast" in array:
        array = array["TypeCast"]["arg"]
    if "SubLink" in array:
        return None
    found = array_of(array)
    return found if found is not None and found.kind == "array" else None


def _names(body: Node, name: str) -> bool:
    """Whether a relation of that name stands anywhere in it."""
    stack: list[Any] = [body]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            if item.get("relname") == name and "schemaname" not in item:
                return True
            stack.extend(item.values())
    return False
