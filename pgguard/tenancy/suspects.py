"""Which effects on the session a statement really may have: its text held against the catalogue.

Laws: a function of Postgres's own has the effects that `sql/session_effects` names and no other; a
function of the user may have any unless it is marked IMMUTABLE or STABLE; a write runs triggers,
rules, defaults and checks, of its table and of those along foreign keys (transparency T23). What
the catalogue does not know may do anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.sql.session_effects import ENDS, Effect, Kind
from pgguard.sql.statement import Name
from pgguard.tenancy.consequences import chain
from pgguard.tenancy.functions import builtin, definitions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pgguard.sql.statement import Facts, Write
    from pgguard.tenancy.model import Model


def session_effects(facts: Facts, model: Model | None) -> tuple[Effect, ...]:
    """In the order of the text; functions that are not sure to be harmless as CALL.

    Whether a transaction was committed is told by Postgres, too, so its ends alone are none.
    """
    found = tuple(_resolved(facts, model))
    return () if all(effect.kind in ENDS for effect in found) else found


def _resolved(facts: Facts, model: Model | None) -> Iterator[Effect]:
    for effect in facts.session:
        if effect.kind is not Kind.CALL or _may_do_anything([_name(effect.name)], model):
            yield effect
    for part in facts.parts:
        for write in part.writes:
            culprit = _written(write, model)
            if culprit:
                yield Effect(Kind.CALL, culprit)


def _name(text: str) -> Name:
    schema, _, name = text.rpartition(".")
    return Name(schema, name)


def _may_do_anything(names: Iterable[Name], model: Model | None) -> bool:
    if model is None:
        return True
    for name in names:
        theirs = definitions(name, model)
        if any(one.volatility == "v" for one in theirs):
            return True
        if not theirs and not builtin(name, model):
            return True
    return False


def _written(write: Write, model: Model | None) -> str:
    """What a write sets off; empty if nothing of the user's own."""
    if model is None:
        return str(write.name)
    targets = model.find(write.name)
    if not targets:
        return str(write.name)
    for target in targets:
        for table, action, _ in chain(target, write, model):
            calls = (Name(*name) for name in table.write_calls.get(action, ()))
            if table.rules or table.kind == "f" or _may_do_anything(calls, model):
                return table.shown
    return ""
