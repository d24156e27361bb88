"""Expressions: columns, constants, rows, subqueries, and what is left over.

Laws: a cast keeps identity only where it is injective (F3 of tenancy.md); an expression that is not
understood keeps its subqueries, and the columns that must not be NULL for it to have a value;
recursion is counted, walks over the rest are iterative.
"""

from __future__ import annotations

from typing import Any, Final

from pgguard.sql.facts.constants import constant, family, is_deterministic
from pgguard.sql.plan.nodes import Column, Expression, Fallback, Other, Row, Scalar, Value
from pgguard.sql.scopes import Node, name_of
from pgguard.sql.statement import DEFAULT, Name

DEPTH: Final = 160
SIZE: Final = 20_000

_WORDS: Final = """
= <> < > <= >= + - * / % ^ ~~ !~~ ~~* !~~* ~ ~* !~ !~* & | # << >> -> ->> #> #>>
"""
_STRICT_SIGNS: Final = frozenset(_WORDS.split())
_STRICT: Final = """
abs btrim ceil char_length date_part date_trunc extract floor initcap left length lower ltrim md5
octet_length replace reverse right round rtrim split_part strpos substr substring to_char trim upper
"""
_STRICT_FUNCTIONS: Final = frozenset(_STRICT.split())
_BUILTIN: Final = """
any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp
cume_dist dense_rank every grouping json_agg json_agg_strict json_object_agg json_object_agg_strict
json_object_agg_unique json_object_agg_unique_strict jsonb_agg jsonb_agg_strict jsonb_object_agg
jsonb_object_agg_strict jsonb_object_agg_unique jsonb_object_agg_unique_strict max min mode
percent_rank percentile_cont percentile_disc range_agg range_intersect_agg rank regr_avgx regr_avgy
regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy stddev stddev_pop
stddev_samp string_agg sum var_pop var_samp variance xmlagg
"""
_AGGREGATES: Final = frozenset(_BUILTIN.split())
_SIGNS: Final = ("agg_star", "agg_distinct", "agg_order", "agg_filter", "agg_within_group")


class TooDeepError(Exception):
    """The statement is nested too deeply, or too large, to be proved."""


class Seen:
    """What a block's expressions contain beside their values."""

    __slots__ = ("aggregated", "calls", "over", "shown", "windowed", "windows")

    def __init__(self) -> None:
        self.aggregated = False
        self.calls: dict[Name, None] = {}
        self.windowed = False
        self.windows: list[Node] = []
        self.over: list[str] = []
        """The result columns that hold the first `shown` windows."""
        self.shown = 0


