"""`logins`: every login directly and through pgguard; PASS when a client can see no difference.

Role, database, method of pg_hba.conf, TLS and what the client does are combined, in front of guards
whose service connection may read pg_authid (verifiers) and of such whose may not (relayed logins).
Compared is every message of the dialogue: what is asked, with how many iterations, whether it ends
in ReadyForQuery with the same ParameterStatus, or in which ErrorResponse: severity, SQLSTATE,
words, DETAIL and HINT. Client and upstream legs are both plain, both TLS or both unix sockets, as
Postgres speaks of what it sees. The salt is compared where it is the role's own.

Then: who is known by a uid or a certificate (`identified.py`), odd startup packets, PLUS required
and forbidden, psycopg (libpq) for a sample, secrets in the guards' logs, and whether time tells an
unknown user from a wrong password.
"""

from __future__ import annotations

import itertools
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from tests.conformance import harness, known
from tests.conformance.logins import identified, odd
from tests.conformance.logins.client import Outcome, Person, Place, converse, log_in
from tests.conformance.logins.world import IDENTIFYING, METHODS, RIGHT, ROLES, World, world

if TYPE_CHECKING:
    from collections.abc import Iterator

WRONG = "wrong horse"
DOES = ("answer", "wrong", "empty", "leave", "stop", "terminate", "query", "garbage")
SHORT_ROLES = ("scram", "md5", "null", "nologin", "expired", "limited", "odd", "held", "unknown")
SHORT_DOES = ("answer", "wrong", "empty", "query")
MOCKED = ("null", "expired", "md5", "own", "unknown", "unknown_long")
"""Roles whose salt is nobody's: Postgres and pgguard each make up their own."""
TELLS = 0.03
"""How often, beyond chance and its error, the slower one of two attempts may be the same kind."""


@dataclass(frozen=True, slots=True)
class Case:
    """One login; its name is what known.py knows it by."""

    method: str
    database: str
    role: str
    does: str
    leg: str
    binding: str = "prefer"

    @property
    def name(self) -> str:
        leg = f"TLS, binding {self.binding}" if self.leg == "TLS" else self.leg
        return f"{self.method}: {self.database}, {self.role}, {self.does}, {leg}"

    def known_as(self, service: str) -> str:
        """Its name in known.py: one for all that differ for the same reason."""
        asked = self.method in ("md5", "scram") and not self.role.startswith("held")
        if service == "ordinary" and self.leg == "TLS" and asked:
            if self.binding != "disable":
                return "relayed login that a client would bind to TLS"
            return "relayed login over TLS: PLUS is not offered"
        return f"{service} service: {self.name}"

    def person(self) -> Person:
        role = ROLES[self.role]
        passwords = {"wrong": WRONG, "empty": ""}
        return Person(
            role.name.encode(),
            f"{self.database}_{self.method}".encode(),
            passwords.get(self.does, role.password),
            "answer" if self.does in ("wrong", "empty") else self.does,
            self.binding,
        )


def run(checks: harness.Checks, short: bool) -> None:
    with world() as there:
        compare(checks, there, list(cases(short)))
        identified.run(checks, there, short)
        startup_packets(checks, there)
        libpq(checks, there)
        salts(checks, there)
        times(checks, there, 60 if short else 300)
        secrets(checks, there)


def cases(short: bool) -> Iterator[Case]:
    roles, does = (SHORT_ROLES, SHORT_DOES) if short else (tuple(ROLES), DOES)
    for method, role, done in itertools.product(METHODS, roles, does):
        yield Case(method, "ok", role, done, "plain")
        if not short:
            yield Case(method, "ok", role, done, "TLS", binding="disable")
    for method, role in itertools.product(("md5", "scram"), ("scram", "few", "unknown", "held")):
        for done, binding in itertools.product(("answer", "wrong"), ("prefer", "require")):
            yield Case(method, "ok", role, done, "TLS", binding=binding)
    for method, database in itertools.product(METHODS, ("closed", "full", "off", "unknown")):
        for role in ("scram", "md5", "held", "unknown"):
            yield Case(method, database, role, "answer", "plain")
            if not short:
                yield Case(method, database, role, "wrong", "plain")
    yield from over_unix_sockets(short)


def over_unix_sockets(short: bool) -> Iterator[Case]:
    """By password as everywhere else, and by who we are; `ident` over TCP finds nobody to ask."""
    for method, role in itertools.product(METHODS, SHORT_ROLES if not short else ("scram", "own")):
        for done in ("answer", "wrong"):
            yield Case(method, "ok", role, done, "unix")
    roles = ("own", "scram", "nologin", "held", "unknown", "unknown_long", "odd")
    for method, role in itertools.product(IDENTIFYING, roles):
        for done in ("answer", "query"):
            yield Case(method, "ok", role, done, "unix")
    for database, role in itertools.product(("closed", "full", "off", "unknown"), roles[:2]):
        for method in IDENTIFYING:
            yield Case(method, database, role, "answer", "unix")
    for method, role in itertools.product(IDENTIFYING, roles):
        yield Case(method, "ok", role, "answer", "plain")
        yield Case(method, "ok", role, "answer", "TLS", binding="disable")


