"""Login event triggers: what Postgres runs once for each session (CREATE EVENT TRIGGER, since 17).

Laws: where one may run, a session is greeted by the login of a server connection of its own; if
one ran there, that connection is its own to its end, so that it runs once and what it did is there.
Whether one ran, the database says behind each such login; before a login without a server the
catalogue counts, and all DDL since that may have made one (transparency T26).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgguard.core import upkeep
from pgguard.core.pins import BY_LOGIN, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgguard.core.hub import Hub
    from pgguard.core.shared_server import SharedServer
    from pgguard.core.shared_session import SharedSession

SINCE: Final = 17
"""The first Postgres that has them."""

OFF: Final = "-c event_triggers=off"
"""Startup option with which a superuser's login sets none off."""

ASK: Final = (
    b"SELECT dathasloginevt FROM pg_catalog.pg_database"
    b" WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()"
)
"""True from the first trigger on until a login has found none, so never false behind a login for
which one ran."""

_YES: Final = [b"t"]
_NO: Final = [b"f"]


def has_them(parameters: Mapping[str, str]) -> bool:
    """Whether a Postgres that told these at login knows of such triggers."""
    major = parameters.get("server_version", "")[:2]
    return major.isdecimal() and int(major) >= SINCE


def are_known(hub: Hub, database: str) -> bool:
    """Whether the newest catalogue of a database that is in use has one that is enabled."""
    judge = hub.gate.judges.get(database)
    return judge is not None and judge.model is not None and judge.model.catalogue.login_events


def may_fire(session: SharedSession) -> bool:
    """Whether a login of the session may run one."""
    if not has_them(session.pool.parameters):
        return False
    hub, database = session.hub, session.database
    if database in hub.sharing.firing or are_known(hub, database):
        return True
    judge = session.judge
    return judge is not None and judge.news.anything


def ask(session: SharedSession, server: SharedServer) -> bool:
    """Its own login is over: have Postgres asked whether one ran. False = there is no need to."""
    if not has_them(server.parameters) or not BY_LOGIN.isdisjoint(session.pinned):
        return False
    server.asking, server.row = True, []
    server.write(server.run(upkeep.query([ASK])))
    return True


def answered(session: SharedSession, server: SharedServer) -> None:
    """What it came to; no answer counts as yes."""
    firing = session.hub.sharing.firing
    if server.row == _YES:
        firing.add(session.database)
    elif server.row == _NO:
        firing.discard(session.database)
    if server.row != _NO:
        session.pin(Reason.EVENT, "login event trigger")
    server.asking = server.ours_failed = False
