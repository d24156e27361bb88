"""From a text to its facts: one `Part` for each of its statements.

Laws: never raises on any text; what one table and no subquery cannot decide is left to the
obstacle's words; EXPLAIN ANALYZE, DECLARE, PREPARE, CREATE TABLE AS and COPY (query) are the
statement inside them.
"""

from __future__ import annotations

import gc
import re
from typing import TYPE_CHECKING, Final

from pgguard.sql import definitions, effects, session_effects
from pgguard.sql.parse import LIMIT, Unparsed, parse
from pgguard.sql.scopes import Node, Survey, survey
from pgguard.sql.statement import Facts, Name, Part

if TYPE_CHECKING:
    from collections.abc import Iterable

_FIRST_WORD: Final = re.compile(rb"[ \t\n\r\f\v]*([A-Z_]+)(?![A-Za-z0-9_$\x80-\xff])")
_PLANNED: Final = {
    "SelectStmt": "read",
    "InsertStmt": "insert",
    "UpdateStmt": "update",
    "DeleteStmt": "delete",
    "MergeStmt": "merge",
}
_OPAQUE: Final = {
    "ExecuteStmt": "EXECUTE runs a statement that was prepared earlier",
    "FetchStmt": "FETCH reads from a cursor that was declared earlier",
    "CallStmt": "what a procedure does cannot be seen",
    "DoStmt": "what a DO block does cannot be seen",
}


_ROLES: Final = frozenset({session_effects.Kind.ROLE})
_DEFINING: Final = effects.DDL | effects.TEMPORARY

MOST_STATEMENTS: Final = 300
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


def read(text: bytes, limit: int = LIMIT, *, columns: bool = False) -> Facts:
    """Facts of a UTF-8 text; `limit` in bytes. With `columns` its plan has all result columns, as
    those need who refer to them: of a view."""
    if len(text) > limit:
        return unread(TOO_LONG)
    collects = gc.isenabled()
    gc.disable()
    try:
        return _read(text, limit, columns=columns)
    finally:
        # The tree is gone by now: it was made and left without a pause of the collector, for whom
        # there is nothing in it, as it holds no cycle.
        if collects:
            gc.enable()


def _read(text: bytes, limit: int, *, columns: bool) -> Facts:
    try:
        tree = parse(text.decode(), limit)
    except UnicodeDecodeError:
        return unread("the text is not UTF-8")
    if isinstance(tree, Unparsed):
        if _is_replication(text):
            return Facts(parts=(Part("none"),))
        facts = unread(tree.reason, rejected=tree.rejected)
        if tree.rejected:
            facts.defined = definitions.may_define(text)
        return facts
    facts = Facts()
    parts: list[Part] = []
    created: list[Name] = []
    armed: list[Name] = []
    shadowing: list[Name] = []
    roles: list[str] = []
    left: list[session_effects.Effect] = []
    for entry in tree:
        kind, body = next(iter(entry["stmt"].items()))
        if len(parts) < MOST_STATEMENTS:
            part, by_value = _read_statement(kind, body, columns=columns)
            part.stale = bool(facts.effects & effects.DDL)
            facts.by_value = facts.by_value or by_value
            parts.append(part)
            left += session_effects.of_statement(kind, body, part)
            if session_effects.may_advance(part):
                facts.effects |= effects.SEQUENCES
        facts.effects |= effects.effects_of(kind, body)
        created += _created(kind, body)
        armed += _armed(kind, body)
        if kind == "ViewStmt" and effects.is_temporary(body.get("view", {})):
            shadowing += _armed(kind, body)
        roles += _roles(kind, body)
    if len(tree) > MOST_STATEMENTS:
        parts.append(Part("opaque", obstacle=f"it is more than {MOST_STATEMENTS} statements"))
        left = list(session_effects.UNREAD)
    facts.session = tuple(left if len(tree) == 1 else _among_others(left))
    # What SET and set_config say lies in their literals.
    facts.by_value = facts.by_value or any(e.kind in session_effects.BY_VALUE for e in left)
    facts.parts, facts.created, facts.armed = tuple(parts), tuple(created), tuple(armed)
    facts.shadowing = tuple(shadowing)
    if facts.effects & _DEFINING:
        facts.defined = definitions.definitions(next(iter(one["stmt"].items())) for one in tree)
    roles += ["" for e in left if e.kind in _ROLES and not roles]
    facts.roles = tuple(dict.fromkeys(roles))
    return facts


