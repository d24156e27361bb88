"""What a condition that is TRUE says (F1 to F3 of tenancy.md), still without any catalogue.

Laws: a predicate that is not understood says nothing, which is always sound; NOT is pushed inward,
so that each predicate is read for "must be true" or "must be false", NULL being neither; whatever
looks at the value of a literal sets `by_value`, since texts that differ only there share a shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgguard.sql.facts.constants import array_of, constant
from pgguard.sql.facts.environment import bounded
from pgguard.sql.plan.combining import NEVER, conjunction, disjunction, queries_of
from pgguard.sql.plan.expressions import ExpressionReader, first
from pgguard.sql.plan.nodes import (
    NOTHING,
    Absent,
    Among,
    Column,
    Either,
    Equal,
    Exists,
    Expression,
    Fallback,
    Hope,
    IfNull,
    Member,
    Null,
    Predicate,
    Row,
    Says,
    Value,
)
from pgguard.sql.statement import NULL, Constant

if TYPE_CHECKING:
    from pgguard.sql.scopes import Node

CONDITIONAL: Final = Hope(NOTHING, conditional=True)
MOST: Final = 500
"""Branches of an OR that are read one by one."""
_MOST_DEFAULTS: Final = 10
"""Arguments of a COALESCE that are read one after the other."""

_EQUALS: Final[Node] = {"kind": "AEXPR_OP", "name": [{"String": {"sval": "="}}]}
_NONE: Final[Node] = {}
_CONDITIONS: Final = frozenset({"BoolExpr", "A_Expr", "NullTest", "BooleanTest", "SubLink"})


class PredicateReader(ExpressionReader):
    """Reads conditions."""

    __slots__ = ()

    def predicate(self, node: Node | None, goal: bool = True) -> Predicate:
        """What holds where the condition is true (or false, by the goal)."""
        if not node:
            return NOTHING
        kind, body = first(node)
        while kind in {"BoolExpr", "A_Expr"}:
            # Chains of NOT and of `= true` cost no depth.
            inner = _inverted(kind, body, goal)
            if inner is None:
                break
            node, goal = inner
            kind, body = first(node)
        handler = _HANDLERS.get(kind)
        if handler is None:
            return self._opaque(node)
        self.enter()
        said = handler(self, body, goal)
        self.depth -= 1
        return said

    def _bool(self, body: Node, goal: bool) -> Predicate:
        operator, children = body["boolop"], body["args"]
        if (operator == "AND_EXPR") is goal:
            return conjunction(self.predicate(child, goal) for child in children)
        if len(children) > MOST:
            return self._branches(children, goal)
        return disjunction([self.predicate(child, goal) for child in children])

    def _branches(self, children: list[Node], goal: bool) -> Predicate:
        """Many branches: they say something together or not at all."""
        said = disjunction([self.predicate(child, goal) for child in children])
        return said if not isinstance(said, Either) else Says((), self.collect(children))

    def _truth_test(self, body: Node, goal: bool) -> Predicate:
        # Only a test that fails on NULL says something: x IS TRUE, and NOT (x IS NOT TRUE).
        wanted = {
            ("IS_TRUE", True): True,
            ("IS_NOT_TRUE", False): True,
            ("IS_FALSE", True): False,
            ("IS_NOT_FALSE", False): False,
        }.get((body.get("booltesttype", "IS_TRUE"), goal))
        if wanted is None:
            return self._not_false(body, goal) or self._opaque(body["arg"], strict=False)
        return self.predicate(body["arg"], wanted)

    def _not_false(self, body: Node, goal: bool) -> Predicate | None:
        """(column = 'x') IS NOT FALSE: the literal, or NULL."""
        kind = body.get("booltesttype", "IS_TRUE")
        if (kind, goal) not in {("IS_NOT_FALSE", True), ("IS_FALSE", False)}:
            return None
        said = self.predicate(body["arg"], True)
        if not isinstance(said, Equal) or said.null_safe or not isinstance(said.right, Value):
            return None
        # Of a list with a NULL in it every other value is NULL, too.
        plain = all(one.kind == "literal" for one in said.right.constants)
        if not plain or not isinstance(said.left, Column):
            return None
        return Among(said.left, said.right.constants | {NULL})

    def _null_test(self, body: Node, goal: bool) -> Predicate:
        must_be_null = (body.get("nulltesttype", "IS_NULL") == "IS_NULL") is goal
        item = self.expression(body["arg"])
        if isinstance(item, Value):
            return self._null_of(next(iter(item.constants)), must_be_null)
        if must_be_null:
            return Null(item) if isinstance(item, Column) else Says((), queries_of(item))
        # A row IS NOT NULL if all its fields are.
        return Says(self.strict(body["arg"]), queries_of(item))

    def _null_of(self, value: Constant, must_be_null: bool) -> Predicate:
        if value.kind in {"null", "literal"}:
            return NOTHING if (value.kind == "null") is must_be_null else NEVER
        if value.kind == "parameter":
            absent, present = (NOTHING, NEVER) if must_be_null else (NEVER, NOTHING)
            return self._if_null(value, absent, present)
        return self._conditional()

    def _if_null(self, parameter: Constant, absent: Predicate, present: Predicate) -> IfNull:
        self.depends = True
        number = int(parameter.value)
        self.nulls.add(number)
        return IfNull(number, absent, present)

    def _case(self, body: Node, goal: bool) -> Predicate:
        arms: list[Predicate] = []
        for arm in body.get("args", []):
            when = arm["CaseWhen"]
            taken = when["expr"]
            if "arg" in body:
                taken = {"A_Expr": {**_EQUALS, "lexpr": body["arg"], "rexpr": taken}}
            # An arm is taken if its condition is true and counts if its result is as wanted.
            arms.append(
                conjunction([self.predicate(taken, True), self.predicate(when["result"], goal)])
            )
        if "defresult" in body:
            arms.append(self.predicate(body["defresult"], goal))
        said = disjunction(arms)
        # A condition that is not true is evaluated all the same.
        return conjunction([said, Says((), self._subqueries(body, said))])

    def _subqueries(self, body: Node, said: Predicate) -> tuple[Any, ...]:
        return self.collect(body) if "SubLink" in str(body) else ()

    def _coalesce(self, body: Node, goal: bool) -> Predicate:
        said = disjunction([self.predicate(argument, goal) for argument in body["args"]])
        return conjunction([said, Says((), self._subqueries(body, said))])

    def _cast(self, body: Node, goal: bool) -> Predicate:
        names = body["typeName"].get("names", [])
        words = [part["String"].get("sval", "") for part in names if "String" in part]
        if words[-1:] == ["bool"] and words[:-1] in ([], ["pg_catalog"]):
            return self.predicate(body["arg"], goal)
        return self._opaque({"TypeCast": body})

    def _value(self, body: Node, goal: bool) -> Predicate:
        """A bare constant as a condition."""
        if body.get("isnull"):
            return NEVER
        if "boolval" in body:
            return NOTHING if bool(body["boolval"].get("boolval")) is goal else NEVER
        return self._opaque({"A_Const": body})

    def _sublink(self, body: Node, goal: bool) -> Predicate:
        kind = body.get("subLinkType", "EXISTS_SUBLINK")
        query = self.inner(body)
        if self.having or query is None:
            return Says((), self.collect({"SubLink": body}))
        if kind == "EXISTS_SUBLINK":
            return Exists(query) if goal else Says((), (query,))
        if kind not in {"ANY_SUBLINK", "ALL_SUBLINK"}:
            return Says((), (query,))
        operator = operator_name(body) if "operName" in body else "="
        left = self.expression(body["testexpr"])
        some = kind == "ANY_SUBLINK"
        rest = Says((), queries_of(left))
        # NOT (x <> ALL (…)) is x = ANY (…), and NOT (x = ANY (…)) is x <> ALL (…).
        if some is goal and operator == ("=" if goal else "<>"):
            return conjunction([Member(left, query), rest])
        if some is not goal and operator == ("<>" if goal else "="):
            return conjunction([Absent(left, query), rest])
        return conjunction([Says((), (query,)), rest])

    def _comparison(self, body: Node, goal: bool) -> Predicate:
        handler = _COMPARISONS.get(body["kind"])
        said = handler(self, body, goal) if handler is not None else None
        return self._opaque({"A_Expr": body}) if said is None else said

    def _operator(self, body: Node, goal: bool) -> Predicate | None:
        if "lexpr" not in body:
            return None
        name = operator_name(body)
        if name == ("=" if goal else "<>"):
            return self.equate(body["lexpr"], body["rexpr"])
        if name == ("<>" if goal else "="):
            return self._unequal(body["lexpr"], body["rexpr"])
        return None

    def _distinct(self, body: Node, goal: bool) -> Predicate | None:
        if (body["kind"] == "AEXPR_NOT_DISTINCT") is not goal or operator_name(body) != "=":
            return self._opaque({"A_Expr": body}, strict=False)
        wanted = _truth_value(body, True) if goal else None
        if wanted is not None:
            return self.predicate(*wanted)
        return self.equate(body["lexpr"], body["rexpr"], null_safe=True)

    def _in(self, body: Node, goal: bool) -> Predicate | None:
        if not is_equality(body, goal):
            return self._strict_left(body)
        items = body["rexpr"].get("List", {}).get("items", [])
        if len(items) == 1:
            return self.equate(body["lexpr"], items[0])
        return self._one_of(self.expression(body["lexpr"]), items, body)

    def _one_of(self, left: Expression, items: list[Node], body: Node) -> Predicate | None:
        """left = item for one of the items."""
        if isinstance(left, Row):
            rows = [item.get("RowExpr", {}).get("args", []) for item in items]
            if any(len(row) != len(left.items) for row in rows):
                return None
            return conjunction(
                self._one_of(one, [row[n] for row in rows], body) or NOTHING
                for n, one in enumerate(left.items)
            )
        values: list[Constant] = []
        for item in items:
            value = constant(item)
            if value is None or (self.having and value.functions):
                return self._one_of_few(left, items)
            if value != NULL:
                values.append(value)
        if not values:
            return NEVER
        return conjunction([Among(left, bounded(values)), Says((), queries_of(left))])

    def _one_of_few(self, left: Expression, items: list[Node]) -> Predicate | None:
        if len(items) > 20:
            return None
        return disjunction([self.equal(left, self.expression(item)) for item in items])

    def _any(self, body: Node, goal: bool) -> Predicate | None:
        # x = ANY (array), or NOT (x <> ALL (array)).
        some = body["kind"] == "AEXPR_OP_ANY"
        if not is_equality(body, goal):
            return self._strict_left(body) if some is goal else None
        array = body["rexpr"]
        while "TypeCast" in array:
            array = array["TypeCast"]["arg"]
        if "A_ArrayExpr" in array:
            return self._any_of(body, array["A_ArrayExpr"].get("elements", []), some is goal)
        if "SubLink" in array and some is goal and not self.having:
            link = array["SubLink"]
            if link.get("subLinkType") == "ARRAY_SUBLINK":
                return Member(self.expression(body["lexpr"]), self.inner(link))
        values = array_of(array)
        if values is None:
            return None
        if some is not goal:
            # ALL of a literal says something unless it is empty.
            self.by_value = self.by_value or values.kind == "array"
            if not values.value.startswith('["'):
                return None
        left = self.expression(body["lexpr"])
        if isinstance(left, Value):
            return None
        return NEVER if values == NULL else Among(left, frozenset({values}))

    def _any_of(self, body: Node, elements: list[Node], some: bool) -> Predicate | None:
        if any("A_ArrayExpr" in element for element in elements):
            return None
        if "RowExpr" in body["lexpr"]:
            # Of two records NULL equals NULL.
            return None
        if some and len(elements) != 1:
            return self._one_of(self.expression(body["lexpr"]), elements, body)
        return self.equate(body["lexpr"], elements[0]) if elements else None

    def _between(self, body: Node, goal: bool) -> Predicate | None:
        if body["kind"].startswith("AEXPR_NOT") is goal:
            return None
        low, high = body["rexpr"]["List"]["items"]
        value, other = constant(low), constant(high)
        if value is None or other is None:
            return self._strict_left(body)
        kinds = {value.kind, other.kind}
        if kinds <= {"literal", "setting"}:
            self.by_value = True
        if not value.same(other) or not kinds <= {"literal", "parameter", "setting"}:
            return self._strict_left(body)
        return self.equate(body["lexpr"], low)

    def _strict_left(self, body: Node) -> Predicate:
        return Says(self.strict(body.get("lexpr", {})), self.collect(body))

    def equate(self, left: Node, right: Node, *, null_safe: bool = False) -> Predicate:
        """left = right is true (`null_safe`: or both are NULL)."""
        if "SubLink" in left and "RowExpr" not in right:
            left, right = right, left
        one, other = self.expression(left), self.expression(right)
        if isinstance(one, Value) and isinstance(other, Value):
            return self._values(left, right, null_safe=null_safe)
        return self.equal(one, other, null_safe=null_safe)

    def equal(self, left: Expression, right: Expression, *, null_safe: bool = False) -> Predicate:
        if isinstance(left, Row) and isinstance(right, Row):
            if len(left.items) != len(right.items):
                return Says((), queries_of(left) + queries_of(right))
            if any(isinstance(one, Row) for one in (*left.items, *right.items)):
                return Says((), queries_of(left) + queries_of(right))
            return conjunction(
                self.equal(one, other, null_safe=null_safe)
                for one, other in zip(left.items, right.items, strict=True)
            )
        for one, other in ((left, right), (right, left)):
            if not isinstance(other, Value):
                continue
            if NULL in other.constants and not null_safe and len(other.constants) == 1:
                return conjunction([NEVER, Says((), queries_of(one))])
            said = self._fallback(one, other, null_safe=null_safe)
            if said is not None:
                return said
        for one, other in ((left, right), (right, left)):
            if isinstance(other, Fallback) and isinstance(one, Column):
                said = self._with_default(one, other)
                if said is not None:
                    return said
        if isinstance(left, Value) and isinstance(right, Value):
            return NOTHING
        return Equal(left, right, null_safe)

    def _fallback(self, one: Expression, other: Value, *, null_safe: bool) -> Predicate | None:
        """COALESCE(column, constant) = constant: the constant or NULL."""
        if null_safe or not isinstance(one, Fallback) or len(one.items) < 2:
            return None
        column, *rest = one.items
        if not isinstance(column, Column) or not all(isinstance(item, Value) for item in rest):
            return None
        return Among(column, other.constants | {NULL})

    def _with_default(self, column: Column, other: Fallback) -> Predicate | None:
        """column = COALESCE($1, …): the parameter, unless it is null; a literal never is."""
        head, *others = other.items
        if not isinstance(head, Value) or not others:
            return None
        value = next(iter(head.constants))
        if value.kind not in {"parameter", "literal"}:
            return None
        rest = Says((), tuple(query for item in other.items for query in queries_of(item)))
        fixed: Predicate = Among(column, head.constants)
        if value.kind == "parameter":
            absent: Predicate = NOTHING
            if len(others) < _MOST_DEFAULTS:
                default = others[0] if len(others) == 1 else Fallback(tuple(others))
                absent = self.equal(column, default)
            fixed = self._if_null(value, absent, fixed)
        return conjunction([fixed, Says((column,)), rest])

    def _values(self, left: Node, right: Node, *, null_safe: bool) -> Predicate:
        """An equality of two constants."""
        one, two = constant(left), constant(right)
        if one is None or two is None:
            return NOTHING
        if NULL in {one, two}:
            return NOTHING if null_safe else NEVER
        if self._comparable(left, right):
            return NOTHING if one.same(two) else NEVER
        return self._conditional()

    def _unequal(self, left: Node, right: Node) -> Predicate | None:
        """left <> right is true, of two literals."""
        one, two = constant(left), constant(right)
        if one is None or two is None or not self._comparable(left, right):
            return None
        return NEVER if one.same(two) else NOTHING

    def _comparable(self, left: Node, right: Node) -> bool:
        """Whether both are literals that are equal exactly if their texts are."""
        kinds = {next(iter(side.get("A_Const", {"": 0})), "") for side in (left, right)}
        # 1 and 1.0 are of one shape; true and false are words of the text, not literals.
        self.by_value = self.by_value or ("" not in kinds and kinds != {"boolval"})
        return len(kinds) == 1 and kinds <= {"sval", "ival", "boolval"}

    def _opaque(self, node: Node, *, strict: bool = True) -> Predicate:
        """A predicate that says nothing; without columns it depends on values alone."""
        columns = self.strict(node)
        if not columns and constant(node) is not None:
            return self._conditional()
        return Says(columns if strict else (), self.collect(node))

    def _conditional(self) -> Predicate:
        self.depends = True
        return CONDITIONAL


def operator_name(body: Node) -> str:
    """The operator, if it is Postgres's own or has no schema."""
    parts = body.get("name") or body.get("operName") or []
    if len(parts) == 1:
        return str(parts[0]["String"].get("sval", ""))
    words = [part["String"].get("sval", "") for part in parts]
    return words[-1] if words and words[:-1] in ([], ["pg_catalog"]) else ""


