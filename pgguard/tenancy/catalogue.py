"""What the database's own catalogue says of its tables, views and functions, as plain data.

Laws: the queries name every relation and function with its schema, so that no search_path can
redirect them, and run in one read-only transaction over the simple protocol, text rows; nothing
in here decides what belongs to tenants. System schemas are left out: they hold no tenant's rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

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
SELECT c.oid, n.nspname, c.relname, c.relkind, c.relhasrules,
       EXISTS (SELECT FROM pg_catalog.pg_trigger t
               WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgtype & 7 = 7)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND {_OURS}""",
    "columns": f"""
SELECT a.attrelid, a.attname, a.attnum, COALESCE(b.typname, t.typname),
       a.attnotnull, pg_catalog.pg_get_expr(d.adbin, d.adrelid)
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype
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
SELECT f.conrelid, f.conname, f.confrelid,
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
    "view_functions": """
SELECT DISTINCT r.ev_class, n.nspname, p.proname
FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_depend d
  ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
JOIN pg_catalog.pg_proc p
  ON d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = d.refobjid
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname <> 'pg_catalog' AND r.ev_type = '1'""",
    "functions": """
SELECT DISTINCT n.nspname, p.proname, p.provolatile, l.lanname
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')""",
    "builtins": """
SELECT p.provolatile = 'v', pg_catalog.string_agg(DISTINCT p.proname::text, ' ')
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
GROUP BY 1""",
}
"""What `catalogue_from_rows` wants, by name. Valid for Postgres 11 and later."""

_PERMANENT: Final = "NOT IN (SELECT t.oid FROM pg_catalog.pg_class t WHERE t.relpersistence = 't')"
_WATCHED: Final = {
    "pg_attribute": f"x.attrelid >= 16384::oid AND x.attrelid {_PERMANENT}",
    "pg_attrdef": f"x.adrelid {_PERMANENT}",
    "pg_constraint": f"x.conrelid {_PERMANENT}",
    "pg_db_role_setting": "true",
    "pg_index": f"x.indisunique AND x.indrelid >= 16384::oid AND x.indrelid {_PERMANENT}",
    "pg_inherits": f"x.inhrelid {_PERMANENT}",
    "pg_namespace": "NOT pg_catalog.starts_with(x.nspname, 'pg_t')",
    "pg_proc": "x.oid >= 16384::oid",
    "pg_rewrite": f"x.oid >= 16384::oid AND x.ev_class {_PERMANENT}",
    "pg_trigger": f"NOT x.tgisinternal AND x.tgrelid {_PERMANENT}",
    "pg_type": """x.oid >= 16384::oid AND x.typnamespace NOT IN (
      SELECT n.oid FROM pg_catalog.pg_namespace n
      WHERE pg_catalog.starts_with(n.nspname, 'pg_temp_'))""",
}
"""Catalogues whose rows tell of a change, and which rows of them."""

NEWEST_ROW_QUERY: Final = "SELECT pg_catalog.concat_ws(' ',{})".format(
    ",".join(
        f"""
  (SELECT pg_catalog.concat_ws(':', count(*), sum(x.xmin::text::bigint))
   FROM pg_catalog.{name} x WHERE {condition})"""
        for name, condition in _WATCHED.items()
    )
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
    calls: set[TableName] = field(default_factory=set)
    """Views: the functions that they call, but for Postgres's own."""
    rules: bool = False
    """Rewrite rules beside a view's own."""
    fills: bool = False
    """A BEFORE INSERT FOR EACH ROW trigger may fill in columns."""

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


@dataclass(slots=True)
class Catalogue:
    """One database at one moment."""

    database: str = ""
    search_path: tuple[str, ...] = ("public",)
    """Schemas of the default path that exist, pg_catalog left out."""
    tables: dict[TableName, Table] = field(default_factory=dict)
    functions: dict[str, list[Function]] = field(default_factory=dict)
    """By name, Postgres's own left out."""
    builtins: frozenset[str] = frozenset()
    volatile_builtins: frozenset[str] = frozenset()


Rows = dict[str, list[list[str | None]]]


def catalogue_from_rows(rows: Rows) -> Catalogue:
    """Catalogue from the answers to `CATALOGUE_QUERIES`, each a list of rows of text values."""
    catalogue = Catalogue()
    for database, path in _texts(rows, "database"):
        catalogue.database, catalogue.search_path = database, tuple(json.loads(path))
    tables: dict[str, Table] = {}
    for oid, schema, name, kind, rules, fills in _texts(rows, "tables"):
        ruled = rules == "t" and kind not in {"v", "m"}
        table = Table(schema, name, kind, rules=ruled, fills=fills == "t")
        tables[oid] = catalogue.tables[table.key] = table
    _add_columns(rows, tables)
    for oid, function_schema, function in _texts(rows, "view_functions"):
        if oid in tables:
            tables[oid].calls.add((function_schema, function))
    for schema, name, volatility, language in _texts(rows, "functions"):
        catalogue.functions.setdefault(name, []).append(Function(schema, volatility, language))
    for volatile, names in _texts(rows, "builtins"):
        words = frozenset(names.split())
        if volatile == "t":
            catalogue.volatile_builtins = words
        catalogue.builtins |= words
    return catalogue


def _add_columns(rows: Rows, tables: dict[str, Table]) -> None:
    for oid, name, _, type_name, not_null, default in _texts(rows, "columns"):
        if oid in tables:
            tables[oid].columns.append(Column(name, type_name, not_null == "t", default))
    for oid, name, primary, columns in _texts(rows, "keys"):
        if oid in tables:
            tables[oid].keys.append(Key(name, tuple(json.loads(columns)), primary == "t"))
    for oid, name, target, columns, target_columns in _texts(rows, "foreign_keys"):
        if oid in tables and target in tables:
            ours, theirs = tuple(json.loads(columns)), tuple(json.loads(target_columns))
            tables[oid].foreign_keys.append(ForeignKey(name, ours, tables[target].key, theirs))
    for oid, parent in _texts(rows, "parents"):
        if oid in tables and parent in tables:
            tables[oid].parents.append(tables[parent].key)
    for oid, relation in _texts(rows, "views"):
        if oid in tables and relation in tables:
            tables[oid].depends.add(tables[relation].key)


def _texts(rows: Rows, name: str) -> list[list[str]]:
    """Rows of one query with NULL as an empty text."""
    return [[value or "" for value in row] for row in rows.get(name, [])]
