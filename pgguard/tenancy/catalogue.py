"""What the database's own catalogue says of its tables, views and functions, as plain data.

Laws: the queries name every relation and function with its schema, so that no search_path can
redirect them, and run in one read-only transaction over the simple protocol, text rows; nothing
in here decides what belongs to tenants. System schemas are left out: they hold no tenant's rows.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final

from pgguard.sql import sources
from pgguard.tenancy.calls import CALL_QUERIES, RUNS_TEXT
from pgguard.tenancy.rowpolicies import (
    CHANGES,
    LOCKED,
    SECURITY_QUERIES,
    Roles,
    RowPolicy,
    add_security,
    read_roles,
)

TableName = tuple[str, str]
"""Schema and name."""

_SYSTEM: Final = "('pg_catalog', 'information_schema', 'pg_toast')"
_OURS: Final = f"n.nspname NOT IN {_SYSTEM} AND NOT pg_catalog.starts_with(n.nspname, 'pg_temp_')"

# Only names of ours are put into these texts.
# ruff: noqa: S608
CATALOGUE_QUERIES: Final[dict[str, str]] = {
    "database": """
SELECT pg_catalog.current_database(),
       pg_catalog.array_to_json(pg_catalog.current_schemas(false))""",
    "tables": f"""
SELECT c.oid, n.nspname, c.relname, c.relkind,
       EXISTS (SELECT FROM pg_catalog.pg_rewrite r
               WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN'),
       EXISTS (SELECT FROM pg_catalog.pg_trigger t
               WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgtype & 7 = 7)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND {_OURS}""",
    "columns": f"""
SELECT a.attrelid, a.attname, COALESCE(bb.typname, b.typname, t.typname),
       a.attnotnull,
       CASE WHEN NOT a.atthasdef THEN NULL
            WHEN g.generated OPERATOR(pg_catalog.=) '' THEN pg_catalog.pg_get_expr(d.adbin, 0)
            WHEN a.attrelid OPERATOR(pg_catalog.=) ANY ({LOCKED}) THEN NULL
            ELSE pg_catalog.pg_get_expr(d.adbin, d.adrelid) END,
       CASE WHEN a.atthasdef THEN g.generated OPERATOR(pg_catalog.<>) '' END, a.attnum
FROM pg_catalog.pg_attribute a
CROSS JOIN LATERAL (
  SELECT COALESCE(pg_catalog.to_jsonb(a) OPERATOR(pg_catalog.->>) 'attgenerated', '')
) AS g(generated)
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype
LEFT JOIN pg_catalog.pg_type bb ON bb.oid = b.typbasetype
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped
  AND c.relkind IN ('r', 'p', 'f', 'v', 'm') AND {_OURS}
ORDER BY a.attrelid, a.attnum""",
    "keys": f"""
SELECT i.indrelid, k.relname, i.indisprimary,
       (SELECT pg_catalog.json_agg(a.attname ORDER BY p.n)
        FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS p(n)
        JOIN pg_catalog.pg_attribute a
          ON a.attrelid = i.indrelid AND a.attnum = i.indkey[p.n])
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class k ON k.oid = i.indexrelid
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND {_OURS}""",
    "foreign_keys": f"""
SELECT f.conrelid, f.conname, f.confrelid, f.confdeltype, f.confupdtype,
       (SELECT pg_catalog.json_agg(a.attname ORDER BY p.n)
        FROM pg_catalog.unnest(f.conkey) WITH ORDINALITY AS p(attnum, n)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = p.attnum),
       (SELECT pg_catalog.json_agg(a.attname ORDER BY p.n)
        FROM pg_catalog.unnest(f.confkey) WITH ORDINALITY AS p(attnum, n)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = p.attnum)
FROM pg_catalog.pg_constraint f
JOIN pg_catalog.pg_class c ON c.oid = f.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE f.contype = 'f' AND {_OURS}""",
    "parents": "SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits ORDER BY 1, inhseqno",
    "views": """
SELECT DISTINCT r.ev_class, d.refobjid
FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_depend d
  ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND d.refobjid <> r.ev_class AND r.ev_type = '1'""",
    "definitions": f"""
SELECT c.oid,
       CASE WHEN NOT EXISTS (
         SELECT FROM pg_catalog.pg_rewrite r
         JOIN pg_catalog.pg_depend d
           ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
             AND d.objid = r.oid
         WHERE r.ev_class = c.oid
           AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
           AND d.refobjid OPERATOR(pg_catalog.=) ANY ({LOCKED})
       ) THEN pg_catalog.pg_get_viewdef(c.oid) END
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm') AND {_OURS}""",
    "policies": """
SELECT DISTINCT y.polrelid, d.refobjid
FROM pg_catalog.pg_policy y
JOIN pg_catalog.pg_depend d
  ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.objid = y.oid
WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> y.polrelid""",
    "functions": rf"""
SELECT DISTINCT n.nspname, p.proname,
       (SELECT max(q.provolatile::text) FROM pg_catalog.pg_proc q
        WHERE q.oid IN (p.oid, g.aggtransfn, g.aggfinalfn, g.aggmtransfn, g.aggmfinalfn)),
       l.lanname,
       l.lanname IN ('plpgsql', 'sql') AND s.text ~ '{sources.CHANGING}',
       CASE WHEN l.lanname NOT IN ('c', 'internal') AND s.text ~ '{sources.TELLING}'
            THEN p.prosrc END,
       CASE WHEN p.prosrc <> '' AND l.lanname IN ('plpgsql', 'sql') THEN (
         SELECT pg_catalog.string_agg(DISTINCT w[1], ' ')
         FROM pg_catalog.regexp_matches(s.text, '[a-z_][a-z0-9_]*|[^a-z0-9_\s]+', 'g') AS m(w)
         WHERE s.text !~ '\m(from|table|update|insert|delete|merge|copy|truncate|execute|call)\M'
       ) END
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
LEFT JOIN pg_catalog.pg_aggregate g ON g.aggfnoid = p.oid
CROSS JOIN LATERAL (
  SELECT pg_catalog.regexp_replace(pg_catalog.lower(p.prosrc), '\mdistinct\s+from\M', '', 'g')
) AS s(text)
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')""",
    "builtins": """
SELECT p.provolatile = 'v', pg_catalog.string_agg(DISTINCT p.proname::text, ' ')
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
GROUP BY 1""",
    **CALL_QUERIES,
    **SECURITY_QUERIES,
}
"""What `catalogue_from_rows` wants, by name. Valid for Postgres 11 and later."""

