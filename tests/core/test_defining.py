"""Tables that sessions make, and what DDL makes doubtful, for themselves and for others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from doubting import KNOWN, is_suspect, runs
from shared import Shared

from pgguard.core.pins import Reason

if TYPE_CHECKING:
    from pgguard.core.shared_session import SharedSession

CREATE = "CREATE TABLE t (id int)"
INSERT = "INSERT INTO t VALUES (1)"
TRIGGER = "CREATE TRIGGER x AFTER INSERT ON {} EXECUTE FUNCTION f()"


def scene(**settings: int) -> Shared:
    shared = Shared(**settings)
    shared.hub.gate.catalogue_read("shop", KNOWN)
    return shared


def fails(shared: Shared, session: SharedSession, text: str, status: str = "I") -> None:
    shared.says(session, f'Query "{text}"')
    shared.says(session.shared, 'ErrorResponse ERROR 42P07 "exists"', f"ReadyForQuery {status}")


def test_a_new_table_pins_nobody_once_its_transaction_is_over() -> None:
    shared = scene()
    a, b = shared.session(), shared.session()
    runs(shared, a, CREATE)
    runs(shared, a, INSERT)
    assert not a.pinned
    shared.says(b, f'Query "{INSERT}"')
    shared.connect()
    assert not b.pinned
    shared.done(b.shared)
    shared.world.end()


def test_within_the_transaction_it_is_known_to_its_own_session_alone() -> None:
    shared = scene()
    a, b = shared.session(), shared.session()
    runs(shared, a, "BEGIN", "T")
    runs(shared, a, CREATE, "T")
    runs(shared, a, INSERT, "T")
    assert not a.pinned
    shared.says(b, f'Query "{INSERT}"')
    shared.connect()
    assert is_suspect(b)
    shared.done(b.shared)
    runs(shared, a, "COMMIT")
    assert not a.pinned
    shared.world.end()


@pytest.mark.parametrize(
    "undo", [("ROLLBACK", "I"), ("ROLLBACK TO SAVEPOINT s", "T"), ("error", "E")]
)
def test_what_was_undone_is_not_known(undo: tuple[str, str]) -> None:
    shared = scene()
    a = shared.session()
    runs(shared, a, "BEGIN", "T")
    runs(shared, a, "SAVEPOINT s", "T")
    runs(shared, a, CREATE, "T")
    how, status = undo
    if how == "error":
        fails(shared, a, "SELECT 1/0", status)
        runs(shared, a, "COMMIT".replace("COMMIT", "ROLLBACK"))
    else:
        runs(shared, a, how, status)
    runs(shared, a, INSERT, "I" if status != "T" else "T")
    assert is_suspect(a)
    shared.world.end()


def test_a_table_that_could_not_be_made_is_not_known() -> None:
    shared = scene()
    a = shared.session()
    fails(shared, a, CREATE)
    runs(shared, a, INSERT)
    assert is_suspect(a)
    shared.world.end()


def test_what_stands_before_the_creation_in_the_same_text_is_not_cleared_by_it() -> None:
    shared = scene()
    a = shared.session()
    runs(shared, a, f"{INSERT}; DROP TABLE t; {CREATE}")
    assert is_suspect(a)
    shared.world.end()


@pytest.mark.parametrize(
    ("create", "use"),
    [
        ("CREATE TABLE t (id int DEFAULT f())", INSERT),
        ("CREATE TABLE t (id int CHECK (f() > id))", INSERT),
        ("CREATE TABLE t (id int GENERATED ALWAYS AS (f()) STORED)", INSERT),
        ("CREATE TABLE t (id dom)", INSERT),
        ("CREATE TABLE t (LIKE unheard)", INSERT),
        ("CREATE TABLE IF NOT EXISTS t (id int)", INSERT),
        (f"{CREATE}; CREATE INDEX ON t (f(id))", INSERT),
        (f"{CREATE}; {TRIGGER.format('t')}", INSERT),
        (f"{CREATE}; ALTER TABLE t ADD COLUMN a int DEFAULT f()", INSERT),
        (f"{CREATE}; ALTER TABLE t RENAME TO u", "INSERT INTO u VALUES (1)"),
        (f"{CREATE}; CREATE RULE r AS ON INSERT TO t DO ALSO SELECT f()", INSERT),
        ("CREATE TABLE t (id int) INHERITS (old); " + TRIGGER.format("t"), "DELETE FROM old"),
        (
            "CREATE TABLE t (id int REFERENCES old ON DELETE CASCADE); " + TRIGGER.format("t"),
            "DELETE FROM old",
        ),
        # What a partition takes over of its parent: triggers, and who references it.
        (TRIGGER.format("old") + "; CREATE TABLE u () INHERITS (old)", "INSERT INTO u VALUES (1)"),
        (
            "CREATE TABLE t (id int REFERENCES old ON DELETE CASCADE); "
            + TRIGGER.format("t")
            + "; CREATE TABLE u () INHERITS (old)",
            "DELETE FROM u",
        ),
        (
            "CREATE TABLE t () INHERITS (old); "
            + TRIGGER.format("t")
            + "; CREATE TABLE u () INHERITS (t)",
            "INSERT INTO u VALUES (1)",
        ),
        ("CREATE TABLE u () INHERITS (risky)", "INSERT INTO u VALUES (1)"),
        # A cascade from a partition to its parent, and so to all of its siblings.
        (
            "CREATE TABLE o (id int PRIMARY KEY, up int REFERENCES o ON DELETE CASCADE); "
            "CREATE TABLE t () INHERITS (o); "
            + TRIGGER.format("t")
            + "; CREATE TABLE u () INHERITS (o)",
            "DELETE FROM u",
        ),
        ("CREATE TABLE u () INHERITS (looped)", "DELETE FROM u"),
        (
            "CREATE TABLE t () INHERITS (looped_well); "
            + TRIGGER.format("t")
            + "; CREATE TABLE u () INHERITS (looped_well)",
            "DELETE FROM u",
        ),
        ("CREATE VIEW v AS SELECT f()", "SELECT * FROM v"),
        (f"{CREATE}; CREATE VIEW v AS TABLE t", "INSERT INTO v VALUES (1)"),
        ("CREATE VIEW v AS TABLE unheard", "SELECT * FROM v"),
        (TRIGGER.format("old"), "INSERT INTO old VALUES (1)"),
        (TRIGGER.format("other_schema.old"), "INSERT INTO old VALUES (1)"),
        ("CREATE OR REPLACE FUNCTION lower(int) RETURNS int AS '' LANGUAGE sql", "SELECT lower(1)"),
        ("CREATE DOMAIN dom AS int CHECK (f() > 0)", "SELECT 1::dom"),
        ("ALTER TABLE old ATTACH PARTITION other DEFAULT", "INSERT INTO old VALUES (1)"),
        ("DO $$ BEGIN END $$", "INSERT INTO old VALUES (1)"),
        ("CREATE OPERATOR + (FUNCTION = f)", "SELECT 1 + 1"),
    ],
)
def test_what_may_set_off_a_function_of_the_user_is_suspected(create: str, use: str) -> None:
    shared = scene()
    a, b = shared.session(), shared.session()
    runs(shared, a, create)
    shared.says(b, f'Query "{use}"')
    shared.connect()
    assert is_suspect(b)
    shared.done(b.shared)
    shared.world.end()


@pytest.mark.parametrize(
    ("create", "use"),
    [
        ("CREATE TABLE t (id serial PRIMARY KEY, a text DEFAULT lower('A'))", INSERT),
        (f"{CREATE}; CREATE INDEX ON t (lower(id))", INSERT),
        ("CREATE TABLE t (LIKE old)", INSERT),
        # Of what its siblings do a new child knows nothing, whether they are old or new.
        (
            "CREATE TABLE t () INHERITS (old); "
            + TRIGGER.format("t")
            + "; CREATE TABLE u () INHERITS (old)",
            "INSERT INTO u VALUES (1)",
        ),
        ("CREATE TABLE u () INHERITS (other)", "INSERT INTO u VALUES (1)"),
        ("CREATE TABLE t (id int REFERENCES old ON DELETE CASCADE)", "DELETE FROM old"),
        (f"{CREATE}; DROP TABLE old", INSERT),
        ("CREATE TYPE e AS ENUM ('a')", "CREATE TABLE t (a e)"),
        ("CREATE TABLE t AS SELECT 1 AS id", INSERT),
        ("CREATE VIEW v AS SELECT lower(id) FROM old", "SELECT * FROM v"),
        ("ALTER TABLE old ADD COLUMN a int DEFAULT 5", "INSERT INTO old VALUES (1)"),
        ("COMMENT ON TABLE old IS 'x'", "INSERT INTO old VALUES (1)"),
    ],
)
def test_what_the_text_tells_to_set_off_nothing_is_not(create: str, use: str) -> None:
    shared = scene()
    a, b = shared.session(), shared.session()
    runs(shared, a, create)
    shared.says(b, f'Query "{use}"')
    shared.connect()
    assert not is_suspect(b)
    shared.done(b.shared)
    shared.world.end()


def test_ddl_is_doubted_as_soon_as_it_is_sent() -> None:
    shared = scene()
    a, b = shared.session(), shared.session()
    runs(shared, a, "BEGIN", "T")
    shared.says(a, f'Query "{TRIGGER.format("old")}"')
    shared.says(b, 'Query "INSERT INTO old VALUES (1)"')
    shared.connect()
    assert is_suspect(b)
    shared.done(a.shared, "CREATE TRIGGER", "T")
    shared.done(b.shared)
    runs(shared, a, "ROLLBACK")
    shared.world.end()


def test_whoever_has_something_under_way_when_ddl_is_sent_is_suspected() -> None:
    shared = scene()
    a, b = shared.session(), shared.session()
    shared.says(b, 'Query "INSERT INTO old VALUES (1)"')
    shared.connect() if b.server is None else None
    assert not is_suspect(b)
    runs(shared, a, "SELECT 1") if a.server is not None else shared.says(a, 'Query "SELECT 1"')
    if a.server is None:
        shared.connect()
        shared.done(a.shared)
    shared.says(a, f'Query "{TRIGGER.format("old")}"')
    assert is_suspect(b)
    shared.done(a.shared, "CREATE TRIGGER")
    shared.done(b.shared)
    shared.world.end()


def test_a_trigger_of_ones_own_transaction_is_suspected() -> None:
    shared = scene()
    a = shared.session()
    runs(shared, a, "BEGIN", "T")
    runs(shared, a, "INSERT INTO old VALUES (1)", "T")
    assert not is_suspect(a)
    runs(shared, a, "ALTER TABLE old ENABLE ALWAYS TRIGGER x", "T")
    a.pins.verified(Reason.FUNCTION)
    runs(shared, a, "INSERT INTO old VALUES (1)", "T")
    assert is_suspect(a)
    runs(shared, a, "COMMIT")
    shared.world.end()


def test_a_server_that_is_lost_within_ddl_leaves_doubt_and_has_the_catalogue_read() -> None:
    shared = scene()
    a = shared.session()
    server = a.shared
    runs(shared, a, "BEGIN", "T")
    runs(shared, a, CREATE, "T")
    shared.world.net.requests.clear()
    shared.says(a, 'Query "COMMIT"')
    shared.world.eof(server)
    shared.world.reset(server)
    news = shared.hub.gate.judge("shop").news
    assert news.quiet_since(news.moment)
    assert not news.born
    assert ("read_catalogue", "shop") in shared.world.net.requests
    shared.world.end()


def test_a_temporary_table_that_may_set_off_anything_is_kept_in_front_of_a_known_one() -> None:
    shared = scene()
    a = shared.session()
    runs(shared, a, "CREATE TEMP TABLE unheard (id int DEFAULT f())")
    assert Reason.OBJECT not in a.pinned
    runs(shared, a, "CREATE TEMP TABLE old (id int DEFAULT f())")
    assert Reason.OBJECT in a.pinned
    shared.world.end()


def test_a_trigger_on_a_temporary_table_keeps_the_server_for_life() -> None:
    shared = scene()
    a = shared.session()
    runs(shared, a, "CREATE TEMP TABLE old (id int)")
    assert Reason.OBJECT not in a.pinned
    runs(shared, a, TRIGGER.format("old"))
    assert Reason.OBJECT in a.pinned
    shared.world.end()


@pytest.mark.parametrize(
    "path",
    [
        "SET search_path = pg_temp",
        "SET SCHEMA 'PG_TEMP_3'",
        "SET LOCAL search_path = nowhere, pg_temp",
        "SELECT set_config('search_path', 'pg_temp', true)",
    ],
)
def test_what_is_created_by_a_path_to_temporary_objects_may_be_one(path: str) -> None:
    shared = scene()
    session = shared.session()
    runs(shared, session, path)
    assert not session.pinned
    runs(shared, session, CREATE)
    assert set(session.pins.reasons) == {Reason.TEMPORARY}
    assert session.unverified
    shared.world.end()


@pytest.mark.parametrize("options", ["-c search_path=pg_temp", ""])
def test_a_login_may_bring_such_a_path(options: str) -> None:
    shared = scene()
    session = shared.session(options=options)
    runs(shared, session, CREATE)
    assert (Reason.TEMPORARY in session.pins.reasons) is bool(options)
    shared.world.end()
