"""Who is known by a uid or a certificate: `peer`, `cert`, and certificates beside a password.

Postgres sees pgguard's own uid and certificate, which only those of pgguard's user share. Law
(transparency T3): nobody comes in through pgguard whom Postgres would keep out, so some whom it
would let in have to stay outside; `known.py` has them by cause. Compared is every message, as in
the table.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import ssl
from typing import TYPE_CHECKING

from tests.conformance import harness, known
from tests.conformance.logins.client import Outcome, Person, Place, log_in
from tests.conformance.logins.world import (
    CERTIFIED,
    IDENTIFYING,
    OTHER_USER,
    OWN_USER,
    RIGHT,
    ROLES,
    SHOWN,
    World,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

HINT = "known for another one: HINT"
OUTSIDE = "known to Postgres by its own uid or certificate"
TRUSTED = "trust over a unix socket, another user"
NAMED = "clientcert=verify-full: the name in the client's certificate"

Pair = tuple[Outcome, Outcome]
Pairs = dict[str, Pair]
"""Name of a login → what was seen directly, and through pgguard."""


def run(checks: harness.Checks, there: World, short: bool) -> None:
    pairs = _by_certificate(there, short) | _our_own_user(there)
    for service in ("superuser", "ordinary"):
        pairs |= _without_any(there, service)
    if not short and checks.claim(
        os.geteuid() == 0, "other users log in, too", f"as {OWN_USER}", "root, who may become one"
    ):
        pairs |= _by_another_user(there)
    _report(checks, pairs)


def _by_certificate(there: World, short: bool) -> Pairs:
    """A certificate on either leg; pgguard asks for one of the same authority as Postgres."""
    pairs: Pairs = {}
    contexts = _contexts(there)
    roles, does = ("scram", "few", "unknown"), ("answer", "wrong")
    for method, shown, role, done in itertools.product(CERTIFIED, SHOWN, roles, does):
        if done == "wrong" and (short or method in ("cert", "dn")):
            continue
        context = contexts[shown]
        person = _person(f"ok_{method}", role, "wrong horse" if done == "wrong" else RIGHT)
        pairs[f"{method}: shows {shown}, {role}, {done}"] = (
            log_in(Place(there.admin.port, tls=context), person),
            log_in(Place(there.ports["certified", "TLS"], tls=context), person),
        )
    return pairs


def _our_own_user(there: World) -> Pairs:
    """Over a unix socket our own user is what we are: directly it would show our certificate."""
    context = _contexts(there)["its own"]
    pairs: Pairs = {}
    for method, role in itertools.product(("cert", "dn"), ("scram", "few", "unknown")):
        person = _person(f"ok_{method}", role)
        pairs[f"{method}: our own user over a unix socket, {role}"] = (
            log_in(Place(there.admin.port, tls=context), person),
            log_in(there.at(there.ports["certified", "TLS"], "unix"), person),
        )
    return pairs


def _without_any(there: World, service: str) -> Pairs:
    """A guard that shows no certificate, in front of a Postgres that wants one."""
    pairs: Pairs = {}
    for method, role in itertools.product(CERTIFIED, ("scram", "unknown")):
        person = _person(f"ok_{method}", role)
        pairs[f"{service} service, no certificate anywhere: {method}, {role}"] = (
            log_in(there.place("", "TLS"), person),
            log_in(there.place(service, "TLS"), person),
        )
    return pairs


def _by_another_user(there: World) -> Pairs:
    """Unix sockets, and a client whose uid is not pgguard's."""
    other = pwd.getpwnam(OTHER_USER)
    pairs: Pairs = {}
    for method in ("trust", "scram", *IDENTIFYING):
        for user in (OWN_USER, OTHER_USER, "r_scram", "r_unknown"):
            person = Person(user.encode(), f"ok_{method}".encode(), RIGHT)
            with _as(other.pw_uid):
                pairs[f"{method}: {OTHER_USER} over a unix socket, {user}"] = (
                    log_in(there.place("", "unix"), person),
                    log_in(there.place("superuser", "unix"), person),
                )
    return pairs


@contextlib.contextmanager
def _as(uid: int) -> Iterator[None]:
    """Sockets that are connected in the block are that user's."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def _contexts(there: World) -> dict[str, ssl.SSLContext]:
    """What is shown → TLS of a client that shows it."""
    made = {}
    for shown, name in SHOWN.items():
        made[shown] = context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        there.authority.configure_trust(context)
        if name:
            files = there.folder / shown
            context.load_cert_chain(files / "cert.pem", files / "key.pem")
    return made


def _person(database: str, role: str, password: str = RIGHT) -> Person:
    return Person(ROLES[role].name.encode(), database.encode(), password)


def _report(checks: harness.Checks, pairs: Pairs) -> None:
    entered = sum(direct.entered for direct, _ in pairs.values())
    checks.note(f"{len(pairs)} logins by uid or certificate; directly {entered} get in")
    differ = {name: pair for name, pair in pairs.items() if pair[0].words != pair[1].words}
    causes = {name: _cause(name, pair) for name, pair in differ.items()}
    for line in known.explained("logins", set(causes.values())):
        checks.note(f"known: {line}")
    left = sorted(n for n, cause in causes.items() if known.unexplained("logins", [cause]))
    for name in left[:12]:
        direct, through = differ[name]
        checks.note(f"{name}\n      direct  {direct.words[:8]}\n      through {through.words[:8]}")
    what = "by uid or certificate: same dialogue and verdict"
    checks.claim(not left, what, f"{len(left)} of {len(pairs)} differ", "0")
    alone = [name for name, (direct, through) in pairs.items() if through.entered > direct.entered]
    alone = [name for name in alone if causes.get(name) != NAMED]
    what = "let in by pgguard alone, but for what is named"
    checks.claim(not alone, what, alone or "nobody", "nobody")


def _cause(name: str, pair: Pair) -> str:
    """What known.py knows a difference by."""
    direct, through = pair
    method, _, who = name.partition(":")
    without_hint = [
        word.partition(" H=Postgres lets pgguard in for what")[0] for word in through.words
    ]
    if without_hint == direct.words:
        return HINT
    if method == "full" and ("shows another" in who or "few" in who):
        return NAMED
    if method == "trust" and "needs a password that pgguard does not know" in without_hint[0]:
        return TRUSTED
    if direct.entered and not through.entered and " C=28000 " in through.words[0]:
        return OUTSIDE
    return name
