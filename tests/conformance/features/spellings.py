"""Settings: every spelling that makes one, and what transactions make of them."""

from __future__ import annotations

from tests.conformance.features.model import SET, Bound, Kept, locks, state
from tests.support.features import TENANT

SPELLINGS = [
    locks("set in lower case", "set lock_timeout to 3000"),
    locks("SET in mixed case", "SET Lock_TimeOut TO '3s'"),
    locks("SET of a quoted name", "SET \"lock_timeout\" = '3s'"),
    locks("SET among comments", "/* a */ SET lock_timeout -- b\n = '3s'; -- c"),
    locks("SET TO DEFAULT", SET, "SET lock_timeout TO DEFAULT"),
    locks(
        "set_config with bound values",
        Bound("SELECT set_config($1, $2, false)", ("lock_timeout", "4s")),
    ),
    locks(
        "set_config with a bound value",
        Bound("SELECT set_config('lock_timeout', $1, false)", ("4s",)),
    ),
    locks(
        "set_config of two",
        "SELECT set_config('lock_timeout', '4s', false), set_config('work_mem', '5MB', false)",
    ),
    locks("set_config of an expression", "SELECT set_config('lock_timeout', 2 * 2 || 's', false)"),
    locks(
        "set_config in a subquery",
        "SELECT * FROM (SELECT set_config('lock_timeout', '4s', false)) AS s",
    ),
    locks(
        "set_config in WITH",
        "WITH s AS MATERIALIZED (SELECT set_config('lock_timeout', '4s', false)) SELECT * FROM s",
    ),
    locks("set_config in WHERE", "SELECT 1 WHERE set_config('lock_timeout', '4s', false) <> ''"),
    locks(
        "set_config that no row calls",
        "SELECT set_config('lock_timeout', '4s', false) FROM numbers WHERE n = 17",
    ),
    locks(
        "set_config by name of arguments",
        "SELECT set_config(setting_name => 'lock_timeout', new_value => '4s', is_local => false)",
    ),
    locks(
        "UPDATE pg_settings", "UPDATE pg_settings SET setting = '4000' WHERE name = 'lock_timeout'"
    ),
    locks("SET prepared by the protocol", Kept("SET lock_timeout = '3s'")),
    locks(
        "set_config prepared by the protocol",
        Kept("SELECT set_config('lock_timeout', $1, false)", ("3s",)),
    ),
    locks(
        "set_config prepared by SQL",
        "PREPARE mine AS SELECT set_config('lock_timeout', '4s', false)",
        "EXECUTE mine",
        "DEALLOCATE mine",
    ),
    locks(
        "set_config in a cursor",
        "BEGIN",
        "DECLARE mine CURSOR FOR SELECT set_config('lock_timeout', '4s', false)",
        "FETCH mine",
        "COMMIT",
    ),
    locks(
        "EXPLAIN ANALYZE of set_config",
        "EXPLAIN ANALYZE SELECT set_config('lock_timeout', '4s', false)",
    ),
    state("SET work_mem", "SET work_mem = '5MB'", look="SHOW work_mem"),
    state("SET statement_timeout", "SET statement_timeout = '41s'", look="SHOW statement_timeout"),
    state(
        "SET default_transaction_read_only",
        "SET default_transaction_read_only = on",
        look="CREATE TABLE IF NOT EXISTS numbers (n int)",
    ),
    state(
        "SET default_transaction_isolation",
        "SET default_transaction_isolation = serializable",
        look="SHOW transaction_isolation",
    ),
    state(
        "SET session_replication_role",
        "SET session_replication_role = replica",
        look="SHOW session_replication_role",
    ),
    state("SET of a list", "SET datestyle TO 'SQL', 'DMY'", look="SELECT '1999-02-01'::date::text"),
    state(
        "SET of one half after the other",
        "SET datestyle TO 'SQL'",
        "SET datestyle TO 'DMY'",
        look="SELECT '1999-02-01'::date::text",
    ),
    state(
        "SET extra_float_digits",
        "SET extra_float_digits = 0",
        look="SELECT (0.1::float8 + 0.2::float8)::text",
    ),
    state("SET bytea_output", "SET bytea_output = escape", look="SELECT '\\x61'::bytea::text"),
    state("SET SCHEMA", "SET SCHEMA 'other'", look="SELECT current_schema()::text"),
    state(
        "SET search_path, and what it finds",
        "CREATE TABLE IF NOT EXISTS other.numbers (n int)",
        "SET search_path = other, public",
        look="SELECT count(*) FROM numbers",
    ),
    state(
        "SET TIME ZONE by an interval",
        "SET TIME ZONE INTERVAL '+03:30' HOUR TO MINUTE",
        look="SHOW timezone",
    ),
    state(
        "SET TIME ZONE LOCAL",
        "SET TIME ZONE 'Asia/Tokyo'",
        "SET TIME ZONE LOCAL",
        look="SHOW timezone",
    ),
    state("SET XML OPTION", "SET XML OPTION DOCUMENT", look="SHOW xmloption"),
    state(
        "standard_conforming_strings",
        "SET standard_conforming_strings = off",
        "SET escape_string_warning = off",
        look="SELECT length('a\\\\b')",
    ),
    state(
        "SET application_name, and RESET",
        "SET application_name = 'mine'",
        "RESET application_name",
        look="SELECT current_setting('application_name') = 'mine'",
    ),
]

