"""What a condition that is TRUE says about the columns of its table (F1 to F3 of tenancy.md).

Laws: an explicit stack instead of recursion; a predicate that is not understood says nothing,
which is always sound; NOT is pushed inward, so that each predicate is read for "must be true" or
"must be false", NULL being neither; whatever looks at the value of a literal sets `by_value`,
since texts that differ only there share a shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgguard.sql.facts.constants import array_of, constant, term
from pgguard.sql.facts.environment import (
    CONDITIONAL,
    NOTHING,
    Constants,
    Environment,
    both,
    bounded,
    either,
)
from pgguard.sql.scopes import Node, name_of
from pgguard.sql.statement import MAYBE, NULL, Constant, Term

if TYPE_CHECKING:
    from pgguard.sql.statement import Occurrence

_AND: Final = 1
_OR: Final = 2

_Goal = tuple[Any, bool]
"""A node and whether it must be true or must be false."""

_EQUALS: Final[Node] = {"kind": "AEXPR_OP", "name": [{"String": {"sval": "="}}]}
_CONDITIONS: Final = frozenset({"BoolExpr", "A_Expr", "NullTest", "BooleanTest"})


class Reader:
    """Reads the conditions of one table."""

    __slots__ = ("by_value", "depends", "excluded", "hopeful", "table")

    def __init__(self, table: Occurrence | None, *, excluded: bool = False) -> None:
        self.table = table
        self.excluded = excluded
        self.by_value = False
        """A literal's value has decided something."""
        self.depends = False
        """A predicate depends on values alone: a hopeful reading may say more."""
        self.hopeful = False

    def read(self, condition: Node | None, *, hopeful: bool = False) -> Environment | None:
        """The environment of a condition; None if no row can satisfy it.

        `hopeful` takes every parameter for not null and drops optional branches.
        """
        if condition is None:
            return NOTHING
        self.hopeful = hopeful
        work: list[tuple[int, Any, bool]] = [(0, condition, True)]
        done: list[Environment | None] = []
        while work:
            operation, subject, goal = work.pop()
            if operation:
                branches = done[len(done) - subject :]
                del done[len(done) - subject :]
                if operation == _AND:
                    done.append(both(branches))
                else:
                    done.append(either(branches, hopeful=hopeful))
                continue
            step = self._step(subject, goal)
            if isinstance(step, tuple):
                operation, goals = step
                work.append((operation, len(goals), True))
                work.extend((0, child, wanted) for child, wanted in reversed(goals))
            else:
                done.append(step)
        return done[0]

    def _step(self, node: Node, goal: bool) -> Environment | tuple[int, list[_Goal]] | None:
        """Either what a predicate says, or the goals that it falls apart into."""
        for kind, body in node.items():
            handler = _HANDLERS.get(kind)
            if handler is not None:
                said: Environment | tuple[int, list[_Goal]] | None = handler(self, body, goal)
                return said
        return self._opaque(node)

    def _bool(self, body: Node, goal: bool) -> Environment | tuple[int, list[_Goal]] | None:
        operator, children = body["boolop"], body["args"]
        if operator == "NOT_EXPR":
            return _AND, [(children[0], not goal)]
        conjunction = (operator == "AND_EXPR") is goal
        return (_AND if conjunction else _OR), [(child, goal) for child in children]

    def _truth_test(self, body: Node, goal: bool) -> Environment | tuple[int, list[_Goal]] | None:
        # Only a test that fails on NULL says something: x IS TRUE, and NOT (x IS NOT TRUE).
        wanted = {
            ("IS_TRUE", True): True,
            ("IS_NOT_TRUE", False): True,
            ("IS_FALSE", True): False,
            ("IS_NOT_FALSE", False): False,
        }.get((body.get("booltesttype", "IS_TRUE"), goal))
        return NOTHING if wanted is None else (_AND, [(body["arg"], wanted)])

    def _null_test(self, body: Node, goal: bool) -> Environment | None:
        must_be_null = (body.get("nulltesttype", "IS_NULL") == "IS_NULL") is goal
        column = self._term(body["arg"])
        if column is not None:
            return _fact(column, frozenset({NULL})) if must_be_null else NOTHING
        value = constant(body["arg"])
        if value is None:
            return NOTHING
        if value.kind in {"null", "literal"}:
            return NOTHING if (value.kind == "null") is must_be_null else None
        self.depends = True
        if self.hopeful and value.kind == "parameter":
            return None if must_be_null else NOTHING
        return self._conditional()

    def _case(self, body: Node, goal: bool) -> Environment | tuple[int, list[_Goal]] | None:
        arms: list[_Goal] = []
        for arm in body.get("args", []):
            when = arm["CaseWhen"]
            taken = when["expr"]
            if "arg" in body:
                taken = {"A_Expr": {**_EQUALS, "lexpr": body["arg"], "rexpr": taken}}
            # An arm is taken if its condition is true and counts if its result is as wanted.
            arms.append(({"_Arm": (taken, when["result"])}, goal))
        if "defresult" in body:
            arms.append((body["defresult"], goal))
        return _OR, arms

    def _arm(self, body: tuple[Node, Node], goal: bool) -> tuple[int, list[_Goal]]:
        return _AND, [(body[0], True), (body[1], goal)]

    def _coalesce(self, body: Node, goal: bool) -> tuple[int, list[_Goal]]:
        return _OR, [(argument, goal) for argument in body["args"]]

    def _cast(self, body: Node, goal: bool) -> Environment | tuple[int, list[_Goal]] | None:
        name = name_of(body["typeName"].get("names", []))
        if name.name == "bool" and name.schema in {"", "pg_catalog"}:
            return _AND, [(body["arg"], goal)]
        return self._opaque({"TypeCast": body})

    def _value(self, body: Node, goal: bool) -> Environment | None:
        """A bare constant as a condition."""
        if body.get("isnull"):
            return None
        if "boolval" in body:
            return NOTHING if bool(body["boolval"].get("boolval")) is goal else None
        return self._opaque({"A_Const": body})

    def _comparison(self, body: Node, goal: bool) -> Environment | tuple[int, list[_Goal]] | None:
        handler = _COMPARISONS.get(body["kind"])
        said: Environment | tuple[int, list[_Goal]] | None = NOTHING
        if handler is not None:
            said = handler(self, body, goal)
        return self._opaque({"A_Expr": body}) if said is NOTHING else said

    def _operator(self, body: Node, goal: bool) -> Environment | tuple[int, list[_Goal]] | None:
        wanted = self._truth_value(body, goal)
        if wanted is not None:
            return _AND, [wanted]
        if "lexpr" not in body:
            return NOTHING
        if _is_equality(body, goal):
            return self.equate(body["lexpr"], body["rexpr"])
        return (
            self._unequal(body["lexpr"], body["rexpr"]) if _is_equality(body, not goal) else NOTHING
        )

    def _truth_value(self, body: Node, goal: bool) -> _Goal | None:
        """What `(p) = true` and its kin ask of p."""
        operator = _operator_name(body)
        if operator not in {"=", "<>"}:
            return None
        for side, other in (("lexpr", "rexpr"), ("rexpr", "lexpr")):
            value = body.get(side, {}).get("A_Const", {})
            if "boolval" in value and next(iter(body.get(other, {})), "") in _CONDITIONS:
                wanted = bool(value["boolval"].get("boolval")) is ((operator == "=") is goal)
                return body[other], wanted
        return None

    def _distinct(self, body: Node, goal: bool) -> Environment | tuple[int, list[_Goal]] | None:
        if (body["kind"] == "AEXPR_NOT_DISTINCT") is not goal or _operator_name(body) != "=":
            return NOTHING
        wanted = self._truth_value(body, True) if goal else None
        if wanted is not None:
            return _AND, [wanted]
        return self.equate(body["lexpr"], body["rexpr"], null_safe=True)

    def _in(self, body: Node, goal: bool) -> Environment | tuple[int, list[_Goal]] | None:
        if not _is_equality(body, goal):
            return NOTHING
        items = body["rexpr"].get("List", {}).get("items", [])
        left = body["lexpr"]
        if len(items) == 1:
            return self.equate(left, items[0])
        if "RowExpr" in left:
            return self._rows_in(left["RowExpr"].get("args", []), items)
        return self._one_of(left, items)

    def _rows_in(self, left: list[Node], items: list[Node]) -> Environment | None:
        rows = [item.get("RowExpr", {}).get("args", []) for item in items]
        if any(len(row) != len(left) for row in rows):
            return NOTHING
        return both(
            [self._one_of(column, [row[n] for row in rows]) for n, column in enumerate(left)]
        )

    def _any(self, body: Node, goal: bool) -> Environment | tuple[int, list[_Goal]] | None:
        # x = ANY (array), or NOT (x <> ALL (array)).
        some = body["kind"] == "AEXPR_OP_ANY"
        if not _is_equality(body, goal):
            return NOTHING
        array = body["rexpr"]
        while "TypeCast" in array:
            array = array["TypeCast"]["arg"]
        if "A_ArrayExpr" in array:
            elements = array["A_ArrayExpr"].get("elements", [])
            if any("A_ArrayExpr" in element for element in elements):
                return NOTHING
            if "RowExpr" in body["lexpr"]:
                # Of two records NULL equals NULL.
                return NOTHING
            if some is goal and len(elements) != 1:
                return self._one_of(body["lexpr"], elements)
            return self.equate(body["lexpr"], elements[0]) if elements else NOTHING
        column, values = self._term(body["lexpr"]), array_of(array)
        if column is None or values is None or some is not goal:
            return NOTHING
        return None if values == NULL else _fact(column, frozenset({values}))

    def _between(self, body: Node, goal: bool) -> Environment | tuple[int, list[_Goal]] | None:
        if body["kind"].startswith("AEXPR_NOT") is goal:
            return NOTHING
        low, high = body["rexpr"]["List"]["items"]
        value, other = constant(low), constant(high)
        if value is None or other is None or not value.same(other):
            return NOTHING
        # Literals, and settings named by them, are not compared: texts of one shape would differ.
        if value.kind != "parameter":
            return NOTHING
        return self.equate(body["lexpr"], low)

    def _one_of(self, left: Node, items: list[Node]) -> Environment | None:
        """left = item for one of the items."""
        column = self._term(left)
        if column is None:
            return NOTHING
        values: list[Constant] = []
        for item in items:
            value = constant(item)
            if value is None:
                return NOTHING
            if value != NULL:
                values.append(value)
        return _fact(column, bounded(values)) if values else None

    def equate(self, left: Node, right: Node, *, null_safe: bool = False) -> Environment | None:
        """left = right is true (`null_safe`: or both are NULL)."""
        if "RowExpr" in left and "RowExpr" in right:
            ours, theirs = left["RowExpr"].get("args", []), right["RowExpr"].get("args", [])
            if len(ours) != len(theirs) or any("RowExpr" in one for one in (*ours, *theirs)):
                return NOTHING
            pairs = zip(ours, theirs, strict=True)
            return both([self.equate(one, other, null_safe=null_safe) for one, other in pairs])
        column, other = self._term(left), self._term(right)
        if column is not None and other is not None:
            return (
                NOTHING if column == other else Environment(((frozenset({column, other}), None),))
            )
        if column is None and other is None:
            return self._values(left, right, null_safe=null_safe)
        column = column or other
        value = constant(right if other is None else left)
        if column is None:
            return NOTHING
        if value is None:
            return self._with_default(column, right if other is None else left)
        if value == NULL and not null_safe:
            return None
        sure = not null_safe or value.kind in {"literal", "null"}
        return _fact(column, frozenset({value} if sure else {value, MAYBE}))

    def _with_default(self, column: Term, node: Node) -> Environment | None:
        """column = COALESCE($1, column): the parameter, unless it is null."""
        arguments = node.get("CoalesceExpr", {}).get("args", [])
        first = constant(arguments[0]) if arguments else None
        if first is None or first == NULL:
            return NOTHING
        self.depends = True
        return _fact(column, frozenset({first})) if self.hopeful else NOTHING

    def _values(self, left: Node, right: Node, *, null_safe: bool) -> Environment | None:
        """An equality without a bare column on either side."""
        for side, other in ((left, right), (right, left)):
            arguments = side.get("CoalesceExpr", {}).get("args", [])
            value = constant(other)
            if value is None or value == NULL or len(arguments) < 2:
                continue
            column = self._term(arguments[0])
            if column is not None and all(constant(rest) is not None for rest in arguments[1:]):
                return _fact(column, frozenset({value, NULL}))
        one, two = constant(left), constant(right)
        if one is None or two is None:
            return NOTHING
        if NULL in {one, two}:
            return NOTHING if null_safe else None
        if self._comparable(left, right):
            # Not NOTHING itself: the comparison was understood, it is true.
            return Environment() if one.same(two) else None
        return self._conditional()

    def _unequal(self, left: Node, right: Node) -> Environment | None:
        """left <> right is true, of two literals."""
        one, two = constant(left), constant(right)
        if one is None or two is None or not self._comparable(left, right):
            return NOTHING
        return None if one.same(two) else Environment()

    def _comparable(self, left: Node, right: Node) -> bool:
        """Whether both are literals that are equal exactly if their texts are."""
        kinds = {next(iter(side.get("A_Const", {"": 0})), "") for side in (left, right)}
        # 1 and 1.0 are of one shape; true and false are words of the text, not literals.
        self.by_value = self.by_value or ("" not in kinds and kinds != {"boolval"})
        return len(kinds) == 1 and kinds <= {"sval", "ival", "boolval"}

    def _opaque(self, node: Node) -> Environment:
        """A predicate that says nothing; without columns it depends on values alone."""
        return NOTHING if constant(node) is None else self._conditional()

    def _conditional(self) -> Environment:
        self.depends = True
        return CONDITIONAL if self.hopeful else NOTHING

    def _term(self, node: Node) -> Term | None:
        return term(node, self.table, excluded=self.excluded)


