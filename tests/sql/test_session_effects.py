"""What texts leave behind in their session."""

from __future__ import annotations

import pytest

from pgguard.sql.facts.reading import read
from pgguard.sql.session_effects import UNREAD, Effect, Kind


def effects(text: str) -> list[tuple[str, str]]:
    return [(effect.kind.value, effect.name) for effect in read(text.encode()).session]


SETTINGS = {
    "SET work_mem = '4MB'": [("set", "work_mem")],
    "SET SESSION Work_Mem TO DEFAULT": [("reset", "work_mem")],
    "RESET work_mem": [("reset", "work_mem")],
    "SET LOCAL app.tenant_id = 'a'": [("set local", "app.tenant_id")],
    "SET TIME ZONE 'UTC'": [("set", "timezone")],
    "SET TIME ZONE LOCAL": [("reset", "timezone")],
    "SET NAMES 'latin1'": [("set", "client_encoding")],
    "SET SCHEMA 'a'": [("set", "search_path")],
    "SET search_path TO a, b": [("set", "search_path")],
    "SET work_mem FROM CURRENT": [("set unknown", "work_mem")],
    "RESET ALL": [("reset all", "")],
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE": [
        ("set", "default_transaction_read_only"),
        ("set", "default_transaction_isolation"),
    ],
    "SET TRANSACTION READ ONLY": [],
    "SET transaction_isolation = 'serializable'": [],
    "SET SEED TO 0.5": [("seed", "")],
    "SET ROLE a": [("role", "role")],
    "SET ROLE NONE": [("reset role", "role")],
    "RESET ROLE": [("reset role", "role")],
    "SET LOCAL ROLE a": [],
    "SET SESSION AUTHORIZATION a": [("role", "session_authorization")],
    "SET SESSION AUTHORIZATION DEFAULT": [("reset role", "session_authorization")],
    "SELECT set_config('a.b', 'c', false)": [("set", "a.b")],
    "SELECT pg_catalog.set_config('A.b', 'c', true)": [("set local", "a.b")],
    "SELECT set_config('a.b', $1, 'off')": [("set", "a.b")],
    "SELECT set_config('a.b', $1::text, false)": [("set", "a.b")],
    "SELECT set_config('a.b', NULL, false)": [("reset", "a.b")],
    "SELECT set_config('a.b', NULL::text, false)": [("reset", "a.b")],
    "SELECT set_config('a.b', NULL, true)": [("set local", "a.b")],
    "SELECT set_config('a.b', NULL, false), f()": [("call", "f"), ("set unknown", "a.b")],
    "SELECT set_config($1, 'c', false)": [("set unknown", "")],
    "SELECT current_setting('a') AS cur, set_config('a', 'b', false) AS new": [
        ("call", "current_setting"),
        ("set", "a"),
    ],
    "SELECT my.current_setting('a'), set_config('a', 'b', false)": [
        ("call", "my.current_setting"),
        ("set unknown", "a"),
    ],
    "SELECT set_config('a.b', 'c', $1)": [("set unknown", "")],
    "SELECT set_config('a.b', x, false) FROM t": [("set unknown", "a.b")],
    "SELECT set_config('a.b', 'c', false) WHERE random() < 0.5": [
        ("call", "random"),
        ("set unknown", "a.b"),
    ],
    "SELECT set_config('a.b', 'c', false), nextval('s')": [
        ("call", "nextval"),
        ("set unknown", "a.b"),
    ],
    "SET a = 'b'; RESET c": [("set unknown", "a"), ("reset", "c")],
    "INSERT INTO t VALUES (1); SET a = 'b'": [("set unknown", "a")],
    "SET a = 'b';": [("set", "a")],
    "SELECT set_config('role', 'a', false)": [("role", "role")],
    "WITH x AS (SELECT set_config('a.b', 'c', false)) SELECT 1": [("set unknown", "a.b")],
}

