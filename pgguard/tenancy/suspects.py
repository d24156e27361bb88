"""Which effects on the session a statement really may have: its text held against the catalogue.

Laws: a function of Postgres's own has the effects that `sql/session_effects` names and no other; a
function of the user may have any unless it is marked IMMUTABLE or STABLE and its source shows
nothing else; it is called by its name, and by operators, casts, columns, views, policies, and what
a write sets off (transparency T23). What the catalogue does not know may do anything, and so may
what has had DDL since it was read, but for tables of which the text says all (`news`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgguard.sql import effects
from pgguard.sql.definitions import INHERITS
from pgguard.sql.session_effects import ENDS, NAMING, Effect, Kind, of_source
from pgguard.sql.statement import Name, Write
from pgguard.tenancy.consequences import chain
from pgguard.tenancy.functions import builtin, definitions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pgguard.sql.definitions import Born, Calls
    from pgguard.sql.statement import Facts, Part
    from pgguard.tenancy.catalogue import Function, Table
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.news import News

_WITHOUT_STATE: Final = frozenset({"sql", "plpgsql", "c", "internal"})
"""Languages in which nothing of a function outlives its call, but for what Postgres shows."""

_SYSTEM: Final = frozenset({"pg_catalog", "information_schema"})
_SERIAL: Final = frozenset({"bigserial", "serial", "serial2", "serial4", "serial8", "smallserial"})
_SETS_OFF_TRIGGERS: Final = effects.DDL | effects.TEMPORARY | effects.OTHER
"""Of DDL and the like, which event triggers follow."""

_LIMIT: Final = 10_000
"""Tables that one statement may reach."""


def session_effects(facts: Facts, model: Model | None, news: News) -> tuple[Effect, ...]:
    """In the order of the text; functions that are not sure to be harmless as CALL.

    Whether a transaction was committed is told by Postgres, too, so its ends are none, unless one
    of them is in the middle of the text.
    """
    suspects = Suspects(model, news)
    found = (*suspects.resolved(facts), *dict.fromkeys(suspects.set_off(facts)))
    ends = all(effect.kind in ENDS for effect in found)
    return () if ends and not any(effect.kind is not Kind.BEGIN for effect in found[:-1]) else found


def suspicions(
    calls: Calls, model: Model | None, news: News, types: Iterable[str] = ()
) -> tuple[Effect, ...]:
    """What may change the session; `types` are new ones that call nothing."""
    return tuple(Suspects(model, news, frozenset(types)).of_calls(calls, ""))


class Suspects:
    """The effects that the catalogue and what is newer than it leave possible."""

    __slots__ = ("_model", "_news", "_passed", "_types")

    def __init__(
        self, model: Model | None, news: News, types: frozenset[str] = frozenset()
    ) -> None:
        self._model = model
        self._news = news
        self._types = types | news.enums | _SERIAL
        self._passed: set[int] = set()
        """New tables that were looked at: some are made after the likeness of each other."""

    def resolved(self, facts: Facts) -> Iterator[Effect]:
        """What the text names."""
        for effect in facts.session:
            if effect.kind in NAMING:
                continue
            if effect.kind is Kind.CALL:
                yield from self._called([_name(effect.name)], effect.name)
            else:
                yield effect

    def set_off(self, facts: Facts) -> Iterator[Effect]:
        """What it does not name."""
        if facts.effects & _SETS_OFF_TRIGGERS and self._model is not None:
            calls = sorted(self._model.catalogue.event_calls)
            yield from self._called((Name(*name) for name in calls), "event trigger")
        for part in facts.parts:
            if self._news.anything and _names_anything(part):
                yield Effect(Kind.UNKNOWN, "something that DDL has changed")
            yield from self._implied(part)
            for write in _writes(part):
                yield from self._written(write, truncates=part.cascade)

    def _of_table(self, born: Born) -> Iterator[Effect]:
        """What a write to a new table may call, once."""
        if id(born) in self._passed:
            return
        self._passed.add(id(born))
        if born.name.name in self._news.relations or self._news.anything or born.shows:
            yield Effect(Kind.UNKNOWN, born.name.name)
        yield from self.of_calls(born.calls, born.name.name)

    def _called(self, names: Iterable[Name], culprit: str) -> Iterator[Effect]:
        """What calls of these functions may leave behind."""
        model, news = self._model, self._news
        if model is None:
            if any(name.schema not in _SYSTEM for name in names):
                yield Effect(Kind.UNKNOWN, culprit)
            return
        for name in names:
            if name.schema in _SYSTEM:
                continue
            theirs = definitions(name, model)
            if name.name in news.functions or not (theirs or builtin(name, model)):
                yield Effect(Kind.UNKNOWN, culprit)
            for one in theirs:
                yield from _of_function(one, culprit)

    def _typed(self, word: str, culprit: str) -> Iterator[Effect]:
        """What values of a type may call."""
        model = self._model
        if model is None or word in self._news.types:
            yield Effect(Kind.UNKNOWN, culprit)
            return
        calls = sorted(model.catalogue.type_calls.get(word, ()))
        yield from self._called((Name(*name) for name in calls), culprit)

    def of_calls(self, calls: Calls, culprit: str) -> Iterator[Effect]:
        """The same of columns and expressions that DDL has told."""
        model, news = self._model, self._news
        if model is None:
            yield Effect(Kind.UNKNOWN, culprit)
            return
        catalogue = model.catalogue
        yield from self._called(calls.functions, culprit)
        for operator in calls.operators:
            names = sorted(catalogue.operator_calls.get(operator, ()))
            yield from self._called((Name("", name) for name in names), culprit)
        for word in calls.attributes:
            if word in catalogue.functions or word in news.functions:
                yield from self._called([Name("", word)], culprit)
        for word in calls.types:
            if word not in catalogue.types and word not in self._types:
                yield Effect(Kind.UNKNOWN, culprit)
            yield from self._typed(word, culprit)
        if calls.drawn:
            if news.types:
                yield Effect(Kind.UNKNOWN, culprit)
            checks = sorted(catalogue.checks)
            yield from self._called((Name(*name) for name in checks), culprit)
        yield from self._read(calls.reads)
        for name in calls.models:
            for action in "iud":
                yield from self._written(Write(name, action, None), below=False)

    def _implied(self, part: Part) -> Iterator[Effect]:
        """Functions that are called without being named as such."""
        model, news = self._model, self._news
        if model is None:
            yield from (Effect(Kind.UNKNOWN, str(n)) for n in part.relations if not _is_system(n))
            return
        catalogue = model.catalogue
        for operator in part.operators:
            calls = (Name("", name) for name in sorted(catalogue.operator_calls.get(operator, ())))
            yield from self._called(calls, operator)
        for word in part.types:
            yield from self._typed(word, word)
        yield from self._read(part.relations)
        known = not part.renames and not any(map(news.tables, part.relations))
        for word in part.attributes:
            called = word in catalogue.functions or word in news.functions
            if called and not (known and _is_column(word, part, model)):
                yield from self._called([Name("", word)], word)

    def _read(self, names: Iterable[Name]) -> Iterator[Effect]:
        """What reading relations calls: views, and policies."""
        model, news = self._model, self._news
        assert model is not None
        found: list[Table] = []
        for name in names:
            tables, born = model.find(name), news.tables(name)
            found += tables
            if name.name in news.relations:
                yield Effect(Kind.UNKNOWN, str(name))
            elif not tables and not _is_system(name) and not born:
                yield Effect(Kind.UNKNOWN, name.name)
            for one in born:
                if one.shows and id(one) not in self._passed:
                    self._passed.add(id(one))
                    yield from self.of_calls(one.calls, name.name)
        for table in model.reach(found):
            if table.name in news.relations:
                yield Effect(Kind.UNKNOWN, table.shown)
            yield from self._called((Name(*name) for name in sorted(table.calls)), table.shown)

    def _written(
        self, write: Write, *, truncates: bool = False, below: bool = True
    ) -> Iterator[Effect]:
        """What a write sets off, if it is anything of the user's own; `truncates`: with CASCADE,
        not `below`: what the table's children do is left out."""
        model, news = self._model, self._news
        if model is None:
            yield Effect(Kind.UNKNOWN, str(write.name))
            return
        seen: set[tuple[Name, str, bool]] = set()
        stack = [(write.name, action, below) for action in write.actions]
        while stack and len(seen) < _LIMIT:
            step = name, action, below = stack.pop()
            if step in seen:
                continue
            seen.add(step)
            targets = model.find(name)
            born = news.tables(name)
            if name.name in news.relations:
                yield Effect(Kind.UNKNOWN, str(name))
            elif not targets and not born:
                yield Effect(Kind.UNKNOWN, name.name)
            for one in born:
                yield from self._of_table(one)
            reached = {name.name: below}
            for target in targets:
                columns = write.columns if name == write.name else None
                for table, what, by in chain(
                    target, Write(name, action, columns), model, below=below
                ):
                    # A foreign key may lead back to it, and then to all of its children.
                    whole = below or table is not target or by is not None
                    reached[table.name] = whole or reached.get(table.name, False)
                    yield from self._at(table, what)
                if truncates:
                    stack += [(Name(*one.key), "t", True) for one, _ in model.referring(target)]
            for reached_name, whole in reached.items():
                for calls in news.calls.get(reached_name, ()):
                    yield from self.of_calls(calls, reached_name)
                for child, actions in news.links.get(reached_name, {}).items():
                    if (whole or actions != INHERITS) and (action in actions or truncates):
                        then = "t" if action == "t" else "du" if action == "d" else action
                        stack += [(Name("", child), other, True) for other in then]
        if stack:
            yield Effect(Kind.CALL, str(write.name))

    def _at(self, table: Table, action: str) -> Iterator[Effect]:
        """What an action sets off at a table of the catalogue."""
        if table.name in self._news.relations:
            yield Effect(Kind.UNKNOWN, table.shown)
        if table.rules or table.kind == "f":
            yield Effect(Kind.CALL, table.shown)
        calls = (Name(*name) for name in sorted(table.write_calls.get(action, ())))
        yield from self._called(calls, table.shown)


def _writes(part: Part) -> Iterable[Write]:
    """TRUNCATE, too, sets off triggers."""
    if part.kind == "truncate":
        return [Write(name, "t", None) for name in part.relations]
    return part.writes


def _names_anything(part: Part) -> bool:
    named = (part.relations, part.functions, part.operators, part.types, part.attributes)
    return any(named)


def _is_system(name: Name) -> bool:
    return name.schema in _SYSTEM or (not name.schema and name.name.startswith("pg_"))


def _name(text: str) -> Name:
    schema, _, name = text.rpartition(".")
    return Name(schema, name)


def _of_function(one: Function, culprit: str) -> Iterator[Effect]:
    if one.volatility == "v" or one.changes:
        yield Effect(Kind.CALL, culprit)
        yield from of_source(one.source)
        if one.language not in _WITHOUT_STATE:
            yield Effect(Kind.SNAPSHOT, culprit)


def _is_column(word: str, part: Part, model: Model) -> bool:
    """Whether all that the statement names has a column of that name."""
    found = [model.find(name) for name in part.relations]
    return bool(found) and all(
        tables and all(table.column(word) for table in tables) for tables in found
    )