def _among_others(left: Iterable[session_effects.Effect]) -> list[session_effects.Effect]:
    """The effects of a text of several statements: it does more than to make a setting, and nobody
    may run it again for that."""
    kinds = session_effects.Kind
    return [
        effect._replace(kind=kinds.SET_UNKNOWN) if effect.kind is kinds.SET else effect
        for effect in left
    ]


def _is_replication(text: bytes) -> bool:
    """Whether the text is a command of replication, which on any other connection is an error."""
    first = _FIRST_WORD.match(text)
    return first is not None and first[1].decode() in _REPLICATION


def unread(reason: str, *, rejected: bool = False) -> Facts:
    """Facts of a text that could not be read: it may do anything."""
    left = session_effects.UNREAD
    return Facts(
        effects=effects.ANY,
        session=left,
        unread=reason,
        rejected=rejected,
        defined=definitions.ANYTHING,
    )


def _read_statement(kind: str, body: Node, *, columns: bool) -> tuple[Part, bool]:
    # 'on' and 'off', 1 and 0 are literals of one shape.
    valued = kind == "ExplainStmt" and any("arg" in o["DefElem"] for o in body.get("options", []))
    part, by_value = _read_inner(*_inner(kind, body), columns=columns)
    if _names(part) > MOST_NAMES:
        return Part("opaque", obstacle=f"it names more than {MOST_NAMES} things"), valued
    return part, by_value or valued


def _names(part: Part) -> int:
    """How many names a part holds."""
    kept = (part.relations, part.functions, part.attributes, part.types, part.writes, part.words)
    return sum(map(len, kept))


def _read_inner(kind: str, body: Node, *, columns: bool) -> tuple[Part, bool]:
    if kind in _OPAQUE and not body.get("ismove"):
        return Part("opaque", obstacle=_OPAQUE[kind]), False
    if kind in _PLANNED:
        seen = survey(kind, body)
        if seen.occurrences > MOST_NAMES:
            # A plan of them would take long to come from the worker, and prove nothing.
            return Part("opaque", obstacle=f"it names more than {MOST_NAMES} tables"), False
        part = _part(_PLANNED[kind], seen)
        # Loaded by the first statement of all: a command may say none.
        from pgguard.sql.plan.writes import plan

        planned = plan(kind, body, columns=columns)
        part.plan, part.obstacle = planned.plan, planned.obstacle
        part.depends, part.nulls = planned.depends, planned.nulls
        return part, planned.by_value
    if kind == "TruncateStmt":
        part = _part("truncate", survey(kind, body))
        part.cascade = body.get("behavior") == "DROP_CASCADE"
        return part, False
    if kind == "CopyStmt":
        name = "copy_from" if body.get("is_from") else "copy_to"
        return _part(name, survey(kind, body)), False
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


def _roles(kind: str, body: Node) -> list[str]:
    """The role that SET ROLE or SET SESSION AUTHORIZATION switches to."""
    name = body.get("name", "").lower()
    if kind != "VariableSetStmt" or name not in {"role", "session_authorization"}:
        return []
    values = [argument.get("A_Const", {}).get("sval", {}) for argument in body.get("args", [])]
    return [value.get("sval", "") for value in values if value.get("sval") != "none"]


def _part(name: str, seen: Survey) -> Part:
    return Part(
        name,
        tuple(seen.relations),
        tuple(seen.functions),
        seen.table_function,
        tuple(seen.operators),
        tuple(seen.attributes),
        tuple(seen.types),
        tuple(seen.writes),
        tuple(seen.words),
        tuple(seen.stars),
        seen.renames,
        parameters=seen.parameters,
    )
