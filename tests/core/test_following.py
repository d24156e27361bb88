"""What is told by its bytes is what would have been weighed, whatever else a session does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from shared import Shared

from pgguard.core import following
from pgguard.core.following import note
from pgguard.core.watching import watch_of
from pgguard.tenancy.catalogue import Catalogue, Column, Key, Table
from pgguard.wire import backend, codes, frontend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgguard.core.shared_session import SharedSession

ITEMS = Table(
    "public",
    "items",
    columns=[Column("id", "int4", not_null=True), Column("tenant_id", "text"), Column("x", "text")],
    keys=[Key("items_pkey", ("id",), primary=True)],
)
NOTES = Table("public", "notes", columns=[Column("tenant_id", "int4"), Column("x", "text")])

SELECT = "SELECT x FROM items WHERE id = {n} AND tenant_id = '{t}'"
LIMITED = "SELECT x FROM items WHERE tenant_id = '{t}' LIMIT {n}"
ADDED = "INSERT INTO notes (x, tenant_id, y) VALUES ({s}, {i}, {n})"
COUNTED = "INSERT INTO notes (y, tenant_id, x) VALUES ({n}, {i}, {s})"
LAST = "UPDATE notes SET x = {s} WHERE tenant_id = {i};"
SIGNED = "SELECT x FROM notes WHERE tenant_id = -{i}"
BOTH = "SELECT 1 FROM items a, items b WHERE a.tenant_id = '{t}' AND b.tenant_id = 'a'"
BY_KEY = "SELECT x FROM items WHERE id = {n}"
BOUND = "SELECT x FROM items WHERE tenant_id = $1|{t}"
"""Behind the line what is bound."""
OF_TENANTS = (SELECT, LIMITED, ADDED, COUNTED, LAST, SIGNED, BOTH, BY_KEY, BOUND, BOUND)
MOVING = (
    "BEGIN",
    "BEGIN;",
    "COMMIT",
    "END",
    "ROLLBACK",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "RELEASE s",
    "SET LOCAL app.tenant_id = '{t}'",
    "SET app.tenant_id = '{t}'",
    "RESET app.tenant_id",
    "SELECT {n}",
    "TRUNCATE notes",
)
STRINGS = ("'x'", "'it''s'", "''", "', 1, '", "' AND tenant_id = ''a'", "'),(7'", "'5'")


def linked() -> tuple[Shared, SharedSession]:
    """A session with a server, in a database whose tables are tenants'."""
    shared = Shared()
    session = shared.session()
    tables = {one.key: one for one in (ITEMS, NOTES)}
    shared.hub.gate.catalogue_read("shop", Catalogue(database="shop", tables=tables))
    shared.hub.gate.give_up_waiting("shop", shared.world.clock())
    return shared, session


def batch(text: bytes) -> bytes:
    text, _, value = text.partition(b"|")
    return (
        frontend.parse_message(b"", text)
        + frontend.bind_message(b"", b"", [value] if value else [])
        + frontend.describe_message(codes.PORTAL, b"")
        + frontend.execute_message(b"")
        + frontend.sync()
    )


def says(shared: Shared, session: SharedSession, text: str, *, extended: bool = False) -> None:
    data = text.encode()
    extended = extended or "|" in text
    shared.world.receive(session, batch(data) if extended else frontend.query(data))


class Played:
    """A session, and a Postgres that answers as transactions make it."""

    def __init__(self) -> None:
        self.shared, self.session = linked()
        self.status = "I"

    def say(self, text: str, extended: bool, fails: bool) -> None:
        says(self.shared, self.session, text, extended=extended)
        server = self.session.shared
        word = text.split()[0].rstrip(";")
        ends = word in ("COMMIT", "END", "ROLLBACK") and "TO" not in text
        if word == "BEGIN":
            self.status = "T" if self.status == "I" else self.status
        elif ends:
            self.status = "I"
        elif fails and self.status == "T":
            self.status = "E"
        extended = extended or "|" in text
        lines = ["ParseComplete", "BindComplete", "NoData"] if extended else []
        lines.append('ErrorResponse ERROR 23505 "no"' if fails else f'CommandComplete "{word}"')
        self.shared.says(server, *lines, f"ReadyForQuery {self.status}")

    def seen(self) -> dict[str, Any]:
        """All that is known of the session and its statements."""
        client = self.session.client
        watch = watch_of(self.session)
        note(self.session, watch)
        return {
            "counted": list(client.counters.statements),
            "flagged": {(s.code, s.masked, s.why): f.count for s, f in client.flagged.items()},
            "keys": dict(watch.tenants.keys),
            "settings": dict(watch.tenants.settings),
            "watched": self.session.watched,
        }


Step = tuple[str, bool, bool]

TEXTS = st.builds(
    lambda text, tenant, number, string: text.format(
        t=tenant, i="abc".index(tenant) + 1, n=number, s=string
    ),
    st.sampled_from((*OF_TENANTS, *OF_TENANTS, *MOVING)),
    st.sampled_from("aaab"),
    st.sampled_from((1, 2, 7, 10, 4711)),
    st.sampled_from(STRINGS),
)
STEPS = st.lists(st.tuples(TEXTS, st.booleans(), st.sampled_from([False] * 7 + [True])))


def in_transaction(*texts: str) -> list[Step]:
    return [(text, False, False) for text in ("BEGIN", *texts, "COMMIT")]