_AHEAD: Final = (
    "SET LOCAL transaction_isolation = 'read committed'; SET LOCAL lock_timeout = 50; "
    "SET LOCAL statement_timeout = 10000; "
)
_BY_PATH: Final = frozenset({"database", "columns", "definitions", "row_policies"})
"""Queries in whose answers names are written as the role's own search_path has it."""


def undisturbed(query: str, name: str = "") -> str:
    """A query as the service connection sends it, whatever the role or the database have set.

    It waits for no lock while it keeps others: whoever has that one may be about to want ours, and
    Postgres would end either in a deadlock. No operator or type of the user's is taken for one of
    Postgres's, but in the few queries by path, where those that could be are written out."""
    return _AHEAD + ("" if name in _BY_PATH else "SET LOCAL search_path = pg_catalog; ") + query


_PERMANENT: Final = "NOT IN (SELECT t.oid FROM pg_catalog.pg_class t WHERE t.relpersistence = 't')"
_WATCHED: Final = {
    "pg_attribute": f"x.attrelid >= 16384::oid AND x.attrelid {_PERMANENT}",
    "pg_attrdef": f"x.adrelid {_PERMANENT}",
    "pg_constraint": f"x.conrelid {_PERMANENT}",
    "pg_db_role_setting": "true",
    "pg_event_trigger": "true",
    "pg_index": f"""(x.indisunique OR x.indexprs IS NOT NULL OR x.indpred IS NOT NULL)
      AND x.indrelid >= 16384::oid AND x.indrelid {_PERMANENT}""",
    "pg_inherits": f"x.inhrelid {_PERMANENT}",
    "pg_cast": "x.oid >= 16384::oid",
    "pg_namespace": "NOT pg_catalog.starts_with(x.nspname, 'pg_t')",
    "pg_operator": "x.oid >= 16384::oid",
    "pg_policy": "true",
    "pg_proc": "x.oid >= 16384::oid",
    "pg_rewrite": f"x.oid >= 16384::oid AND x.ev_class {_PERMANENT}",
    "pg_trigger": f"NOT x.tgisinternal AND x.tgrelid {_PERMANENT}",
    "pg_type": """x.oid >= 16384::oid AND x.typnamespace NOT IN (
      SELECT n.oid FROM pg_catalog.pg_namespace n
      WHERE pg_catalog.starts_with(n.nspname, 'pg_temp_'))""",
}
"""Catalogues whose rows tell of a change, and which rows of them."""

NEWEST_ROW_QUERY: Final = "SELECT pg_catalog.concat_ws(' ',{},{})".format(
    CHANGES,
    ",".join(
        f"""
  (SELECT pg_catalog.concat_ws(':', count(*), sum(x.xmin::text::bigint))
   FROM pg_catalog.{name} x WHERE {condition})"""
        for name, condition in _WATCHED.items()
    ),
)
"""One text that differs when the catalogue does: counts and sums of the rows' creators.

A sum, not the newest: a transaction that began early may commit late. pg_class is left out, for
TRUNCATE rewrites its rows; a renamed table shows in pg_type. What is not seen: transactions still
open, and temporary tables. A few milliseconds for some hundred tables.
"""


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str
    """The type's name in pg_type, a domain's base type."""
    not_null: bool = False
    default: str = ""
    """The default's expression as the server prints it; also of a generated column."""
    generated: bool = False
    number: int = field(default=0, compare=False)
    """pg_attribute.attnum."""