def _fact(column: Term, values: Constants) -> Environment:
    return Environment(((frozenset({column}), values),))


def _operator_name(body: Node) -> str:
    words = [part["String"].get("sval", "") for part in body.get("name", [])]
    return words[-1] if words and words[:-1] in ([], ["pg_catalog"]) else ""


def _is_equality(body: Node, goal: bool) -> bool:
    """Whether the operator, read for the goal, is Postgres's own equality."""
    return _operator_name(body) == ("=" if goal else "<>")


_HANDLERS: Final[dict[str, Any]] = {
    "BoolExpr": Reader._bool,
    "BooleanTest": Reader._truth_test,
    "NullTest": Reader._null_test,
    "CaseExpr": Reader._case,
    "_Arm": Reader._arm,
    "CoalesceExpr": Reader._coalesce,
    "TypeCast": Reader._cast,
    "A_Const": Reader._value,
    "A_Expr": Reader._comparison,
}
_COMPARISONS: Final[dict[str, Any]] = {
    "AEXPR_OP": Reader._operator,
    "AEXPR_DISTINCT": Reader._distinct,
    "AEXPR_NOT_DISTINCT": Reader._distinct,
    "AEXPR_IN": Reader._in,
    "AEXPR_OP_ANY": Reader._any,
    "AEXPR_OP_ALL": Reader._any,
    "AEXPR_BETWEEN": Reader._between,
    "AEXPR_NOT_BETWEEN": Reader._between,
    "AEXPR_BETWEEN_SYM": Reader._between,
    "AEXPR_NOT_BETWEEN_SYM": Reader._between,
}