ALIKE = SELECT.format(t="a", n=1)
OTHER = SELECT.format(t="b", n=1)


@given(steps=STEPS)
@example(steps=in_transaction(ALIKE) * 5 + in_transaction(ALIKE, OTHER, OTHER))
@example(steps=in_transaction(ALIKE) * 5 + in_transaction(OTHER, ALIKE, ALIKE))
@example(steps=in_transaction(ALIKE) * 5 + in_transaction("SET app.tenant_id = 'b'", ALIKE) * 2)
@example(steps=in_transaction(ALIKE) * 5 + in_transaction("BEGIN", ALIKE, "BEGIN", OTHER))
@example(steps=in_transaction(ALIKE) * 5 + in_transaction("SAVEPOINT s", "ROLLBACK TO s", OTHER))
@example(steps=in_transaction(ALIKE) * 5 + in_transaction(ALIKE, BY_KEY.format(n=1)))
@example(
    steps=in_transaction(BOUND.format(t="b")) * 5
    + in_transaction(ALIKE) * 5
    + in_transaction(BOUND.format(t="b"), ALIKE)
)
def test_nothing_is_seen_otherwise_than_if_all_were_weighed(steps: list[Step]) -> None:
    quick = Played()
    with pytest.MonkeyPatch.context() as patch:
        for text, extended, fails in steps:
            quick.say(text, extended, fails)
        patch.setattr("pgguard.core.usual.is_known", lambda *_: False)
        weighed = Played()
        for text, extended, fails in steps:
            weighed.say(text, extended, fails)
        assert quick.seen() == weighed.seen()


def play(played: Played, texts: Sequence[str]) -> None:
    for text in texts:
        played.say(text, False, False)


@pytest.mark.parametrize("text", [SELECT, LIMITED, ADDED, COUNTED, LAST])
def test_what_was_said_of_a_tenant_before_is_told_by_its_bytes_alone(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played()
    alike = ["BEGIN", text.format(t="a", i=1, n=5, s="'x'"), "COMMIT"]
    others = ["BEGIN", text.format(t="a", i=1, n=4711, s="'y, 2'"), "COMMIT"]
    play(played, alike * 3 + others)

    def unexpected(*_: object, **__: object) -> None:
        raise AssertionError("it is looked into")

    monkeypatch.setattr("pgguard.core.usual.is_known", unexpected)
    monkeypatch.setattr("pgguard.core.usual.passes", unexpected)
    monkeypatch.setattr("pgguard.core.usual.weigh", unexpected)
    play(played, alike + others)


def test_a_string_in_a_batch_passes_for_no_tenant() -> None:
    """In a batch a text stands one byte further on: its first quote would be taken for a last."""
    played = Played()
    own, other = (ADDED.format(s=s, i=i, n=7) for s, i in (("', 1,'", 1), ("', 1,'", 2)))
    play(played, ["BEGIN", own, "COMMIT"] * 5 + ["BEGIN", other, "COMMIT"] * 3)
    play(played, ["BEGIN", own, "COMMIT", "BEGIN", own])
    played.say(other, True, False)
    flagged = {s.code: f.count for s, f in played.session.client.flagged.items()}
    assert flagged == {"PGG103": 1}


def test_another_tenant_behind_what_was_told_by_its_bytes_is_found() -> None:
    played = Played()
    play(played, ["BEGIN", ALIKE, "COMMIT"] * 3)
    play(played, ["BEGIN", ALIKE, OTHER, OTHER, "COMMIT"])
    flagged = {s.code: f.count for s, f in played.session.client.flagged.items()}
    assert flagged == {"PGG103": 1}


def test_names_are_remembered_of_few_tenants_with_each_statement() -> None:
    played = Played()
    for number in range(50):
        text = SELECT.format(t=f"t{number}", n=1)
        play(played, ["BEGIN", text, text, text, "COMMIT"])
    statement = played.session.last
    play(played, ["BEGIN", text])
    statement = played.session.last
    assert statement is not None
    assert 0 < len(statement.ends) <= following._FEW


def test_a_new_verdict_forgets_how_tenants_were_named() -> None:
    played = Played()
    play(played, ["BEGIN", ALIKE, "COMMIT"] * 3 + ["BEGIN", ALIKE])
    statement = played.session.last
    assert statement is not None
    assert statement.ends
    other = Table("public", "items", columns=[Column("id", "int4"), Column("x", "text")])
    gate = played.shared.hub.gate
    gate.catalogue_read("shop", Catalogue(database="shop", tables={other.key: other}))
    play(played, [ALIKE])
    assert not statement.ends


def test_what_postgres_says_of_a_failed_commit_undoes_what_was_told() -> None:
    played = Played()
    play(played, ["BEGIN", ALIKE, "COMMIT"] * 3)
    server = played.session.shared
    says(played.shared, played.session, "BEGIN")
    played.shared.says(server, 'CommandComplete "BEGIN"', "ReadyForQuery T")
    says(played.shared, played.session, ALIKE)
    error = backend.error_response(sqlstate="40001", message="no")
    played.shared.world.receive(server, error + backend.ready_for_query(b"E"))
    says(played.shared, played.session, "COMMIT")
    played.shared.says(server, 'CommandComplete "ROLLBACK"', "ReadyForQuery I")
    assert not played.session.watched
    assert not played.session.tenant
