"""AND and OR of predicates, and the subqueries in them.

Laws: what says nothing is left out of AND and ends an OR, but no subquery is lost; alternatives of
one column become one set of constants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgguard.sql.facts.environment import bounded
from pgguard.sql.plan.nodes import (
    NOTHING,
    Absent,
    All,
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
    Never,
    Predicate,
    Row,
    Says,
    Scalar,
    Value,
)

if TYPE_CHECKING:
    from pgguard.sql.statement import Constant

NEVER: Final = Never()


def conjunction(items: Any) -> Predicate:
    """All of them; what says nothing is left out."""
    kept: list[Predicate] = []
    for item in items:
        if isinstance(item, All):
            kept.extend(item.items)
        elif item is not NOTHING and item != NOTHING:
            kept.append(item)
    if not kept:
        return NOTHING
    return kept[0] if len(kept) == 1 else All(tuple(kept))


def disjunction(branches: list[Predicate]) -> Predicate:
    """One of them; equalities of one column with constants become one."""
    live = [branch for branch in branches if branch is not NEVER]
    if not live:
        return NEVER
    if len(live) == 1:
        return live[0]
    if any(branch == NOTHING for branch in live):
        subqueries = tuple(query for branch in live for query in all_queries(branch))
        return Says((), subqueries) if subqueries else NOTHING
    merged = _one_column(live)
    return merged if merged is not None else Either(tuple(live))


def _one_column(branches: list[Predicate]) -> Predicate | None:
    """a = 1 OR a = 2 OR a IN (3, 4)."""
    column: Expression = None
    constants: dict[Constant, None] = {}
    for branch in branches:
        one, values = _single_column(branch)
        if one is None or (column is not None and one != column):
            return None
        column = one
        constants |= dict.fromkeys(values)
    return Among(column, bounded(constants))


def _single_column(branch: Predicate) -> tuple[Column | None, frozenset[Constant]]:
    if isinstance(branch, Equal) and not branch.null_safe:
        for one, other in ((branch.left, branch.right), (branch.right, branch.left)):
            if isinstance(one, Column) and isinstance(other, Value):
                return one, other.constants
    if isinstance(branch, Among) and isinstance(branch.left, Column):
        return branch.left, branch.constants
    return None, frozenset()


def queries_of(item: Expression) -> tuple[Any, ...]:
    """The subqueries in an expression that were not understood as values."""
    if isinstance(item, Row):
        return tuple(query for one in item.items for query in queries_of(one))
    if isinstance(item, Fallback):
        return tuple(query for one in item.items for query in queries_of(one))
    if isinstance(item, Scalar):
        return (item.query,) if item.query is not None else ()
    return getattr(item, "queries", ())


def all_queries(said: Predicate) -> tuple[Any, ...]:
    """Every subquery of a predicate."""
    if isinstance(said, (All, Either)):
        return tuple(query for item in said.items for query in all_queries(item))
    if isinstance(said, Says):
        return said.queries
    if isinstance(said, (Exists, Member, Absent)):
        return (said.query,)
    if isinstance(said, Equal):
        return queries_of(said.left) + queries_of(said.right)
    if isinstance(said, Hope):
        return all_queries(said.held)
    if isinstance(said, IfNull):
        return all_queries(said.absent) + all_queries(said.present)
    return ()
