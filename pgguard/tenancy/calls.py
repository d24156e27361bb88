"""What the catalogue says of the functions that are called without being named: by views, policies,
defaults, checks, indexes, triggers, operators, casts and domains.

Laws: plain queries, of which `catalogue` makes data; Postgres's own functions are left out; what a
domain calls is called by every type that holds one.
"""

from __future__ import annotations

from typing import Final

RUNS_TEXT: Final = frozenset(
    {
        "cursor_to_xml",
        "cursor_to_xmlschema",
        "database_to_xml",
        "database_to_xml_and_xmlschema",
        "pg_logical_slot_get_binary_changes",
        "pg_logical_slot_get_changes",
        "pg_logical_slot_peek_binary_changes",
        "pg_logical_slot_peek_changes",
        "pg_read_binary_file",
        "pg_read_file",
        "query_to_xml",
        "query_to_xml_and_xmlschema",
        "query_to_xmlschema",
        "schema_to_xml",
        "schema_to_xml_and_xmlschema",
        "table_to_xml",
        "table_to_xml_and_xmlschema",
        "ts_rewrite",
        "ts_stat",
    }
)
"""Postgres's own functions that read tables named by a text."""


_CALLED: Final = """
LEFT JOIN pg_catalog.pg_operator x
  ON d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND x.oid = d.refobjid
JOIN pg_catalog.pg_proc p ON p.oid =
  CASE d.refclassid WHEN 'pg_catalog.pg_proc'::pg_catalog.regclass THEN d.refobjid
                    ELSE x.oprcode::oid END
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace AND n.nspname <> 'pg_catalog'"""
"""From a dependency `d` to the function `p` in `n` that is called, by an operator too."""

_GUARDED: Final = """
WITH RECURSIVE guarded(type, classid, objid) AS (
  SELECT f.contypid, 'pg_catalog.pg_constraint'::pg_catalog.regclass::oid, f.oid
  FROM pg_catalog.pg_constraint f WHERE f.contypid <> 0::oid AND f.oid >= 16384::oid
  UNION
  SELECT w.whole, g.classid, g.objid FROM guarded g JOIN (
    SELECT t.oid, t.typbasetype FROM pg_catalog.pg_type t WHERE t.typbasetype <> 0::oid
    UNION ALL
    SELECT t.oid, t.typelem FROM pg_catalog.pg_type t WHERE t.typelem <> 0::oid
    UNION ALL
    SELECT r.rngtypid, r.rngsubtype FROM pg_catalog.pg_range r
    UNION ALL
    SELECT c.reltype, a.atttypid
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
    WHERE c.oid >= 16384::oid AND c.reltype <> 0::oid AND a.attnum > 0 AND NOT a.attisdropped
  ) AS w(whole, part) ON w.part = g.type
), checked(type, classid, objid) AS (
  SELECT * FROM guarded
  UNION ALL
  SELECT t.oid, 'pg_catalog.pg_type'::pg_catalog.regclass::oid, t.oid
  FROM pg_catalog.pg_type t WHERE t.typtype = 'd' AND t.oid >= 16384::oid
)"""
"""The constraints of domains, by every type in which they count, and domains for their defaults."""