@dataclass(frozen=True, slots=True)
class Key:
    """A unique index without predicate or expression."""

    name: str
    columns: tuple[str, ...]
    primary: bool = False


@dataclass(frozen=True, slots=True)
class ForeignKey:
    name: str
    columns: tuple[str, ...]
    target: TableName
    target_columns: tuple[str, ...]
    on_delete: bool = False
    """Deleting what is referenced changes the rows that reference it."""
    on_update: bool = False
    """Setting the columns that are referenced does."""


@dataclass(slots=True)
class Table:
    """A relation: `kind` is pg_class.relkind."""

    schema: str
    name: str
    kind: str = "r"
    columns: list[Column] = field(default_factory=list)
    """In the order of the catalogue, dropped ones left out."""
    keys: list[Key] = field(default_factory=list)
    foreign_keys: list[ForeignKey] = field(default_factory=list)
    parents: list[TableName] = field(default_factory=list)
    depends: set[TableName] = field(default_factory=set)
    """Views: the relations that they read directly."""
    definition: str = ""
    """Views: their query; names without a schema are found by the catalogue's search_path."""
    policies: set[TableName] = field(default_factory=set)
    """The relations that row security policies read."""
    calls: set[TableName] = field(default_factory=set)
    """Functions that reading calls in views and policies, but for Postgres's own."""
    write_calls: dict[str, set[TableName]] = field(default_factory=dict)
    """Functions that triggers, defaults and checks call, by the action (see `Write`)."""
    rules: bool = False
    """Rewrite rules beside a view's own."""
    fills: bool = False
    """A BEFORE INSERT FOR EACH ROW trigger may fill in columns."""
    owner: str = ""
    secured: bool = False
    """ENABLE ROW LEVEL SECURITY."""
    forced: bool = False
    """FORCE ROW LEVEL SECURITY."""
    invoker: bool = False
    """A view with security_invoker."""
    row_policies: list[RowPolicy] = field(default_factory=list)
    oid: int = field(default=0, compare=False)

    @property
    def key(self) -> TableName:
        return self.schema, self.name

    @property
    def shown(self) -> str:
        """The name for people: with the schema only if it is not `public`."""
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"

    def column(self, name: str) -> Column | None:
        for column in self.columns:
            if column.name == name:
                return column
        return None


@dataclass(frozen=True, slots=True)
class Function:
    schema: str
    volatility: str
    """pg_proc.provolatile: `i`, `s` or `v`."""
    language: str
    quiet: bool = False
    """Its source shows that it reads no table."""
    changes: bool = False
    """Whatever its volatility says: its source has words that may change the session."""
    source: sources.Source = sources.NOTHING


@dataclass(slots=True)
class Catalogue:
    """One database at one moment."""

    database: str = ""
    search_path: tuple[str, ...] = ("public",)
    """Schemas of the default path that exist, pg_catalog left out."""
    tables: dict[TableName, Table] = field(default_factory=dict)
    functions: dict[str, list[Function]] = field(default_factory=dict)
    """By name, Postgres's own left out."""
    operators: dict[str, list[Function]] = field(default_factory=dict)
    """By name, Postgres's own left out."""
    operator_calls: dict[str, set[str]] = field(default_factory=dict)
    """The functions of those operators."""
    type_calls: dict[str, set[TableName]] = field(default_factory=dict)
    """Functions that casts to a type, and its checks, call; by the type's name."""
    event_calls: set[TableName] = field(default_factory=set)
    """Functions that event triggers call, but for those at login."""
    login_events: bool = False
    """Logins set off event triggers."""
    types: frozenset[str] = frozenset()
    """The names of all types but those of rows and of arrays."""
    checks: set[TableName] = field(default_factory=set)
    """Functions that domains call for their values."""
    odd_equality: frozenset[str] = frozenset()
    """Postgres's own types that have an equality which is not Postgres's own."""
    dotted: frozenset[str] = frozenset()
    """Settings with a dot that functions of the user may make."""
    builtins: frozenset[str] = frozenset()
    volatile_builtins: frozenset[str] = frozenset()
    roles: Roles = field(default_factory=Roles)


_WORD: Final = re.compile("[a-z_][a-z0-9_]*")
_CHANGES: Final = frozenset({"c", "n", "d"})
"""CASCADE, SET NULL, SET DEFAULT."""

Rows = dict[str, list[list[str | None]]]