def compare(checks: harness.Checks, there: World, table: list[Case]) -> None:
    direct = {case: log_in(there.place("", case.leg), case.person()) for case in table}
    entered = sum(outcome.entered for outcome in direct.values())
    checks.note(f"{len(table)} logins; directly {entered} get in, {len(table) - entered} do not")
    for service in ("superuser", "ordinary"):
        differ: dict[str, tuple[Outcome, Outcome]] = {}
        for case in table:
            through = log_in(there.place(service, case.leg), case.person())
            salted = case.role in MOCKED or (service == "ordinary" and case.role == "held")
            same_salt = salted or through.salt == direct[case].salt
            if through.words != direct[case].words or not same_salt:
                differ[case.known_as(service)] = (direct[case], through)
        report(checks, f"{service} service: same dialogue and verdict", differ, len(table))


def report(
    checks: harness.Checks, what: str, differ: dict[str, tuple[Outcome, Outcome]], of: int
) -> None:
    for line in known.explained("logins", differ):
        checks.note(f"known: {line}")
    left = known.unexplained("logins", differ)
    for name in left[:12]:
        direct, through = differ[name]
        checks.note(f"{name}\n      direct  {direct.words[:8]}\n      through {through.words[:8]}")
    checks.claim(not left, what, f"{len(left)} of {of} differ", "0")


def startup_packets(checks: harness.Checks, there: World) -> None:
    packets = odd.packets()
    for service in ("superuser", "ordinary"):
        differ = {}
        for name, (packet, person) in packets.items():
            direct = converse(there.place("", "plain"), packet, person)
            through = converse(there.place(service, "plain"), packet, person)
            if direct.words != through.words:
                differ[f"startup: {name}"] = (direct, through)
        report(checks, f"{service} service: odd startup packets", differ, len(packets))


def libpq(checks: harness.Checks, there: World) -> None:
    """psycopg says the same of the same."""
    wrong = []
    for service, method, (role, password) in itertools.product(
        ("superuser", "ordinary"),
        ("md5", "scram", "password"),
        (("scram", RIGHT), ("scram", WRONG), ("unknown", WRONG), ("md5", RIGHT), ("odd", None)),
    ):
        said = []
        for port in (there.admin.port, there.ports[service, "plain"]):
            user = ROLES[role]
            said.append(_psycopg(port, user.name, password or user.password, f"ok_{method}"))
        if said[0] != said[1]:
            wrong.append(f"{service} {method} {role}: {said}")
    for line in wrong[:5]:
        checks.note(line)
    checks.claim(not wrong, "psycopg sees the same", f"{len(wrong)} differ", "0")


def _psycopg(port: int, user: str, password: str, database: str) -> str:
    try:
        with psycopg.connect(
            host="127.0.0.1",
            port=port,
            user=user,
            password=password,
            dbname=database,
            sslmode="disable",
        ) as session:
            row = session.execute("SELECT session_user").fetchone()
            return f"in as {row and row[0]}"
    except psycopg.OperationalError as error:
        return str(error).replace(f"port {port}", "port")


def salts(checks: harness.Checks, there: World) -> None:
    """An unknown user is asked with a salt of its own, always the same."""
    place = there.place("superuser", "plain")
    users = (b"r_unknown", b"r_unknown", b"r_other", b"r_null", b"r_null")
    seen = [log_in(place, Person(user, b"ok_scram", WRONG)).salt for user in users]
    stable = seen[0] == seen[1] and seen[3] == seen[4] and len(set(seen)) == 3
    checks.claim(stable and all(seen), "unknown users have one salt each", f"{len(set(seen))} of 3")


def times(checks: harness.Checks, there: World, count: int) -> None:
    """Interleaved attempts, so that whatever else the machine does counts for both.

    Judged by how often the slower one of any two attempts is that of the unknown user: a half is
    chance, and its standard error for `count` attempts of each kind is sqrt(1 / (6 count)).
    """
    for name, place in (
        ("direct", there.place("", "plain")),
        ("superuser service", there.place("superuser", "plain")),
        ("ordinary service", there.place("ordinary", "plain")),
    ):
        unknown, wrong = _timed(place, count)
        slower = _how_often(unknown, wrong)
        medians = f"{statistics.median(unknown) * 1e3:.2f} and {statistics.median(wrong) * 1e3:.2f}"
        figure = f"medians {medians} ms, the unknown user is the slower one in {slower:.0%}"
        if name == "direct":
            checks.note(f"direct, unknown user and wrong password: {figure}")
            continue
        bar = TELLS + 3 * (1 / (6 * count)) ** 0.5
        checks.claim(
            abs(slower - 0.5) <= bar,
            f"{name}: time does not tell an unknown user from a wrong password",
            figure,
            f"50 % ± {bar:.0%} for {count} attempts each",
        )


def _timed(place: Place, count: int) -> tuple[list[float], list[float]]:
    people = [Person(name, b"ok_scram", WRONG) for name in (b"r_unknown", b"r_scram")]
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(count + 5):
        order = (0, 1) if number % 2 else (1, 0)
        for kind in order:
            seconds = log_in(place, people[kind]).seconds
            if number >= 5:
                taken[kind].append(seconds)
    return taken


def _how_often(first: list[float], second: list[float]) -> float:
    """The share of pairs of which the first one is the larger."""
    larger = sum(a > b for a in first for b in second)
    return larger / (len(first) * len(second))


def secrets(checks: harness.Checks, there: World) -> None:
    """Nothing of a password or a verifier stands in a log."""
    hidden = [RIGHT, WRONG, "service secret", "SCRAM-SHA-256$", there.admin.password]
    found = [secret[:6] for guard in there.logs for secret in hidden if secret in guard.log]
    checks.claim(not found, "no secret in the guards' logs", len(found), "0")
    faults = sum("internal error" in guard.log for guard in there.logs)
    checks.claim(faults == 0, "no fault of pgguard's own", faults, "0")