# Only names of ours are put into these texts.
# ruff: noqa: S608
CALL_QUERIES: Final[dict[str, str]] = {
    "calls": f"""{_GUARDED}
SELECT DISTINCT o.relid, o.kind, n.nspname, p.proname
FROM (
  SELECT r.ev_class, 'read', 'pg_catalog.pg_rewrite'::pg_catalog.regclass, r.oid
  FROM pg_catalog.pg_rewrite r WHERE r.ev_type = '1' AND r.oid >= 16384::oid
  UNION ALL
  SELECT y.polrelid, 'read', 'pg_catalog.pg_policy'::pg_catalog.regclass, y.oid
  FROM pg_catalog.pg_policy y
  UNION ALL
  SELECT f.conrelid, 'write', 'pg_catalog.pg_constraint'::pg_catalog.regclass, f.oid
  FROM pg_catalog.pg_constraint f WHERE f.contype = 'c' AND f.conrelid <> 0::oid
  UNION ALL
  SELECT a.attrelid, 'write', g.classid, g.objid
  FROM checked g JOIN pg_catalog.pg_attribute a ON a.atttypid = g.type
  UNION ALL
  SELECT i.indrelid, 'write', 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid
  FROM pg_catalog.pg_index i WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
  UNION ALL
  SELECT v.adrelid, 'write', 'pg_catalog.pg_attrdef'::pg_catalog.regclass, v.oid
  FROM pg_catalog.pg_attrdef v
) AS o(relid, kind, classid, objid)
JOIN pg_catalog.pg_depend d ON d.classid = o.classid AND d.objid = o.objid
{_CALLED}
UNION
SELECT r.ev_class, 'read', 'pg_catalog', 'query_to_xml'
FROM pg_catalog.pg_rewrite r
WHERE r.oid >= 16384::oid AND r.ev_type = '1' AND r.ev_action::text ~ (
  SELECT ':funcid (' || pg_catalog.string_agg(p.oid::text, '|') || ') '
  FROM pg_catalog.pg_proc p
  WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
    AND p.proname::text = ANY ('{{{",".join(sorted(RUNS_TEXT))}}}'))
UNION
SELECT t.tgrelid,
       CASE WHEN t.tgtype & 4 <> 0 THEN 'i' ELSE '' END
       || CASE WHEN t.tgtype & 16 <> 0 THEN 'u' ELSE '' END
       || CASE WHEN t.tgtype & 8 <> 0 THEN 'd' ELSE '' END
       || CASE WHEN t.tgtype & 32 <> 0 THEN 't' ELSE '' END,
       n.nspname, p.proname
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'""",
    "types": f"""{_GUARDED}
SELECT DISTINCT t.typname, n.nspname, p.proname, true
FROM checked g
JOIN pg_catalog.pg_type t ON t.oid = g.type
JOIN pg_catalog.pg_depend d ON d.classid = g.classid AND d.objid = g.objid
{_CALLED}
UNION
SELECT t.typname, n.nspname, p.proname, false
FROM pg_catalog.pg_cast x
JOIN pg_catalog.pg_type t ON t.oid IN (x.castsource, x.casttarget)
JOIN pg_catalog.pg_proc p ON p.oid = x.castfunc
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname <> 'pg_catalog'""",
    "operators": """
SELECT DISTINCT o.oprname, n.nspname, p.provolatile, l.lanname, p.proname,
       CASE WHEN a.typnamespace = n.pg AND b.typnamespace = n.pg THEN a.typname END,
       CASE WHEN a.typnamespace = n.pg AND b.typnamespace = n.pg THEN b.typname END
FROM pg_catalog.pg_operator o
JOIN (SELECT oid, nspname, 'pg_catalog'::pg_catalog.regnamespace::oid
      FROM pg_catalog.pg_namespace) AS n(oid, nspname, pg) ON n.oid = o.oprnamespace
JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
LEFT JOIN pg_catalog.pg_type a ON a.oid = o.oprleft
LEFT JOIN pg_catalog.pg_type b ON b.oid = o.oprright
WHERE n.nspname <> 'pg_catalog'""",
    "known_types": r"""
SELECT pg_catalog.string_agg(DISTINCT t.typname::text, ' ')
FROM pg_catalog.pg_type t
WHERE t.typtype IN ('b', 'd', 'e', 'r', 'm') AND t.typname !~ '\s'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = t.oid)""",
    "event_triggers": """
SELECT DISTINCT n.nspname, p.proname, e.evtevent = 'login'
FROM pg_catalog.pg_event_trigger e
JOIN pg_catalog.pg_proc p ON p.oid = e.evtfoid
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE e.evtenabled <> 'D'""",
}
"""Of `CATALOGUE_QUERIES`, by name."""