def catalogue_from_rows(rows: Rows) -> Catalogue:
    """Catalogue from the answers to `CATALOGUE_QUERIES`, each a list of rows of text values."""
    catalogue = Catalogue()
    for database, path in _texts(rows, "database"):
        catalogue.database, catalogue.search_path = database, tuple(json.loads(path))
    tables: dict[str, Table] = {}
    for oid, schema, name, kind, rules, fills in _texts(rows, "tables"):
        table = Table(schema, name, kind, rules=rules == "t", fills=fills == "t", oid=int(oid))
        tables[oid] = catalogue.tables[table.key] = table
    _add_columns(rows, tables)
    add_security(tables, _texts(rows, "security"), _texts(rows, "row_policies"))
    catalogue.roles = read_roles(*(_texts(rows, name) for name in ("user", "roles", "members")))
    for oid, action, function_schema, function in _texts(rows, "calls"):
        if oid in tables:
            called = (function_schema, function)
            if action == "read":
                tables[oid].calls.add(called)
            for letter in "iu" if action == "write" else action if action != "read" else "":
                tables[oid].write_calls.setdefault(letter, set()).add(called)
    for volatile, names in _texts(rows, "builtins"):
        words = frozenset(names.split())
        if volatile == "t":
            catalogue.volatile_builtins = words
        catalogue.builtins |= words
    for name, schema, function, checks in _texts(rows, "types"):
        catalogue.type_calls.setdefault(name, set()).add((schema, function))
        if checks == "t":
            catalogue.checks.add((schema, function))
    for (names,) in _texts(rows, "known_types"):
        catalogue.types = frozenset(names.split())
    for schema, name, login in _texts(rows, "event_triggers"):
        if login == "t":
            catalogue.login_events = True
        else:
            catalogue.event_calls.add((schema, name))
    _add_functions(rows, catalogue)
    return catalogue


def _add_functions(rows: Rows, catalogue: Catalogue) -> None:
    odd = set()
    for name, schema, volatility, language, calls, left, right in _texts(rows, "operators"):
        catalogue.operators.setdefault(name, []).append(Function(schema, volatility, language))
        catalogue.operator_calls.setdefault(name, set()).add(calls)
        if name in {"=", "<>"}:
            odd |= {left, right} - {""}
    catalogue.odd_equality = frozenset(odd)
    functions = _texts(rows, "functions")
    telling, signs = RUNS_TEXT | {"set_config"}, []
    for name in [
        *(name for _, name, volatility, *_ in functions if volatility != "i"),
        *(name for name, of in catalogue.operators.items() if any(f.volatility != "i" for f in of)),
        *catalogue.type_calls,
    ]:
        # Of a name that needs quotes every word tells.
        words = _WORD.findall(name.lower())
        telling |= set(words)
        signs += [] if words else [name.lower()]
    for schema, name, volatility, language, changes, text, listed in functions:
        words = listed.split()
        quiet = bool(words) and not any(
            word in telling or "\\" in word or any(sign in word for sign in signs) for word in words
        )
        source = sources.read(text)
        catalogue.dotted |= source.dotted
        function = Function(schema, volatility, language, quiet, changes == "t", source)
        catalogue.functions.setdefault(name, []).append(function)


def _add_columns(rows: Rows, tables: dict[str, Table]) -> None:
    for oid, name, kind, not_null, default, generated, number in _texts(rows, "columns"):
        if oid in tables:
            own = generated == "t", int(number)
            tables[oid].columns.append(Column(name, kind, not_null == "t", default, *own))
    for oid, name, primary, columns in _texts(rows, "keys"):
        if oid in tables:
            tables[oid].keys.append(Key(name, tuple(json.loads(columns)), primary == "t"))
    for oid, name, target, deleted, updated, columns, theirs in _texts(rows, "foreign_keys"):
        if oid in tables and target in tables:
            foreign = ForeignKey(
                name,
                tuple(json.loads(columns)),
                tables[target].key,
                tuple(json.loads(theirs)),
                deleted in _CHANGES,
                updated in _CHANGES,
            )
            tables[oid].foreign_keys.append(foreign)
    for oid, parent in _texts(rows, "parents"):
        if oid in tables and parent in tables:
            tables[oid].parents.append(tables[parent].key)
    for oid, relation in _texts(rows, "views"):
        if oid in tables and relation in tables:
            tables[oid].depends.add(tables[relation].key)
    for oid, definition in _texts(rows, "definitions"):
        if oid in tables:
            tables[oid].definition = definition
    for oid, relation in _texts(rows, "policies"):
        if oid in tables and relation in tables:
            tables[oid].policies.add(tables[relation].key)


def _texts(rows: Rows, name: str) -> list[list[str]]:
    """Rows of one query with NULL as an empty text."""
    return [[value or "" for value in row] for row in rows.get(name, [])]