REST = {
    "BEGIN": [("begin", "")],
    "START TRANSACTION READ ONLY": [("begin", "")],
    "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()": [("signal", "")],
    "SELECT 1 FROM pg_stat_activity a WHERE a.pid != pg_catalog.pg_backend_pid() AND true": [
        ("signal", "")
    ],
    "SELECT pid FROM pg_locks": [("signal", "")],
    "SELECT pg_backend_pid() FROM a WHERE pid <> pg_backend_pid()": [("pid", "")],
    "SELECT pid FROM pg_stat_activity WHERE pid = pg_backend_pid()": [("pid", ""), ("signal", "")],
    "COMMIT AND CHAIN": [("commit and chain", "")],
    "END": [("commit", "")],
    "ABORT": [("rollback", "")],
    "SAVEPOINT a": [("savepoint", "a")],
    "RELEASE a": [("release", "a")],
    "ROLLBACK TO a": [("rollback to", "a")],
    "PREPARE TRANSACTION 'x'": [("commit", "")],
    "COMMIT PREPARED 'x'": [],
    "LISTEN a": [("listen", "a")],
    "REVOKE CONNECT ON DATABASE a FROM PUBLIC": [("roles", "")],
    "GRANT SELECT ON a TO b": [],
    "UNLISTEN a": [("unlisten", "a")],
    "UNLISTEN *": [("unlisten all", "")],
    "NOTIFY a": [("notify", "a")],
    "CREATE TABLE a (b int DEFAULT currval('c'))": [("sequence read", "")],
    "CREATE TABLE a (b int DEFAULT nextval('c'))": [],
    "SELECT pg_notify('a', 'b')": [("notify", "")],
    "PREPARE a AS SELECT 1": [("prepare", "a")],
    "EXECUTE a(1)": [("execute", "a")],
    "EXPLAIN ANALYZE EXECUTE a": [("execute", "a")],
    "CREATE TABLE b AS EXECUTE a": [("execute", "a")],
    "EXPLAIN ANALYZE CREATE TEMP TABLE b AS EXECUTE a": [("execute", "a"), ("temporary", "b")],
    "EXPLAIN SELECT 1": [],
    "DEALLOCATE a": [("deallocate", "a")],
    "DEALLOCATE ALL": [("deallocate all", "")],
    "SELECT * FROM pg_prepared_statements": [("names prepared", "")],
    "DECLARE a CURSOR FOR SELECT 1": [("declare", "a")],
    "DECLARE a CURSOR WITH HOLD FOR SELECT 1": [("declare", "a"), ("hold", "a")],
    "FETCH 5 FROM a": [("fetch", "a")],
    "CLOSE a": [("close", "a")],
    "CLOSE ALL": [("close all", "")],
    "DISCARD ALL": [("discard all", "")],
    "DISCARD TEMP": [("discard temporary", "")],
    "DISCARD PLANS": [],
    "CREATE TEMP TABLE a (b int)": [("temporary", "a")],
    "CREATE TABLE pg_temp.a (b int)": [("temporary", "a")],
    "CREATE TABLE pg_temp_3.a (b int)": [("temporary", "a")],
    "CREATE TYPE pg_temp.a AS ENUM ('b')": [("temporary", "")],
    "CREATE TYPE a AS ENUM ('pg_temp')": [],
    "CREATE TEMP TABLE a AS SELECT 1": [("temporary", "a")],
    "SELECT 1 INTO TEMP a": [("temporary", "a")],
    "EXPLAIN ANALYZE CREATE TEMP TABLE a AS SELECT 1": [("temporary", "a")],
    "CREATE TEMP VIEW a AS SELECT 1": [("temporary", "a")],
    "CREATE TEMP SEQUENCE a": [("temporary", "a")],
    "CREATE TABLE a (b int)": [],
    "SELECT pg_advisory_lock(1)": [("lock", "")],
    "SELECT pg_advisory_xact_lock(1)": [("call", "pg_advisory_xact_lock")],
    "SELECT pg_try_advisory_lock_shared(1, 2)": [("lock", "")],
    "SELECT pg_advisory_unlock(1)": [("unlock", "")],
    "SELECT pg_advisory_unlock_all()": [("unlock all", "")],
    "SELECT currval('a')": [("sequence read", "")],
    "SELECT pg_backend_pid()": [("pid", "")],
    "SELECT lo_open(1, 2)": [("large object", "")],
    "SELECT pg_backup_start('a')": [("snapshot", "")],
    "SELECT pg_copy_physical_replication_slot('a', 'b', true)": [("snapshot", "")],
    "SELECT pg_log_backend_memory_contexts(4194310)": [("signal", "")],
    "SELECT ssl FROM pg_stat_ssl WHERE pid = 4194310": [("signal", "")],
    "LOAD 'auto_explain'": [("load", "")],
    "DO $$ BEGIN END $$": [("code", "")],
    "CALL a()": [("code", "")],
    "SELECT app.f(now())": [("call", "app.f"), ("call", "now")],
    "ALTER ROLE a SET work_mem = '1MB'": [("roles", "")],
    "ALTER DATABASE a SET work_mem = '1MB'": [("roles", "")],
    "CREATE ROLE a": [("roles", "")],
    "DROP ROLE a": [("roles", "")],
    "GRANT a TO b": [("roles", "")],
    "CREATE INDEX ON a (f(b))": [("code", "")],
    "TRUNCATE a": [],
    "CREATE INDEX ON a (b)": [],
    "CREATE MATERIALIZED VIEW a AS SELECT 1": [("code", "")],
    "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES c": [],
    "ALTER TABLE a ADD COLUMN b int": [("code", "")],
    "": [],
}


@pytest.mark.parametrize(("text", "expected"), (SETTINGS | REST).items())
def test_what_a_text_says_is_what_it_leaves(text: str, expected: list[tuple[str, str]]) -> None:
    assert sorted(effects(text)) == sorted(expected)


def test_effects_stand_in_the_order_of_the_statements() -> None:
    text = "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL"
    assert [kind for kind, _ in effects(text)] == [
        "unlock all",
        "close all",
        "unlisten all",
        "reset all",
    ]


@pytest.mark.parametrize("text", ["SELEC 1", "SELECT 'a\0'", "SELECT 1; " * 1001])
def test_what_cannot_be_read_may_leave_anything(text: str) -> None:
    assert read(text.encode()).session == UNREAD


@pytest.mark.parametrize("text", ["SET a.b = 'c'", "SELECT set_config('a.b', 'c', true)"])
def test_texts_with_settings_share_nothing_with_others_of_their_shape(text: str) -> None:
    assert read(text.encode()).by_value


def test_an_effect_is_a_kind_and_a_name() -> None:
    assert read(b"LISTEN a").session == (Effect(Kind.LISTEN, "a"),)
