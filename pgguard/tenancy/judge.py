"""The one door of `tenancy/`: from a text to its Statement, and from a Statement to its verdict.

Laws: one Judge per database; `statement` only looks up, `judge` analyses now and never raises;
texts that `wants_worker` names are read elsewhere and come back through `judge_facts`; a verdict
holds for the model of its `version`, and whoever finds another one judges again. As long as no
catalogue was read, what names a relation is `unknown`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from pgguard.findings import Finding, Relation, Verdict
from pgguard.sql import effects
from pgguard.sql.assignments import assignments
from pgguard.sql.cache import SHAPED, TOO_MANY, StatementCache
from pgguard.sql.facts.reading import TOO_LONG, read, unread
from pgguard.sql.session_effects import ENDS, UNREAD, Kind
from pgguard.sql.statement import Facts, Part, Statement
from pgguard.tenancy import naming, rules
from pgguard.tenancy.model import Catalogue, Model, TenancySettings
from pgguard.tenancy.news import News
from pgguard.tenancy.ownership import Owners
from pgguard.tenancy.reality import gaps
from pgguard.tenancy.suspects import session_effects
from pgguard.tenancy.tenants import single, varies
from pgguard.tenancy.variants import copy, keep, known
from pgguard.tenancy.verdict import Judgement, judge_facts

if TYPE_CHECKING:
    from pgguard.sql.statement import Name
    from pgguard.tenancy.results import Column

_CODES: Final = {
    Verdict.scoped_fk: "PGG105",
    Verdict.unscoped: "PGG101",
    Verdict.cross_tenant: "PGG102",
    Verdict.by_id: "PGG104",
    Verdict.unknown: "PGG106",
}
_NOTABLE: Final = effects.DDL | effects.DATABASE_DDL | effects.SESSION
_SETTING: Final = frozenset({Kind.SET, Kind.SET_LOCAL, Kind.SET_UNKNOWN, Kind.RESET})
_MARKING: Final = frozenset(
    {
        Kind.BEGIN,
        Kind.COMMIT,
        Kind.ROLLBACK,
        Kind.SAVEPOINT,
        Kind.RELEASE,
        Kind.ROLLBACK_TO,
        Kind.RESET_ALL,
        Kind.DISCARD_ALL,
        Kind.PREPARE,
        Kind.EXECUTE,
        Kind.DECLARE,
        Kind.FETCH,
        Kind.DEALLOCATE,
        Kind.DEALLOCATE_ALL,
    }
)
_NO_CATALOGUE: Final = "the catalogue has not been read yet"
_UNREADABLE: Final = "its encoding or standard_conforming_strings make it unreadable for us"
_TOO_LONG: Final = "it took too long to read"
_FAULT: Final = "a fault in pgguard"
_SHADOWED: Final = "is a temporary view in some session, and may hide a table of this name"
_FORGOTTEN_TEXT: Final = b"(a prepared statement of which the name alone is known)"
_FORGOTTEN: Final = "which statement its name stands for is not known any more: prepare it again"
_SPENT: Final = Part("opaque", obstacle="it has been judged already")
_KEPT: Final = 8 * 1024
"""Bytes of a large text that are kept once it was judged."""
_MOST_NAMES: Final = 10_000


class Counters(Protocol):
    """What the judge counts into."""

    cache_hits: int
    cache_misses: int
    internal_errors: int


class Judge:
    """Judges the statements of one database.

    `unknown_relation` is set by a statement that names a relation which no catalogue was yet
    asked for: read it again, give it to `set_catalogue` and judge the statement once more. Whoever
    reads the flag clears it.
    """

    __slots__ = (
        "_absent",
        "_armed",
        "_asked",
        "_forgotten",
        "_shadowed",
        "_temporary",
        "_unreadable",
        "cache",
        "counters",
        "looked_at",
        "model",
        "news",
        "owners",
        "settings",
        "sharing",
        "unknown_relation",
        "users",
        "version",
    )

    def __init__(self, settings: TenancySettings, counters: Counters) -> None:
        self.settings = settings
        self.counters = counters
        self.cache = StatementCache(counters)
        self.model: Model | None = None
        self.version = 0
        self.news = News()
        """What DDL has defined since that catalogue was read."""
        self.owners = Owners()
        self.looked_at: tuple[Model, dict[tuple[int, int], Column]] | None = None
        """A model and its columns that are looked at in results."""
        self.unknown_relation = False
        self.sharing = False
        """Whether servers are shared, so that it counts what statements leave behind."""
        self.users: set[str] = set()
        """The roles that sessions have logged in as."""
        self._forgotten: Statement | None = None
        self._unreadable = StatementCache(counters, limit=1024 * 1024, entries=1024)
        self._asked: set[Name] = set()
        """Relations that were missing since the last catalogue."""
        self._absent: set[Name] = set()
        """Relations that the newest catalogue was asked for and does not have."""
        self._temporary: set[str] = set()
        self._shadowed: set[str] = set()
        """Names of temporary views, whatever else has them."""
        self._armed: set[str] = set()
        """Names that were given to views, or to what has rules or triggers: if they are temporary,
        no catalogue says what is behind them."""

    def twin(self) -> Judge:
        """A judge by the same model that has seen nothing yet."""
        other = Judge(self.settings, self.counters)
        if self.model is not None:
            other.set_catalogue(self.model.catalogue, self.model)
        return other

    def statement(self, text: bytes, readable: bool = True) -> Statement:
        """The Statement of a text, looked up only: a miss gives a PENDING one.

        `readable` is False while client_encoding is neither UTF8 nor SQL_ASCII, or
        standard_conforming_strings is off. `cache.exact` holds readable texts only.
        """
        if readable:
            return self.cache.get(text)
        statement = self._unreadable.exact.get(text)
        if statement is None:
            statement = Statement(text[:_KEPT], readable=False)
            statement.effects = effects.ANY
            statement.session = UNREAD
            self._settle(statement, Judgement(Verdict.unknown, _UNREADABLE), "PGG901")
            self._unreadable.keep(text, statement)
        return statement

    def too_long(self, start: bytes, *, busy: bool = False) -> Statement:
        """The Statement of a text that begins so and is not read: over `tenancy.max_statement`, or
        `busy`, too much at once with others."""
        statement = Statement(start[:_KEPT])
        statement.facts = unread(TOO_MANY if busy else TOO_LONG)
        return statement

    def forgotten(self) -> Statement:
        """What stands for a prepared statement that nobody knows any more; one for all."""
        if self._forgotten is None:
            self._forgotten = Statement(_FORGOTTEN_TEXT)
            self._forgotten.facts = unread(_FORGOTTEN)
        return self._forgotten

    def meet(self, user: str) -> None:
        """A role runs statements from now on: what row security does may be another thing."""
        if user not in self.users:
            self.users.add(user)
            if self.model is not None and self.model.is_secured():
                self.version += 1

    def wants_worker(self, statement: Statement) -> bool:
        """Whether the text is too large to be read in this process."""
        size = len(statement.text)
        return statement.facts is None and SHAPED < size <= self.settings.max_statement

    def judge(self, statement: Statement) -> None:
        """Analyse now, or judge anew what was analysed before."""
        if not statement.readable:
            statement.version = self._seen()
            return
        facts = statement.facts
        try:
            if facts is None or facts.forgotten:
                facts = read(statement.text, self.settings.max_statement)
            self._judge(statement, facts)
        except Exception:  # noqa: BLE001 - no text may stop the proxy, whatever is wrong with us
            self._fault(statement)

    def given(self, statement: Statement, nulls: frozenset[int]) -> Statement:
        """The statement as executions show it in which these of its `nulls` are NULL and the rest
        is not; itself if that says no more."""
        if self.model is None or statement.version != self.version:
            return statement
        key = f"NULL {sorted(nulls)}"
        kept = known(statement, key)
        if kept is not None:
            return kept
        try:
            return keep(statement, key, self._given(statement, nulls))
        except Exception:  # noqa: BLE001 - as in judge
            self.counters.internal_errors += 1
            return statement

    def _given(self, statement: Statement, nulls: frozenset[int]) -> Statement:
        facts = statement.facts
        if facts is None or facts.forgotten:
            facts = read(statement.text, self.settings.max_statement)
        assert self.model is not None
        users = frozenset(self.users)
        judgement = self._hidden(facts) or judge_facts(
            facts, self.model, self._temporary, users, nulls
        )
        if judgement.level == statement.verdict:
            return statement
        one = copy(statement)
        one.marks = statement.marks
        self._settle(one, judgement)
        one.nulls = ()
        if nulls and judgement.level > Verdict.unknown:
            _blame(one, nulls)
        return one

    def judge_facts(self, statement: Statement, facts: Facts | None) -> None:
        """Verdict from facts that were read elsewhere; None = they could not be had in time."""
        try:
            self._judge(statement, facts or unread(_TOO_LONG))
        except Exception:  # noqa: BLE001 - as in judge
            self._fault(statement)

    def set_catalogue(self, catalogue: Catalogue, model: Model | None = None) -> None:
        """A new catalogue: all verdicts of older versions are to be judged again.

        One that equals the last changes nothing, unless a statement waits for a relation. `model`
        is what was made of it elsewhere, which takes long for thousands of tables.
        """
        if self.model is not None and self.model.catalogue == catalogue and not self._asked:
            return
        if model is None or model.settings is not self.settings:
            model = Model(catalogue, self.settings)
        self.model = model
        self.owners.forget()
        self.version += 1
        self._absent = {name for name in self._absent | self._asked if not self.model.find(name)}
        if len(self._absent) > _MOST_NAMES:
            self._absent.clear()
        self._asked.clear()
        self.unknown_relation = False

    @property
    def dotted(self) -> frozenset[str]:
        """Settings with a dot that functions of the database may make."""
        return self.model.catalogue.dotted if self.model is not None else frozenset()

    def model_changed_by(self, statement: Statement) -> bool:
        """Whether the catalogue must be read again once the statement has run."""
        return bool(statement.effects & effects.DDL)

    def model_findings(self) -> list[Finding]:
        """What is wrong with the model itself (PGG110), and with row security as `users` meet it
        (PGG108)."""
        if self.model is None:
            return []
        return [
            *(
                _of_model("PGG110", entry.table, entry.why, entry.fix)
                for entry in self.model.ambiguities
            ),
            *(
                _of_model("PGG108", gap.table.shown, gap.why, gap.fix)
                for gap in gaps(self.model, self.users)
            ),
        ]

    def _seen(self) -> int:
        """The version of a verdict given now: none, so that it is given anew, without a model."""
        return self.version if self.model is not None else -1

    def _judge(self, statement: Statement, facts: Facts) -> None:
        statement.facts = facts
        statement.effects = facts.effects
        self._learn(facts)
        if self.sharing:
            statement.session = session_effects(facts, self.model, self.news)
            if statement.session:
                statement.effects |= effects.SESSION
        if self.model is None:
            judgement = _without_catalogue(facts)
        else:
            judgement = self._hidden(facts) or judge_facts(
                facts, self.model, self._temporary, frozenset(self.users)
            )
            self._miss(judgement.missing)
        self._mark(statement, facts)
        self._settle(statement, judgement, "PGG901" if facts.unread else "")
        whole = len(statement.text) <= _KEPT and not statement.cut
        if len(statement.text) > SHAPED:
            statement.cut, statement.text = True, statement.text[:_KEPT]
        if judgement.by_value or statement.nulls:
            # What its executions say of it, too, may depend on literals.
            self.cache.forget(statement)
        elif not facts.unread and self.model is not None:
            self.cache.share(statement)
        if self.model is not None and facts.parts and whole:
            statement.facts = _forgotten(facts)

    def _hidden(self, facts: Facts) -> Judgement | None:
        """`unknown` for a statement whose table some session has hidden behind a view."""
        for part in facts.parts if self._shadowed else ():
            for name in part.relations:
                if name.name in self._shadowed and name.schema in {"", "pg_temp"}:
                    return Judgement(Verdict.unknown, f"{name.name} {_SHADOWED}", part=part)
        return None

    def _mark(self, statement: Statement, facts: Facts) -> None:
        """Does it move what is remembered of a session that works for tenants?"""
        named = self.settings.settings
        moves = self.model is not None and bool(self.model.roles)
        kinds = {one.kind for one in facts.session if one.kind in _SETTING and one.name in named}
        statement.marks = moves and (
            bool(kinds) or any(one.kind in _MARKING for one in facts.session)
        )
        statement.frees = moves and (
            bool(facts.effects & (effects.ANY | effects.DDL))
            or any(part.kind == "truncate" for part in facts.parts)
            or any("d" in write.actions for part in facts.parts for write in part.writes)
        )
        statement.marks = statement.marks or statement.frees
        only = len(facts.parts) == len(facts.session) == 1 and not statement.frees
        kind = facts.session[0].kind if only and statement.marks else None
        statement.border = kind if kind in ENDS else None
        found = assignments(statement.text) if moves and kinds else ()
        statement.assigned = tuple(one for one in found if one.name in named)

    def _learn(self, facts: Facts) -> None:
        """Remember temporary tables, so that their names are no riddle."""
        for name in facts.shadowing:
            if name.name not in self._shadowed and len(self._shadowed) < _MOST_NAMES:
                self._shadowed.add(name.name)
                self.version += 1
        for name in facts.armed:
            if name.name not in self._armed and len(self._armed) < _MOST_NAMES:
                self._armed.add(name.name)
                if name.name in self._temporary:
                    self._temporary.discard(name.name)
                    self.version += 1
        for role in facts.roles:
            self.meet(role)
        for name in facts.created:
            if name.name in self._armed or len(self._armed) >= _MOST_NAMES:
                continue
            if name.name not in self._temporary and len(self._temporary) < _MOST_NAMES:
                self._temporary.add(name.name)
                if name in self._absent:
                    self.version += 1

    def _miss(self, missing: tuple[Name, ...]) -> None:
        for name in missing:
            if name not in self._absent and len(self._asked) < _MOST_NAMES:
                self._asked.add(name)
                self.unknown_relation = True

    def _settle(self, statement: Statement, judgement: Judgement, code: str = "") -> None:
        """Write the verdict down."""
        level = judgement.level
        outcomes = judgement.outcomes
        if not code and outcomes and outcomes[0].ambiguous:
            code = "PGG110"
        code = code or _CODES.get(level, "")
        statement.relations = tuple(
            Relation(
                outcome.table.shown,
                outcome.alias,
                outcome.level.name,
                outcome.why,
                rules.fix(code, outcome, judgement.part, self.model)
                if code and self.model and outcome.level == level
                else "",
            )
            for outcome in outcomes
        )
        statement.code, statement.why = code, judgement.why
        statement.remedy = rules.remedy(code, outcomes, judgement.why) if code else ""
        statement.position = _position(statement, judgement)
        _name(statement, judgement)
        statement.verdict, statement.version = int(level), self._seen()
        harmless = level < Verdict.by_id and not statement.effects & _NOTABLE
        harmless = harmless and not statement.varies and not statement.marks
        statement.clean = statement.version if harmless else -1

    def _fault(self, statement: Statement) -> None:
        self.counters.internal_errors += 1
        if statement.facts is None:
            statement.facts = unread(_FAULT)
            statement.effects = effects.ANY
        # What is not known of it may be anything.
        statement.session = UNREAD
        self._settle(statement, Judgement(Verdict.unknown, _FAULT), "PGG901")


def _name(statement: Statement, judgement: Judgement) -> None:
    """Write down which tenants and keys the statement names."""
    tenants = naming.tenants_of(judgement.outcomes)
    keys = naming.keys_of(judgement.outcomes)
    for outcomes in judgement.others:
        tenants += tuple(one._replace(relation=-1) for one in naming.tenants_of(outcomes))
        keys += tuple(one._replace(relation=-1) for one in naming.keys_of(outcomes))
    statement.names(tenants, keys)
    if len(statement.text) > SHAPED:
        # It is about to be cut.
        statement.number()
    statement.publishes = naming.publishes(judgement.outcomes)
    statement.varies = varies(statement.tenants) or statement.publishes
    statement.single = single(statement.tenants)
    part = judgement.part
    hopes = judgement.hoped and judgement.level == Verdict.unknown
    statement.nulls = part.nulls if hopes and part is not None else ()
    statement.variants = None
    statement.parameter_types = judgement.parameter_types


def _blame(statement: Statement, nulls: frozenset[int]) -> None:
    """Say that it is so because these parameters are NULL."""
    when = "where " + " and ".join(f"${number} is NULL" for number in sorted(nulls))
    level = Verdict(statement.verdict).name
    statement.why = f"{when}, {statement.why}"
    statement.relations = tuple(
        replace(one, why=f"{when}, {one.why}") if one.level == level else one
        for one in statement.relations
    )


def _of_model(code: str, table: str, why: str, fix: str) -> Finding:
    relation = Relation(table, "", Verdict.unknown.name, why, fix)
    return Finding(code, why, "", rules.remedy(code, [], why), relations=[relation])


def _forgotten(facts: Facts) -> Facts:
    """What is kept of the facts of a text that is kept: they are many times as large, and asked
    for again only if the catalogue changes."""
    parts = (_SPENT,) * len(facts.parts)
    return Facts(parts, facts.effects, facts.session, forgotten=True, defined=facts.defined)


def _without_catalogue(facts: Facts) -> Judgement:
    if facts.unread:
        return Judgement(Verdict.unknown, facts.unread)
    for part in facts.parts:
        if part.kind == "opaque" or part.relations or part.functions:
            return Judgement(Verdict.unknown, part.obstacle or _NO_CATALOGUE, part=part)
    return Judgement(Verdict.no_tenant_data)


def _position(statement: Statement, judgement: Judgement) -> int:
    """Characters from 1 to the occurrence that decided; 0 = not known."""
    place = judgement.outcomes[0].position if judgement.outcomes else -1
    if place < 0:
        return 0
    before = statement.text[:place]
    if len(before) < place:
        # The text has been shortened since it was read.
        return statement.position
    return len(before.decode("utf-8", "replace")) + 1