def is_equality(body: Node, goal: bool) -> bool:
    """Whether the operator, read for the goal, is Postgres's own equality."""
    return operator_name(body) == ("=" if goal else "<>")


def _truth_value(body: Node, goal: bool) -> tuple[Node, bool] | None:
    """What `(p) = true` and its kin ask of p."""
    for side, other in (("lexpr", "rexpr"), ("rexpr", "lexpr")):
        value = body.get(side, _NONE)
        if "A_Const" not in value or "boolval" not in value["A_Const"]:
            continue
        operator = operator_name(body)
        if operator in {"=", "<>"} and next(iter(body.get(other, {})), "") in _CONDITIONS:
            said = bool(value["A_Const"]["boolval"].get("boolval"))
            return body[other], said is ((operator == "=") is goal)
    return None


def _inverted(kind: str, body: Node, goal: bool) -> tuple[Node, bool] | None:
    """What NOT and comparisons with true and false ask of their operand."""
    if kind == "BoolExpr":
        return (body["args"][0], not goal) if body["boolop"] == "NOT_EXPR" else None
    return _truth_value(body, goal) if body["kind"] == "AEXPR_OP" else None


_HANDLERS: Final[dict[str, Any]] = {
    "BoolExpr": PredicateReader._bool,
    "BooleanTest": PredicateReader._truth_test,
    "NullTest": PredicateReader._null_test,
    "CaseExpr": PredicateReader._case,
    "CoalesceExpr": PredicateReader._coalesce,
    "TypeCast": PredicateReader._cast,
    "A_Const": PredicateReader._value,
    "A_Expr": PredicateReader._comparison,
    "SubLink": PredicateReader._sublink,
}
_COMPARISONS: Final[dict[str, Any]] = {
    "AEXPR_OP": PredicateReader._operator,
    "AEXPR_DISTINCT": PredicateReader._distinct,
    "AEXPR_NOT_DISTINCT": PredicateReader._distinct,
    "AEXPR_IN": PredicateReader._in,
    "AEXPR_OP_ANY": PredicateReader._any,
    "AEXPR_OP_ALL": PredicateReader._any,
    "AEXPR_BETWEEN": PredicateReader._between,
    "AEXPR_NOT_BETWEEN": PredicateReader._between,
    "AEXPR_BETWEEN_SYM": PredicateReader._between,
    "AEXPR_NOT_BETWEEN_SYM": PredicateReader._between,
}
