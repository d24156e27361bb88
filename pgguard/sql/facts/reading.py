"""From a text to its facts: one `Part` for each of its statements.

Laws: never raises on any text; what one table and no subquery cannot decide is left to the
obstacle's words; EXPLAIN ANALYZE, DECLARE, PREPARE, CREATE TABLE AS and COPY (query) are the
statement inside them.
"""

from __future__ import annotations

import re
from typing import Any, Final

from pgguard.sql import effects, session_effects
from pgguard.sql.facts.environment import Environment, both, known
from pgguard.sql.facts.predicates import Reader
from pgguard.sql.facts.writes import read_assignments, read_insert
from pgguard.sql.parse import LIMIT, Unparsed, parse
from pgguard.sql.scopes import Node, Survey, survey
from pgguard.sql.statement import Facts, Name, Occurrence, Part

_FIRST_WORD: Final = re.compile(rb"[ \t\n\r\f\v]*([A-Z_]+)(?![A-Za-z0-9_$\x80-\xff])")
_WRITES: Final = {"InsertStmt": "insert", "UpdateStmt": "update", "DeleteStmt": "delete"}
_OPAQUE: Final = {
    "ExecuteStmt": "EXECUTE runs a statement that was prepared earlier",
    "FetchStmt": "FETCH reads from a cursor that was declared earlier",
    "CallStmt": "what a procedure does cannot be seen",
    "DoStmt": "what a DO block does cannot be seen",
}


MOST_STATEMENTS: Final = 1000
"""Of one text; verdicts are given in the loop."""
MOST_NAMES: Final = 2000
"""That a statement may name; beyond it is opaque."""

_REPLICATION: Final = frozenset(
    {
        "ALTER_REPLICATION_SLOT",
        "BASE_BACKUP",
        "CREATE_REPLICATION_SLOT",
        "DROP_REPLICATION_SLOT",
        "IDENTIFY_SYSTEM",
        "READ_REPLICATION_SLOT",
        "START_REPLICATION",
        "TIMELINE_HISTORY",
        "UPLOAD_MANIFEST",
    }
)
"""What a walsender takes for its own (manual, "Streaming Replication Protocol"); SHOW is SQL, too.
Where one of them stands first nothing else is executed: neither its grammar nor that of SQL has a
text that goes on with a statement."""

TOO_LONG: Final = "the text is longer than tenancy.max_statement"


def read(text: bytes, limit: int = LIMIT) -> Facts:
    """Facts of a UTF-8 text; `limit` in bytes."""
    if len(text) > limit:
        return unread(TOO_LONG)
    try:
        tree = parse(text.decode(), limit)
    except UnicodeDecodeError:
        return unread("the text is not UTF-8")
    if isinstance(tree, Unparsed):
        if _is_replication(text):
            return Facts(parts=(Part("none"),))
        return unread(tree.reason, rejected=tree.rejected)
    facts = Facts()
    parts: list[Part] = []
    created: list[Name] = []
    armed: list[Name] = []
    left: list[session_effects.Effect] = []
    for entry in tree:
        kind, body = next(iter(entry["stmt"].items()))
        if len(parts) < MOST_STATEMENTS:
            part, by_value = _read_statement(kind, body)
            part.stale = bool(facts.effects & effects.DDL)
            facts.by_value = facts.by_value or by_value
            parts.append(part)
            left += session_effects.of_statement(kind, body, part)
            if session_effects.may_advance(part):
                facts.effects |= effects.SEQUENCES
        facts.effects |= effects.effects_of(kind, body)
        created += _created(kind, body)
        armed += _armed(kind, body)
    if len(tree) > MOST_STATEMENTS:
        parts.append(Part("opaque", obstacle=f"it is more than {MOST_STATEMENTS} statements"))
        left = list(session_effects.UNREAD)
    facts.session = tuple(left)
    # What SET and set_config say lies in their literals.
    facts.by_value = facts.by_value or any(e.kind in session_effects.BY_VALUE for e in left)
    facts.parts, facts.created, facts.armed = tuple(parts), tuple(created), tuple(armed)
    return facts


