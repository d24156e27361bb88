"""Which effects on the session a statement really may have: its text held against the catalogue.

Laws: a function of Postgres's own has the effects that `sql/session_effects` names and no other; a
function of the user may have any unless it is marked IMMUTABLE or STABLE and its source shows
nothing else; it is called by its name, and by operators, casts, columns, views, policies, and what
a write sets off (transparency T23). What the catalogue does not know may do anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgguard.sql.session_effects import ENDS, NAMING, Effect, Kind, of_source
from pgguard.sql.statement import Name
from pgguard.tenancy.consequences import chain
from pgguard.tenancy.functions import builtin, definitions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pgguard.sql.statement import Facts, Part, Write
    from pgguard.tenancy.catalogue import Function, Table
    from pgguard.tenancy.model import Model

_WITHOUT_STATE: Final = frozenset({"sql", "plpgsql", "c", "internal"})
"""Languages in which nothing of a function outlives its call, but for what Postgres shows."""


def session_effects(facts: Facts, model: Model | None) -> tuple[Effect, ...]:
    """In the order of the text; functions that are not sure to be harmless as CALL.

    Whether a transaction was committed is told by Postgres, too, so its ends are none, unless one
    of them is in the middle of the text.
    """
    found = (*_resolved(facts, model), *dict.fromkeys(_set_off(facts, model)))
    ends = all(effect.kind in ENDS for effect in found)
    return () if ends and not any(effect.kind is not Kind.BEGIN for effect in found[:-1]) else found


def _resolved(facts: Facts, model: Model | None) -> Iterator[Effect]:
    for effect in facts.session:
        if effect.kind in NAMING:
            continue
        if effect.kind is Kind.CALL:
            yield from _called([_name(effect.name)], model, effect.name)
        else:
            yield effect


def _set_off(facts: Facts, model: Model | None) -> Iterator[Effect]:
    for part in facts.parts:
        if model is not None:
            yield from _implied(part, model)
        for write in part.writes:
            yield from _written(write, model)


def _name(text: str) -> Name:
    schema, _, name = text.rpartition(".")
    return Name(schema, name)


def _called(names: Iterable[Name], model: Model | None, culprit: str) -> Iterator[Effect]:
    """What calls of these functions may leave behind."""
    if model is None:
        yield Effect(Kind.CALL, culprit)
        return
    for name in names:
        theirs = definitions(name, model)
        if not theirs and not builtin(name, model):
            yield Effect(Kind.CALL, culprit)
        for one in theirs:
            yield from _of_function(one, culprit)


def _of_function(one: Function, culprit: str) -> Iterator[Effect]:
    if one.volatility == "v" or one.changes:
        yield Effect(Kind.CALL, culprit)
        yield from of_source(one.source)
        if one.language not in _WITHOUT_STATE:
            yield Effect(Kind.SNAPSHOT, culprit)


def _implied(part: Part, model: Model) -> Iterator[Effect]:
    """Functions that are called without being named as such."""
    catalogue = model.catalogue
    for operator in part.operators:
        calls = (Name("", name) for name in sorted(catalogue.operator_calls.get(operator, ())))
        yield from _called(calls, model, operator)
    for word in part.types:
        calls = (Name(*name) for name in sorted(catalogue.type_calls.get(word, ())))
        yield from _called(calls, model, word)
    found = [table for name in part.relations for table in model.find(name)]
    for word in part.attributes:
        if word in catalogue.functions and not _is_column(word, found, part):
            yield from _called([Name("", word)], model, word)
    for table in model.reach(found):
        yield from _called((Name(*name) for name in sorted(table.calls)), model, table.shown)


def _is_column(word: str, found: list[Table], part: Part) -> bool:
    return bool(found) and not part.renames and all(table.column(word) for table in found)


def _written(write: Write, model: Model | None) -> Iterator[Effect]:
    """What a write sets off, if it is anything of the user's own."""
    targets = model.find(write.name) if model is not None else []
    if model is None or not targets:
        yield Effect(Kind.CALL, str(write.name))
        return
    for target in targets:
        for table, action, _ in chain(target, write, model):
            if table.rules or table.kind == "f":
                yield Effect(Kind.CALL, table.shown)
            calls = (Name(*name) for name in sorted(table.write_calls.get(action, ())))
            yield from _called(calls, model, table.shown)
