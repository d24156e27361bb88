"""Login event triggers: who gets a server of its own, and who keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from doubting import KNOWN
from shared import Shared

from pgguard.core import loginevents
from pgguard.core.pins import Reason
from pgguard.tenancy.catalogue import Catalogue

if TYPE_CHECKING:
    from pgguard.core.shared_server import SharedServer
    from pgguard.core.shared_session import SharedSession

FIRING = Catalogue(
    tables=KNOWN.tables, types=KNOWN.types, builtins=KNOWN.builtins, login_events=True
)


def enters(shared: Shared) -> SharedSession:
    return cast("SharedSession", shared.world.enter(application_name="a.py"))


def connects(shared: Shared, version: str = "18.1") -> SharedServer:
    return shared.connect(server_version=version, application_name="a.py")


def says_whether(shared: Shared, server: SharedServer, ran: str) -> None:
    asked = shared.heard(server)
    assert len(asked) == 1
    assert "dathasloginevt" in asked[0]
    shared.says(server, f'DataRow "{ran}"', 'CommandComplete "SELECT 1"', "ReadyForQuery I")


def scene(catalogue: Catalogue = KNOWN) -> Shared:
    """The first session's login has set off nothing."""
    shared = Shared(connection_limit=4)
    enters(shared)
    says_whether(shared, connects(shared), "f")
    shared.hub.gate.catalogue_read("shop", catalogue)
    return shared


def test_where_none_runs_sessions_share_as_everywhere() -> None:
    shared = scene()
    (server,) = shared.hub.servers
    assert not cast("SharedServer", server).shared.pinned
    assert enters(shared).greeted
    shared.world.end()


@pytest.mark.parametrize("version", ["16.9", "9.6.24", "", "nonsense"])
def test_who_has_no_such_triggers_is_not_asked(version: str) -> None:
    shared = Shared()
    session = enters(shared)
    server = connects(shared, version)
    assert shared.heard(server) == []
    assert not session.pinned
    shared.world.end()


@pytest.mark.parametrize("version", ["17beta1", "18.6 (Debian 18.6-1)", "20"])
def test_who_may_have_them_is(version: str) -> None:
    assert loginevents.has_them({"server_version": version})


def test_where_one_ran_the_server_is_the_sessions_to_its_end() -> None:
    shared = Shared()
    session = enters(shared)
    server = connects(shared)
    shared.says(session, 'Query "SELECT 1"')
    says_whether(shared, server, "t")
    assert list(session.pinned) == [Reason.EVENT]
    assert shared.heard(server) == ['Query "SELECT 1"'], "what came meanwhile goes there"
    shared.done(server)
    shared.says(session, 'Query "DISCARD ALL"')
    shared.done(server, "DISCARD ALL")
    assert Reason.EVENT in session.pinned
    other = enters(shared)
    assert not other.greeted, "the next one is greeted by a login of its own, too"
    says_whether(shared, connects(shared), "f")
    assert other.greeted
    assert not other.pinned
    assert enters(shared).greeted, "none ran any more"
    shared.world.end()


def test_no_answer_counts_as_yes_and_ends_nobody() -> None:
    shared = Shared()
    session = enters(shared)
    server = connects(shared)
    error = 'ErrorResponse S="ERROR" V="ERROR" C="42501" M="permission denied"'
    shared.says(server, error, "ReadyForQuery I")
    assert Reason.EVENT in session.pinned
    shared.says(session, 'Query "SELECT 1"')
    shared.done(server)
    assert session.shared is server
    shared.world.end()


def test_a_catalogue_that_has_one_keeps_warm_servers_from_logins() -> None:
    shared = scene(FIRING)
    session = enters(shared)
    assert not session.greeted
    says_whether(shared, connects(shared), "t")
    assert Reason.EVENT in session.pinned
    shared.world.end()


@pytest.mark.parametrize(
    "text",
    [
        "CREATE EVENT TRIGGER e ON login EXECUTE FUNCTION f()",
        "ALTER EVENT TRIGGER e ENABLE",
        "DO $$ BEGIN EXECUTE 'CREATE EVENT TRIGGER e ON login EXECUTE FUNCTION f()'; END $$",
    ],
)
def test_ddl_that_may_make_one_does_so_until_a_catalogue_knows_better(text: str) -> None:
    shared = scene()
    (server,) = shared.hub.servers
    a = cast("SharedServer", server).shared
    shared.says(a, f'Query "{text}"')
    b = enters(shared)
    assert not b.greeted, "from the moment that it is sent"
    shared.done(a.shared, "DDL")
    says_whether(shared, connects(shared), "f")
    assert not enters(shared).greeted
    news = shared.hub.gate.judge("shop").news
    shared.hub.gate.catalogue_read("shop", KNOWN, moment=news.moment)
    assert enters(shared).greeted
    shared.world.end()