def _is_replication(text: bytes) -> bool:
    """Whether the text is a command of replication, which on any other connection is an error."""
    first = _FIRST_WORD.match(text)
    return first is not None and first[1].decode() in _REPLICATION


def unread(reason: str, *, rejected: bool = False) -> Facts:
    """Facts of a text that could not be read: it may do anything."""
    left = session_effects.UNREAD
    return Facts(effects=effects.ANY, session=left, unread=reason, rejected=rejected)


def _read_statement(kind: str, body: Node) -> tuple[Part, bool]:
    # 'on' and 'off', 1 and 0 are literals of one shape.
    valued = kind == "ExplainStmt" and any("arg" in o["DefElem"] for o in body.get("options", []))
    part, by_value = _read_inner(*_inner(kind, body))
    if _names(part) > MOST_NAMES:
        return Part("opaque", obstacle=f"it names more than {MOST_NAMES} things"), valued
    return part, by_value or valued


def _names(part: Part) -> int:
    """How many names a part holds."""
    kept = (part.relations, part.functions, part.attributes, part.types, part.writes)
    return sum(map(len, kept)) + len(part.known.constants) + len(part.assigned)


def _read_inner(kind: str, body: Node) -> tuple[Part, bool]:
    if kind in _OPAQUE and not body.get("ismove"):
        return Part("opaque", obstacle=_OPAQUE[kind]), False
    if kind == "SelectStmt":
        return _read_select(body)
    if kind in _WRITES:
        return _read_write(kind, body)
    if kind == "MergeStmt":
        part, _ = _part("merge", kind, body)
        part.obstacle = "it is a MERGE"
        return part, False
    if kind == "TruncateStmt":
        part, _ = _part("truncate", kind, body)
        part.obstacle, part.cascade = "", body.get("behavior") == "DROP_CASCADE"
        return part, False
    if kind == "CopyStmt":
        part, _ = _part("copy_from" if body.get("is_from") else "copy_to", kind, body)
        return part, False
    return Part("none"), False


def _inner(kind: str, body: Node) -> tuple[str, Node]:
    """The statement that is run, through EXPLAIN ANALYZE and its like."""
    while True:
        if kind == "ExplainStmt" and not _analyzes(body):
            return "", {}
        if kind == "CreateTableAsStmt" and body.get("objtype") == "OBJECT_MATVIEW":
            return "", {}
        wraps = kind in {
            "ExplainStmt",
            "DeclareCursorStmt",
            "PrepareStmt",
            "CreateTableAsStmt",
        } or (kind == "CopyStmt" and not body.get("is_from"))
        if not wraps or "query" not in body:
            return kind, body
        kind, body = next(iter(body["query"].items()))


def _analyzes(body: Node) -> bool:
    """Whether EXPLAIN runs the statement; of several ANALYZE the last one counts."""
    analyzes = False
    for option in body.get("options", []):
        element = option["DefElem"]
        if element.get("defname") == "analyze":
            value = element.get("arg", {})
            word = value.get("String", {}).get("sval", "true").lower()
            zero = "Integer" in value and not value["Integer"].get("ival", 0)
            analyzes = word not in {"false", "off"} and not zero
    return analyzes


def _created(kind: str, body: Node) -> tuple[Name, ...]:
    """Temporary tables that come into being."""
    if kind == "ExplainStmt":
        kind, body = next(iter(body.get("query", {}).items()), ("", {}))
    relation: Node = {}
    if kind == "CreateStmt":
        relation = body.get("relation", {})
    elif kind == "CreateTableAsStmt":
        relation = body.get("into", {}).get("rel", {})
    elif kind == "SelectStmt":
        relation = body.get("intoClause", {}).get("rel", {})
    if "relname" in relation and effects.is_temporary(relation):
        return (Name(relation.get("schemaname", ""), relation["relname"]),)
    return ()