TRANSACTIONS = [
    locks("SET in a block of one Query", f"BEGIN; {SET}; COMMIT"),
    locks("SET undone within one Query", f"BEGIN; {SET}; ROLLBACK"),
    locks("SET undone by an error in its Query", f"{SET}; SELECT 1/0"),
    locks("SET undone by an error", "BEGIN", SET, "SELECT 1/0", "ROLLBACK"),
    locks("SET undone by COMMIT after an error", "BEGIN", SET, "SELECT 1/0", "COMMIT"),
    locks("RESET undone by ROLLBACK", SET, "BEGIN", "RESET lock_timeout", "ROLLBACK"),
    locks("RESET ALL undone by ROLLBACK", SET, "BEGIN", "RESET ALL", "ROLLBACK"),
    locks(
        "SET in a savepoint that is released", "BEGIN", "SAVEPOINT a", SET, "RELEASE a", "COMMIT"
    ),
    locks(
        "SET released and then undone",
        "BEGIN",
        "SAVEPOINT a",
        "SAVEPOINT b",
        SET,
        "RELEASE b",
        "ROLLBACK TO a",
        "COMMIT",
    ),
    locks(
        "savepoints of one name",
        "BEGIN",
        "SAVEPOINT a",
        SET,
        "SAVEPOINT a",
        "SET lock_timeout = '6s'",
        "ROLLBACK TO a",
        "RELEASE a",
        "ROLLBACK TO a",
        "COMMIT",
    ),
    locks(
        "ROLLBACK TO after an error",
        "BEGIN",
        SET,
        "SAVEPOINT a",
        "SET lock_timeout = '6s'",
        "SELECT 1/0",
        "ROLLBACK TO a",
        "COMMIT",
    ),
    locks(
        "ROLLBACK AND CHAIN",
        "BEGIN",
        SET,
        "ROLLBACK AND CHAIN",
        "SET lock_timeout = '6s'",
        "COMMIT",
    ),
    locks(
        "COMMIT AND CHAIN", "BEGIN", SET, "COMMIT AND CHAIN", "SET lock_timeout = '6s'", "ROLLBACK"
    ),
    locks("SET LOCAL over SET", "BEGIN", SET, "SET LOCAL lock_timeout = '6s'", "COMMIT"),
    locks("set_config for the transaction", "SELECT set_config('lock_timeout', '6s', true)"),
    locks(
        "set_config undone by ROLLBACK",
        "BEGIN",
        "SELECT set_config('lock_timeout', '6s', false)",
        "ROLLBACK",
    ),
    locks(
        "set_config undone by ROLLBACK TO",
        "BEGIN",
        "SAVEPOINT a",
        Bound("SELECT set_config('lock_timeout', $1, false)", ("6s",)),
        "ROLLBACK TO a",
        "COMMIT",
    ),
    locks("COMMIT and BEGIN in one Query", "BEGIN", SET, "COMMIT; BEGIN", "ROLLBACK"),
    locks("ROLLBACK and BEGIN in one Query", "BEGIN", SET, "ROLLBACK; BEGIN", "COMMIT"),
    locks("BEGIN within a transaction", "BEGIN", SET, "BEGIN", "COMMIT"),
    state(
        "dotted, undone by ROLLBACK TO",
        "BEGIN",
        "SAVEPOINT a",
        "SET app.tenant = 'a'",
        "ROLLBACK TO a",
        "COMMIT",
        look=TENANT,
    ),
    state("dotted, for the transaction", "SELECT set_config('app.tenant', 'a', true)", look=TENANT),
    state("dotted, and RESET", "SET app.tenant = 'a'", "RESET app.tenant", look=TENANT),
    state("dotted, and RESET ALL", "SET app.tenant = 'a'", "RESET ALL", look=TENANT),
    state("dotted, and DISCARD ALL", "SET app.tenant = 'a'", "DISCARD ALL", look=TENANT),
    state("dotted and quoted", 'SET "App"."Tenant" = \'a\'', look=TENANT),
    state(
        "dotted by a bound value",
        Bound("SELECT set_config('app.tenant', $1, false)", ("a b",)),
        look=TENANT,
    ),
    state(
        "dotted, of a bound name",
        Bound("SELECT set_config($1, $2, false)", ("app.tenant", "a b")),
        look=TENANT,
    ),
    state(
        "dotted, of a bound name, for the transaction",
        Bound("SELECT set_config($1, $2, true)", ("app.tenant", "a b")),
        look=TENANT,
    ),
]
