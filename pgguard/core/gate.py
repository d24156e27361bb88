"""Statements and their verdicts: one judge for each database, and the executions that wait for one.

A statement is forwarded first and judged in the same turn; in block mode it is judged first.
Laws: an execution is counted once, under the verdict of the newest catalogue that was asked for it;
while a catalogue is being read the verdict waits, not the statement; nothing here raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.core.holds import Holds
from pgguard.core.types import Flagged
from pgguard.findings import Verdict
from pgguard.sql.effects import DATABASE_DDL, DDL
from pgguard.sql.statement import PENDING
from pgguard.tenancy.catalogue import Catalogue
from pgguard.tenancy.judge import Judge
from pgguard.tenancy.policy import Action, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pgguard.core.session import Session
    from pgguard.core.types import Client, Net
    from pgguard.counters import ProcessCounters
    from pgguard.sql.statement import Facts, Statement
    from pgguard.tenancy.model import Model, TenancySettings

WAITING_LIMIT = 10_000
"""Executions by (statement, client) whose verdict may wait; more are counted as unknown at once."""

FLAGGED_LIMIT = 2_000
"""Different flagged statements kept for each client; executions of others count as dropped."""

FLAGGED_IN_ALL = 20_000
"""The same over all clients."""

FLAGGED_TEXT = 8 * 1024
"""Bytes of the text that are kept of a flagged statement."""

BACKLOG = 32 * 1024 * 1024
"""Bytes of long texts that wait for the worker; more are counted as unknown at once."""

STEP = 200
"""Statements that are judged without a session being served in between."""


class Gate:
    """The core's only door to `sql/` and `tenancy/`."""

    __slots__ = (
        "_analysing",
        "_backlog",
        "_changing",
        "_clock",
        "_counters",
        "_databases",
        "_flagged",
        "_net",
        "_settings",
        "_waiting",
        "gathered",
        "holds",
        "judges",
        "policy",
    )

    def __init__(
        self,
        settings: TenancySettings,
        counters: ProcessCounters,
        net: Net,
        clock: Callable[[], float],
        policy: Policy | None = None,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._counters = counters
        self._net = net
        self.holds = Holds(clock)
        """Sessions whose statement waits for its verdict (block mode)."""
        self.gathered = 0
        """Bytes of texts that come in pieces and are kept until they are whole, of all sessions."""
        self.policy = policy or Policy()
        self.judges: dict[str, Judge] = {}
        self._waiting: dict[str, dict[tuple[Statement, Client], int]] = {}
        self._databases: dict[Judge, str] = {}
        self._analysing: dict[Statement, int] = {}
        """Statements that the worker has or gets, and the bytes of their texts."""
        self._backlog = 0
        self._flagged = 0
        self._changing: set[str] = set()
        """Databases whose catalogue has changed since it was read."""

    def judge(self, database: str) -> Judge:
        judge = self.judges.get(database)
        if judge is None:
            judge = self.judges[database] = Judge(self._settings, self._counters)
            self._databases[judge] = database
            self._waiting[database] = {}
            if database:
                self._net.read_catalogue(database, soon=True)
            else:
                # A physical walsender: there is nothing that its commands could read.
                judge.set_catalogue(Catalogue())
        return judge

    def reconfigure(self, settings: TenancySettings) -> bool:
        """Take new settings. True = every judge was replaced, and sessions need theirs anew."""
        if settings == self._settings:
            return False
        self._settings = settings
        for database, old in list(self.judges.items()):
            judge = Judge(settings, self._counters)
            # A version is never used twice, so that no verdict of the old settings passes for new.
            judge.version, judge.news = old.version, old.news
            if old.model is not None:
                judge.set_catalogue(old.model.catalogue)
            self.judges[database] = judge
            self._databases[judge] = database
            self._databases.pop(old, None)
            self.changed(database)
        return True

    def forget(self, database: str) -> None:
        """Nobody uses the database: drop what is known of it. What waits is counted as it is."""
        judge = self.judges.pop(database, None)
        if judge is None:
            return
        for (statement, client), times in self._waiting.pop(database).items():
            self._count(client, statement, times, self._clock())
        self._databases.pop(judge, None)
        self._changing.discard(database)

    def changed(self, database: str) -> None:
        """The catalogue is not what was read any more: verdicts wait until it is read again."""
        if not database:
            return
        self._changing.add(database)
        # No verdict is of the newest version now: every execution comes to `settle`.
        self.judge(database).version += 1
        self._net.read_catalogue(database, soon=True)

    def settle(self, session: Session, statement: Statement, now: float) -> None:
        """One execution of a statement whose verdict is missing or older than the catalogue."""
        judge = session.judge
        assert judge is not None
        if statement.version != judge.version:
            if judge.wants_worker(statement) and self._send_to_worker(judge, statement):
                self._wait(session.database, statement, session.client, now)
                return
            self._judge(judge, statement)
        if statement.effects & (DDL | DATABASE_DDL) and session.server is not None:
            session.server.noted = session.server.ddl = True
        waits = judge.version == 0 or judge.unknown_relation or session.database in self._changing
        if waits and session.database:
            if judge.unknown_relation:
                judge.unknown_relation = False
                self._net.read_catalogue(session.database, soon=True)
            self._wait(session.database, statement, session.client, now)
            return
        self._count(session.client, statement, 1, now)
        if self.policy.acts and self.action(session.client, statement):
            session.warn(statement)

    def action(self, client: Client, statement: Statement) -> Action:
        """What is done about a judged statement of that client."""
        if statement.verdict <= Verdict.scoped:
            return Action.observe
        return self.policy.decide(statement, client.key).action

    def settled(self, session: Session, statement: Statement, *, final: bool) -> bool:
        """Whether the verdict is as well known as it will be; if not, it has been asked for.

        `final` = no newer catalogue is waited for. The worker always answers in the end.
        """
        judge, database = session.judge, session.database
        assert judge is not None
        if statement.version != judge.version:
            if judge.wants_worker(statement) and self._send_to_worker(judge, statement):
                return False
            self._judge(judge, statement)
        if final or not database:
            return True
        if judge.unknown_relation:
            judge.unknown_relation = False
            self._changing.add(database)
            self._net.read_catalogue(database, soon=True)
        return judge.version > 0 and database not in self._changing

    def looked_at(self, session: Session, statement: Statement) -> None:
        """Have a verdict, as far as it can be had at once."""
        judge = session.judge
        assert judge is not None
        if statement.version != judge.version and not judge.wants_worker(statement):
            self._judge(judge, statement)

    def blocked(self, client: Client, statement: Statement, now: float) -> None:
        """An execution that is not carried out."""
        self._count(client, statement, 1, now)
        flagged = client.flagged.get(statement)
        if flagged is not None:
            flagged.action = Action.block.name

    def tick(self, now: float) -> None:
        """Every 100 ms."""
        self.holds.tick(now)

    def _judge(self, judge: Judge, statement: Statement) -> None:
        started = self._clock()
        judge.judge(statement)
        took = self._clock() - started
        self._counters.analysis_seconds.observe(took)
        self._counters.added_analysis.observe(took)

    def _send_to_worker(self, judge: Judge, statement: Statement) -> bool:
        """Have a long text read elsewhere. False = too much waits for that already: not read."""
        if statement not in self._analysing:
            size = len(statement.text)
            if self._backlog + size > BACKLOG:
                judge.judge_facts(statement, None)
                return False
            self._analysing[statement] = size
            self._backlog += size
            self._net.analyse(judge, statement)
        return True

    def flag(self, client: Client, statement: Statement, now: float, times: int = 1) -> None:
        """Keep an execution that is worth a finding, or is not known to be clean."""
        flagged = client.flagged.get(statement)
        if flagged is not None:
            flagged.count += times
            flagged.last = now
        elif len(client.flagged) < FLAGGED_LIMIT and self._flagged < FLAGGED_IN_ALL:
            statement.shorten(FLAGGED_TEXT)
            client.flagged[statement] = Flagged(times, now, now)
            self._flagged += 1
        else:
            self._counters.events_dropped += times

    def _count(self, client: Client, statement: Statement, times: int, now: float) -> None:
        verdict = statement.verdict if statement.verdict != PENDING else int(Verdict.unknown)
        client.counters.statements[verdict] += times
        self._counters.settled += times
        if verdict >= Verdict.by_id:
            self.flag(client, statement, now, times)

    def _wait(self, database: str, statement: Statement, client: Client, now: float) -> None:
        waiting = self._waiting[database]
        key = (statement, client)
        if key in waiting or len(waiting) < WAITING_LIMIT:
            waiting[key] = waiting.get(key, 0) + 1
        else:
            self._count(client, statement, 1, now)

    def catalogue_read(
        self,
        database: str,
        catalogue: Catalogue,
        model: Model | None = None,
        *,
        newest: bool = True,
        moment: int = 0,
    ) -> None:
        """The catalogue as it was when the reading began, at that `moment` of the judge's news, and
        the model if it is made already.

        Verdicts that waited can be given up waiting for now. Not `newest`: it has been asked for
        anew since, so they go on waiting.
        """
        judge = self.judge(database)
        if judge.news.read(moment):
            judge.version += 1
        judge.set_catalogue(catalogue, model)
        if newest:
            self._changing.discard(database)

    def give_up_waiting(self, database: str, now: float) -> None:
        """No newer catalogue is to be had: what waits is counted by what is known."""
        for _ in self.giving_up(database, now):
            pass

    def giving_up(self, database: str, now: float) -> Iterator[None]:
        """The same in steps: thousands of statements may wait, and sessions are served in between.

        Ends early when the catalogue has changed again meanwhile; the rest goes on waiting.
        """
        judge = self.judge(database)
        waiting, version = self._waiting[database], judge.version
        for number, key in enumerate(list(waiting), 1):
            if number % STEP == 0:
                judge.unknown_relation = False
                yield
                if self.judges.get(database) is not judge or judge.version != version:
                    return
            statement, client = key
            times = waiting.pop(key, 0)
            if statement.version != version:
                if judge.wants_worker(statement) and self._send_to_worker(judge, statement):
                    waiting[key] = times
                    continue
                self._judge(judge, statement)
            if times:
                self._count(client, statement, times, now)
        judge.unknown_relation = False
        self.holds.release(database, final=True)

    def analysed(self, judge: Judge, statement: Statement, facts: Facts | None, now: float) -> None:
        """The worker's facts on a long text; None = it gave up."""
        judge.judge_facts(statement, facts)
        self._backlog -= self._analysing.pop(statement, 0)
        database = self._databases.get(judge)
        if database is None or database in self._changing:
            return
        waiting = self._waiting[database]
        for key in [key for key in waiting if key[0] is statement]:
            self._count(key[1], statement, waiting.pop(key), now)
        self.holds.release(database, final=False)

    def close(self, now: float) -> None:
        """The end: what has no verdict yet is counted by what is known of it, else as unknown."""
        for waiting in self._waiting.values():
            for (statement, client), times in waiting.items():
                self._count(client, statement, times, now)
            waiting.clear()

    def waits(self, database: str) -> bool:
        """Whether verdicts wait for the catalogue of the database."""
        return bool(self._waiting.get(database))

    def waiting(self) -> int:
        """Executions whose verdict is not given yet."""
        return sum(sum(waiting.values()) for waiting in self._waiting.values())


def concerns_databases(judge: Judge, statements: list[Statement]) -> bool:
    """Whether one of them may create, change or drop a database (T27)."""
    return any(
        statement.effects & DATABASE_DDL
        if statement.version == judge.version
        else b"DATABASE" in statement.text[:4096].upper()
        for statement in statements
    )


def readable(parameters: Mapping[str, str]) -> bool:
    """Whether the parser sees a text as the server does (reliability section 1.3)."""
    encoding = parameters.get("client_encoding", "UTF8").upper().replace("-", "")
    strings = parameters.get("standard_conforming_strings", "on")
    return encoding in ("UTF8", "UNICODE", "SQL_ASCII") and strings == "on"