def _armed(kind: str, body: Node) -> tuple[Name, ...]:
    """What from now on may reach further than its own rows."""
    relation: Node = body.get("view" if kind == "ViewStmt" else "relation") or {}
    if kind not in {"ViewStmt", "RuleStmt", "CreateTrigStmt"} or "relname" not in relation:
        return ()
    return (Name(relation.get("schemaname", ""), relation["relname"]),)


def _part(name: str, kind: str, body: Node) -> tuple[Part, Survey]:
    seen = survey(kind, body)
    part = Part(
        name,
        tuple(seen.relations),
        tuple(seen.functions),
        seen.table_function,
        tuple(seen.operators),
        tuple(seen.attributes),
        tuple(seen.types),
        tuple(seen.writes),
        seen.renames,
        obstacle=_obstacle(seen),
        parameters=seen.parameters,
    )
    return part, seen


def _obstacle(seen: Survey) -> str:
    if seen.cte:
        return "it has a common table expression"
    if seen.subquery:
        return "it has a subquery"
    if seen.set_operation:
        return "it is a set operation"
    if seen.cursor:
        return "it names a row by a cursor"
    return "it joins several tables" if seen.occurrences > 1 else ""


def _read_select(body: Node) -> tuple[Part, bool]:
    part, _ = _part("read", "SelectStmt", body)
    if part.obstacle:
        return part, False
    sources = body.get("fromClause", [])
    if len(sources) != 1:
        part.obstacle = "it joins a table and a function" if part.relations else ""
        return part, False
    source = sources[0]
    if "RangeTableSample" in source:
        source = source["RangeTableSample"].get("relation", {})
    if "RangeVar" not in source:
        part.obstacle = "it joins a table and a function" if part.relations else ""
        return part, False
    part.table = _occurrence(source["RangeVar"])
    return part, _read_condition(part, body.get("whereClause"), _grouped(body))


def _grouped(body: Node) -> Node | None:
    """HAVING over plain columns: what it says of columns holds for every row (F9).

    Postgres takes a column outside of aggregates only if it is grouped or depends on a key that is.
    """
    groups = body.get("groupClause", [])
    return body.get("havingClause") if groups and all("ColumnRef" in g for g in groups) else None


def _read_write(kind: str, body: Node) -> tuple[Part, bool]:
    part, _ = _part(_WRITES[kind], kind, body)
    if part.obstacle:
        return part, False
    part.table = _occurrence(body["relation"])
    if kind == "InsertStmt":
        return part, read_insert(body, part, part.table)
    if "fromClause" in body or "usingClause" in body:
        part.obstacle = "it joins a table and a function"
        return part, False
    if kind == "UpdateStmt":
        part.assigned = read_assignments(body.get("targetList", []), part.table)
    return part, _read_condition(part, body.get("whereClause"), None)


def _read_condition(part: Part, where: Node | None, having: Node | None) -> bool:
    """Fill in what the condition says; whether a literal's value has decided something."""
    reader = Reader(part.table)
    part.known = known(_conditions(reader, where, having, hopeful=False))
    if reader.depends:
        part.hopeful = known(_conditions(reader, where, having, hopeful=True))
    if where is not None:
        part.condition = "or" if where.get("BoolExpr", {}).get("boolop") == "OR_EXPR" else "and"
    return reader.by_value


def _conditions(
    reader: Reader, where: Node | None, having: Node | None, *, hopeful: bool
) -> Environment | None:
    said = reader.read(where, hopeful=hopeful)
    if having is None:
        return said
    of_groups = reader.read(having, hopeful=hopeful)
    if of_groups is None:
        # No group is left, but an impossible HAVING still reads every row.
        return said
    # A function in HAVING may be an aggregate over the rows.
    kept = tuple(
        (terms, constants)
        for terms, constants in of_groups.groups
        if not any(constant.functions for constant in constants or ())
    )
    return both([said, Environment(kept)])


def _occurrence(node: dict[str, Any]) -> Occurrence:
    alias = node.get("alias", {})
    columns = tuple(part["String"].get("sval", "") for part in alias.get("colnames", []))
    name = Name(node.get("schemaname", ""), node["relname"])
    return Occurrence(name, alias.get("aliasname", ""), columns, node.get("location", 0))
