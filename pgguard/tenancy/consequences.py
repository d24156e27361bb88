"""What a statement sets off beside its own words: rules, triggers, cascades, defaults, checks,
operators, casts, and functions that are written like columns.

Laws: every function that Postgres may call is looked up, whoever calls it; a write is followed to
the children of its table, to what a view stands for, and along the foreign keys that change rows;
from a tenant table such a chain stays with the rows that hang on the tenant's (`scoped_fk`), into
one it is an obstacle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.sql.statement import Name
from pgguard.tenancy import functions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pgguard.sql.statement import Part, Write
    from pgguard.tenancy.catalogue import Table, TableName
    from pgguard.tenancy.model import Model

_Step = tuple["Table", str, tuple[str, ...] | None]
"""A table, one action and the columns that it sets (None = not known)."""


def obstacle(part: Part, found: list[Table], model: Model) -> str:
    """Why the reach of a statement cannot be known; empty if it can."""
    return (
        _attributes(part, found, model)
        or functions.operator_obstacle(part.operators, model)
        or _types(part, model)
        or _equality(part, found, model)
        or _read(found, model)
        or _written(part, model)
    )


def _attributes(part: Part, found: list[Table], model: Model) -> str:
    """`t.f` is `f(t)` where the table has no such column."""
    for word in part.attributes:
        if word not in model.catalogue.functions:
            continue
        if not found or part.renames or not all(table.column(word) for table in found):
            called = functions.obstacle([Name("", word)], model, in_from=False)
            if called:
                return called
    return ""


def _types(part: Part, model: Model) -> str:
    for word in part.types:
        called = _called(model.catalogue.type_calls.get(word, ()), model)
        if called:
            return f"type {word}: {called}"
    return ""


def _equality(part: Part, found: list[Table], model: Model) -> str:
    """An equality of the user's own may win over Postgres's."""
    odd = model.catalogue.odd_equality
    if not odd or not {"=", "<>"} & set(part.operators):
        return ""
    for table in found:
        role = model.roles.get(table.key)
        for name in role.columns if role else ():
            column = table.column(name)
            if column is not None and column.type in odd:
                return f"type {column.type} has an equality that is not Postgres's own"
    return ""


def _read(found: list[Table], model: Model) -> str:
    for table in model.reach(found):
        called = _called(table.calls, model)
        if called:
            return f"{'view' if table.kind in 'vm' else 'policy of'} {table.shown}: {called}"
    return ""


def _written(part: Part, model: Model) -> str:
    for write in part.writes:
        for target in model.find(write.name):
            inside = model.touches(target)
            for table, action, _ in chain(target, write, model):
                if table.rules:
                    return f"{table.shown} has rewrite rules"
                if not inside and model.touches(table):
                    return f"what it changes in {target.shown} changes rows of {table.shown}"
                called = _called(table.write_calls.get(action, ()), model)
                if called:
                    return f"trigger, default or check of {table.shown}: {called}"
    return ""


def chain(target: Table, write: Write, model: Model, *, below: bool = True) -> Iterator[_Step]:
    """The tables whose rows change with it, each with every action once; not `below`: those of the
    target's children are left out, unless a foreign key leads there."""
    seen: set[tuple[TableName, str, tuple[str, ...] | None]] = set()
    stack: list[_Step] = [(target, action, write.columns) for action in write.actions]
    while stack:
        table, action, columns = step = stack.pop()
        if (table.key, action, columns) in seen:
            continue
        seen.add((table.key, action, columns))
        yield step
        if below or table is not target or columns is not None:
            stack.extend((one, action, columns) for one in model.below(table))
        if action == "u" and table.kind == "p":
            # A row that moves to another partition is deleted and inserted.
            stack.extend((table, other, columns) for other in "id")
        for child, foreign in model.referring(table):
            keys = columns is None or set(columns) & set(foreign.target_columns)
            if action == "d" and foreign.on_delete:
                stack.extend((child, other, foreign.columns) for other in "du")
            elif action == "u" and foreign.on_update and keys:
                stack.append((child, "u", foreign.columns))


def _called(names: Iterable[TableName], model: Model) -> str:
    return functions.obstacle((Name(*name) for name in sorted(names)), model, in_from=False)
