"""What a session may make of itself, each as SQL: how it is made and how it is seen.

`make` is run by the owner, statement by statement; `look` by the owner and by others afterwards.
What a direct connection answers to the same is what each of them must get.
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA = """
CREATE TABLE IF NOT EXISTS items (id serial PRIMARY KEY, body text);
CREATE TABLE IF NOT EXISTS watched (id int);
CREATE OR REPLACE FUNCTION sets_path() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config('lock_timeout', '7s', false); RETURN 1; END $$;
CREATE OR REPLACE FUNCTION locks() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_advisory_lock(77); RETURN 1; END $$;
CREATE OR REPLACE FUNCTION on_watched() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config('lock_timeout', '9s', false); RETURN NEW; END $$;
CREATE OR REPLACE TRIGGER watched BEFORE INSERT ON watched
  FOR EACH ROW EXECUTE FUNCTION on_watched();
"""


@dataclass(frozen=True)
class Feature:
    name: str
    make: tuple[str, ...]
    look: str
    after: tuple[str, ...] = ()
    """What the owner says once all have looked."""


def _feature(name: str, *make: str, look: str, after: tuple[str, ...] = ()) -> Feature:
    return Feature(name, make, look, after)


LOCK_TIMEOUT = "SHOW lock_timeout"
TENANT = "SELECT coalesce(current_setting('app.tenant', true), 'null')"

FEATURES = [
    _feature("SET", "SET lock_timeout = '3s'", look=LOCK_TIMEOUT),
    _feature("SET SESSION", "SET SESSION lock_timeout TO 3000", look=LOCK_TIMEOUT),
    _feature("SET TIME ZONE", "SET TIME ZONE 'Asia/Tokyo'", look="SHOW timezone"),
    _feature("SET NAMES", "SET NAMES 'LATIN1'", look="SHOW client_encoding"),
    _feature("SET search_path", 'SET search_path TO pg_catalog, "$user"', look="SHOW search_path"),
    _feature("set_config", "SELECT set_config('lock_timeout', '4s', false)", look=LOCK_TIMEOUT),
    _feature("RESET", "SET lock_timeout = '3s'", "RESET lock_timeout", look=LOCK_TIMEOUT),
    _feature("RESET ALL", "SET lock_timeout = '3s'", "RESET ALL", look=LOCK_TIMEOUT),
    _feature(
        "SET in a transaction",
        "BEGIN",
        "SET lock_timeout = '5s'",
        "COMMIT",
        look=LOCK_TIMEOUT,
    ),
    _feature(
        "SET undone by ROLLBACK",
        "SET lock_timeout = '3s'",
        "BEGIN",
        "SET lock_timeout = '5s'",
        "ROLLBACK",
        look=LOCK_TIMEOUT,
    ),
    _feature(
        "SET undone by ROLLBACK TO",
        "BEGIN",
        "SET lock_timeout = '3s'",
        "SAVEPOINT a",
        "SET lock_timeout = '5s'",
        "ROLLBACK TO a",
        "COMMIT",
        look=LOCK_TIMEOUT,
    ),
    _feature("SET LOCAL", "BEGIN", "SET LOCAL lock_timeout = '5s'", "COMMIT", look=LOCK_TIMEOUT),
    _feature("SET of several", "SET lock_timeout = '3s'; SELECT 1", look=LOCK_TIMEOUT),
    _feature("SET FROM CURRENT", "SET lock_timeout FROM CURRENT", look=LOCK_TIMEOUT),
    _feature(
        "SESSION CHARACTERISTICS",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        look="SHOW default_transaction_read_only",
    ),
    _feature("dotted SET", "SET app.tenant = 'a'", look=TENANT),
    _feature("dotted SET LOCAL", "BEGIN", "SET LOCAL app.tenant = 'a'", "COMMIT", look=TENANT),
    _feature(
        "dotted set_config that is rolled back",
        "BEGIN",
        "SELECT set_config('app.tenant', 'a', false)",
        "ROLLBACK",
        look=TENANT,
    ),
    _feature("application_name", "SET application_name = 'mine'", look="SHOW application_name"),
    _feature("SET ROLE", "SET ROLE pg_monitor", look="SELECT current_user = session_user"),
    _feature(
        "set_config of the role",
        "SELECT set_config('role', 'pg_monitor', false)",
        look="SELECT current_user = session_user",
    ),
    _feature(
        "temporary table",
        "CREATE TEMP TABLE items (id int, body text)",
        "INSERT INTO items VALUES (1, 'mine')",
        look="SELECT count(*) FROM items WHERE body = 'mine'",
    ),
    _feature(
        "temporary table by SELECT INTO",
        "SELECT 1 AS id, 'mine' AS body INTO TEMP items",
        look="SELECT count(*) FROM items WHERE body = 'mine'",
    ),
    _feature(
        "temporary view",
        "CREATE TEMP VIEW items AS SELECT 1 AS id, 'mine' AS body",
        look="SELECT count(*) FROM items WHERE body = 'mine'",
    ),
    _feature("advisory lock", "SELECT pg_advisory_lock(7)", look="SELECT pg_advisory_unlock(7)"),
    _feature(
        "several advisory locks",
        "SELECT pg_advisory_lock(g) FROM generate_series(1, 5) g",
        "SELECT pg_advisory_unlock(1)",
        look="SELECT pg_advisory_unlock(2)",
    ),
    _feature("advisory lock in a function", "SELECT locks()", look="SELECT pg_advisory_unlock(77)"),
    _feature("setting in a function", "SELECT sets_path()", look=LOCK_TIMEOUT),
    _feature("setting in a trigger", "INSERT INTO watched VALUES (1)", look=LOCK_TIMEOUT),
    _feature(
        "setting in DO",
        "DO $$ BEGIN PERFORM set_config('lock_timeout', '8s', false); END $$",
        look=LOCK_TIMEOUT,
    ),
    _feature("LISTEN", "LISTEN mine", look="SELECT count(*) FROM pg_listening_channels()"),
    _feature("UNLISTEN", "LISTEN mine", "UNLISTEN *", look="SELECT pg_listening_channels()"),
    _feature("PREPARE", "PREPARE mine AS SELECT 42", look="EXECUTE mine"),
    _feature("DEALLOCATE", "PREPARE mine AS SELECT 42", "DEALLOCATE mine", look="EXECUTE mine"),
    _feature(
        "cursor WITH HOLD",
        "BEGIN",
        "DECLARE mine CURSOR WITH HOLD FOR SELECT generate_series(1, 9)",
        "COMMIT",
        "FETCH 3 FROM mine",
        look="FETCH 1 FROM mine",
    ),
    _feature("DISCARD ALL", "SET lock_timeout = '3s'", "DISCARD ALL", look=LOCK_TIMEOUT),
    _feature("setseed", "SELECT setseed(0.5)", look="SELECT current_setting('is_superuser')"),
    _feature("LOAD", "LOAD 'plpgsql'", look="SELECT 1"),
    _feature("lastval", "INSERT INTO items (body) VALUES ('x')", look="SELECT lastval() > 0"),
]
