"""A session that nobody has: what its statements leave behind is known to those that follow.

    setup ──► settings, role, names of statements and cursors ──► the verdict of the next statement

Laws: pure; every statement is taken to succeed; values that the text does not say are not known,
and two values that are not known are never taken for two tenants; with `params` the text is judged
as if they were written in it, for then every rule about literals holds for them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from pgguard.findings import Verdict
from pgguard.sql.commands import OTHER, bound, commands
from pgguard.sql.shape import shape
from pgguard.sql.split import split
from pgguard.sql.statement import Statement
from pgguard.tenancy.values import differ

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pgguard.sql.commands import Command
    from pgguard.sql.statement import Constant
    from pgguard.tenancy.judge import Judge

_REMEMBERED: Final = re.compile(r"\b(?:execute|fetch|move)\b", re.IGNORECASE)
_READABLE: Final = {
    "client_encoding": {"utf8", "utf-8", "unicode", "sql_ascii"},
    "standard_conforming_strings": {"on", "true", "yes", "1"},
}
_UNSET: Final = "\0unset"
SEVERAL: Final = "its values are those of more than one tenant"


def _levels(statement: Statement) -> list[tuple[str, str]]:
    return sorted((relation.name, relation.level) for relation in statement.relations)


@dataclass(slots=True)
class State:
    """What outlives a statement."""

    settings: dict[str, str | None] = field(default_factory=dict)
    """None = set to what is not known."""
    prepared: dict[str, str] = field(default_factory=dict)
    cursors: dict[str, str] = field(default_factory=dict)

    def copy(self) -> State:
        return State(dict(self.settings), dict(self.prepared), dict(self.cursors))


class Rehearsal:
    """One session; `tenant` is the value of the tenant settings at its start."""

    __slots__ = ("_before", "_judge", "_local", "_user", "state")

    def __init__(self, judge: Judge, tenant: str | None = None) -> None:
        self._judge = judge
        self._user = judge.model.catalogue.roles.user if judge.model is not None else ""
        self.state = State()
        if tenant is not None:
            for name in judge.settings.settings:
                self.state.settings[name.lower()] = tenant
        self._before: State | None = None
        """As it was when the transaction began; None outside of one."""
        self._local: dict[str, str | None] = {}
        """What SET LOCAL has hidden until the end of the transaction."""

    @property
    def role(self) -> str:
        """Who runs the statements; empty = not known."""
        settings = self.state.settings
        login = settings.get("session_authorization", self._user)
        role = settings.get("role", "none")
        return (login if role == "none" else role) or ""

    def judge(self, sql: str, params: Sequence[str | None] | None = None) -> Statement:
        """The statement with its verdict, as the session stands now."""
        if _REMEMBERED.search(sql) and params is None:
            return self._remembered(sql)
        statement = self._judged(sql)
        if not params:
            return statement
        known = self._judged(bound(sql, params))
        # If the values change nothing, what is said of the text itself is the better answer.
        same = known.verdict == statement.verdict and _levels(known) == _levels(statement)
        return statement if same else known

    def run(self, sql: str) -> None:
        """Take a text as executed."""
        self._judge.judge(self._statement(sql))
        for command in commands(sql):
            self._apply(command, sql)

    def _judged(self, sql: str) -> Statement:
        statement = self._statement(sql)
        self._judge.users = {self.role}
        self._judge.judge(statement)
        self._compare(statement)
        return statement

    def _statement(self, sql: str) -> Statement:
        text = sql.encode("utf-8", "surrogatepass")
        for name, values in _READABLE.items():
            value = self.state.settings.get(name, "on" if name.startswith("s") else "utf8")
            if value is None or value.lower() not in values:
                return self._judge.statement(text, readable=False)
        return Statement(text, shape(text))

    def _remembered(self, sql: str) -> Statement:
        """The worst of the statements of a text that may execute what was prepared before."""
        worst: Statement | None = None
        session = self._copy()
        for piece in split(sql):
            statement = session._one(piece.text)
            session.run(piece.text)
            if worst is None or statement.verdict > worst.verdict:
                worst = statement
        return worst or self._judged(sql)

    def _one(self, sql: str) -> Statement:
        """What a single statement executes, if it is remembered; else itself."""
        known = self.state
        (command, *rest) = commands(sql) or [OTHER]
        if not rest and command.kind == "execute" and command.name in known.prepared:
            text = known.prepared[command.name]
            return self._judged(bound(text, command.arguments or ()))
        if not rest and command.kind == "fetch" and command.name in known.cursors:
            return self._judged(known.cursors[command.name])
        return self._judged(sql)

    def _copy(self) -> Rehearsal:
        other = Rehearsal(self._judge)
        other._user = self._user
        other.state, other._before = self.state.copy(), self._before
        other._local = dict(self._local)
        return other

    def _compare(self, statement: Statement) -> None:
        """Whether the values of the statement, settings included, are several tenants."""
        if not Verdict.no_tenant_data < statement.verdict < Verdict.cross_tenant:
            return
        types = {tenant.type for tenant in statement.tenants}
        for name in types:
            values = {
                value
                for tenant in statement.tenants
                if tenant.type == name
                for constant in tenant.constants
                for value in self._values(constant)
            }
            if len(values) > 1 and differ(values, name):
                statement.verdict, statement.why = int(Verdict.cross_tenant), SEVERAL
                statement.code, statement.remedy = "PGG102", "Name one tenant per statement."
                statement.relations = tuple(
                    replace(relation, level=Verdict.cross_tenant.name, why=SEVERAL)
                    for relation in statement.relations
                )
                return

    def _values(self, constant: Constant) -> Iterator[str]:
        if constant.kind == "literal":
            yield constant.value
        elif constant.kind == "setting":
            value = self.state.settings.get(constant.value.lower())
            if value:
                yield value

    def _apply(self, command: Command, sql: str) -> None:
        known = self.state
        match command.kind:
            case "begin":
                self._before = self._before or known.copy()
            case "commit":
                self._end(known)
            case "rollback":
                self._end(self._before or known)
            case "set":
                self._set(command.name, command.value, local=command.local)
            case "reset":
                if command.name:
                    known.settings.pop(command.name, None)
                else:
                    known.settings.clear()
            case "prepare":
                known.prepared[command.name] = sql
            case "deallocate":
                if command.name:
                    known.prepared.pop(command.name, None)
                else:
                    known.prepared.clear()
            case "declare":
                known.cursors[command.name] = sql
            case "close":
                known.cursors.pop(command.name, None)

    def _set(self, name: str, value: str | None, *, local: bool) -> None:
        settings = self.state.settings
        if local:
            # Once one of ours has been set in a session it reads '' afterwards, not NULL.
            unset = "" if "." in name else _UNSET
            self._local.setdefault(name, settings.get(name, unset))
        else:
            self._local.pop(name, None)
        settings[name] = value

    def _end(self, state: State) -> None:
        self.state = state
        if state is not self._before:
            state.settings.update(self._local)
            for name in [name for name, value in self._local.items() if value == _UNSET]:
                del state.settings[name]
        self._before = None
        self._local = {}