class ExpressionReader:
    """Reads expressions; `query` is of the subclass."""

    __slots__ = ("by_value", "depends", "depth", "having", "nulls", "seen", "size", "top")

    def __init__(self) -> None:
        self.by_value = False
        """A literal's value has decided something."""
        self.depends = False
        """Something depends on the values of an execution: hope may say more."""
        self.nulls: set[int] = set()
        """Parameters that say one thing if they are NULL and another if they are not."""
        self.depth = 0
        self.size = 0
        self.top: Node = {}
        """The statement itself."""
        self.having = False
        """Calls may be aggregates, and subqueries say nothing."""
        self.seen = Seen()

    def query(self, node: Node) -> Any:
        raise NotImplementedError

    def enter(self) -> None:
        """Count one step down; whoever calls it counts it back."""
        self.depth += 1
        self.size += 1
        if self.depth > DEPTH or self.size > SIZE:
            raise TooDeepError

    def expression(self, node: Node) -> Expression:
        """What a value is."""
        self.size += 1
        if self.size > SIZE:
            raise TooDeepError
        column = self._column(node)
        if column is not None:
            return column
        kind, body = first(node)
        if kind == "RowExpr":
            return Row(tuple(self.expression(item) for item in body.get("args", [])))
        if kind == "SubLink":
            link = body.get("subLinkType", "EXISTS_SUBLINK")
            if link in {"EXPR_SUBLINK", "ARRAY_SUBLINK"}:
                return Scalar(self.inner(body))
        if kind == "SetToDefault":
            return Value(frozenset({DEFAULT}))
        value = constant(node)
        if value is not None:
            if value.functions:
                self.collect(node)
                if self.having:
                    # It may be an aggregate.
                    return Other()
            return Value(frozenset({value}))
        if kind == "CoalesceExpr":
            self.enter()
            items = tuple(self.expression(item) for item in body.get("args", []))
            self.depth -= 1
            return Fallback(items)
        if kind == "TypeCast" and family(body.get("typeName", {})) is not None:
            inner = first(body.get("arg", {}))[0]
            if inner in {"SubLink", "CoalesceExpr"}:
                return self.expression(body["arg"])
        return Other(self.strict(node), self.collect(node))

    def inner(self, body: Node) -> Any:
        """The subquery of a SubLink."""
        kind, query = first(body.get("subselect", {}))
        return self.query(query) if kind == "SelectStmt" else None

    def _column(self, node: Node) -> Column | None:
        """The column that an expression is, seen through casts that keep identity."""
        cast = ""
        for _ in range(16):
            if "ColumnRef" in node:
                words = _words(node["ColumnRef"]["fields"])
                return Column(words, cast) if words else None
            kind, body = first(node)
            if kind == "TypeCast":
                of = family(body.get("typeName", {}))
                if of is None or (cast and of and of != cast):
                    return None
                cast = of or cast
            elif kind == "CollateClause":
                if not is_deterministic(name_of(body.get("collname", [])).name):
                    return None
            else:
                return None
            node = body.get("arg", {})
        return None

    def strict(self, node: Node) -> tuple[Column, ...]:
        """The columns without which the expression has no value."""
        found: list[Column] = []
        stack = [node]
        while stack:
            kind, body = first(stack.pop())
            if kind == "ColumnRef":
                words = _words(body["fields"])
                if words:
                    found.append(Column(words))
            elif kind == "A_Expr":
                schema, sign = name_of(body.get("name", []))
                plain = sign in _STRICT_SIGNS and schema in {"", "pg_catalog"}
                if plain and body.get("kind") == "AEXPR_OP":
                    stack += [body[side] for side in ("lexpr", "rexpr") if side in body]
            elif kind == "TypeCast":
                stack.append(body.get("arg", {}))
            elif kind == "FuncCall" and "over" not in body:
                name = name_of(body["funcname"])
                if name.schema in {"", "pg_catalog"} and name.name in _STRICT_FUNCTIONS:
                    stack += body.get("args", [])
        return tuple(found)

    def collect(self, node: Any) -> tuple[Any, ...]:
        """The subqueries in an expression; notes aggregates and windows."""
        queries: list[Any] = []
        stack = [node]
        while stack:
            item = stack.pop()
            if item.__class__ is list:
                stack.extend(item)
                continue
            if item.__class__ is not dict or "ColumnRef" in item or "A_Const" in item:
                continue
            for key, value in item.items():
                if key == "SubLink":
                    queries.append(self.inner(value))
                    stack.append(value.get("testexpr", {}))
                elif key == "FuncCall":
                    self._call(value)
                    stack.append(value)
                elif key == "GroupingFunc":
                    self.seen.aggregated = True
                elif key in {"JsonObjectAgg", "JsonArrayAgg"}:
                    self.seen.aggregated = True
                    stack.append(value)
                elif value.__class__ is dict or (value.__class__ is list and key != "name"):
                    stack.append(value)
        return tuple([query for query in queries if query is not None]) if queries else ()

    def _call(self, body: Node) -> None:
        if "over" in body:
            self.seen.windowed = True
            self.seen.windows.append(body["over"])
            return
        name = name_of(body.get("funcname", []))
        if name.name in _AGGREGATES or any(sign in body for sign in _SIGNS):
            self.seen.aggregated = True
        else:
            self.seen.calls[name] = None


def _words(fields: list[Node]) -> tuple[str, ...]:
    """The words of a reference; none if it is a star, or too long to be one."""
    words = tuple([field["String"].get("sval", "") for field in fields if "String" in field])
    return words if len(words) == len(fields) < 4 else ()


def first(node: Node) -> tuple[str, Any]:
    """The name of a node and the node itself."""
    for kind, body in node.items():
        return kind, body
    return "", {}
