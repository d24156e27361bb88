"""What the DDL of a text makes, and what it changes of that which later statements set off.

Laws: pure; a table is `born` only where the text says all that a write to it may call; of DDL that
is not known to leave alone what others set off, everything that it names is said to be changed, and
anything at all where it names nothing (transparency T23). Names mean those of every schema.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pgguard.sql.effects import DDL, effects_of, is_temporary
from pgguard.sql.scopes import survey
from pgguard.sql.statement import Name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Node = dict[str, Any]


class Calls(NamedTuple):
    """What expressions and columns may call."""

    functions: tuple[Name, ...] = ()
    operators: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    """Of columns and of casts."""
    drawn: bool = False
    """The types of columns are those of a query."""
    models: tuple[Name, ...] = ()
    """Tables whose columns, defaults and checks are taken over."""
    reads: tuple[Name, ...] = ()
    """What a view shows."""


class Born(NamedTuple):
    """A table or view that comes into being, and what its use may call."""

    name: Name
    temporary: bool
    calls: Calls
    shows: bool = False
    """A view; what is written to it is written elsewhere."""


class Changed(NamedTuple):
    """A table a write to which may call this, too, from now on."""

    name: str
    calls: Calls


class Link(NamedTuple):
    """A foreign key or inheritance: what is done to `parent` by these `actions` (letters of `i`,
    `u`, `d`) changes rows of `child`."""

    parent: str
    child: str
    actions: str


class Definitions(NamedTuple):
    """What the DDL of one text defines."""

    born: tuple[Born, ...] = ()
    changed: tuple[Changed, ...] = ()
    links: tuple[Link, ...] = ()
    relations: frozenset[str] = frozenset()
    """What may set off anything from now on."""
    functions: frozenset[str] = frozenset()
    """Those that may be others from now on."""
    types: frozenset[str] = frozenset()
    enums: frozenset[str] = frozenset()
    """New types that call nothing."""
    anything: bool = False
    """It cannot be told what else."""


NOTHING: Final = Definitions()
ANYTHING: Final = Definitions(anything=True)
INHERITS: Final = "iud"
"""The actions of a Link that is inheritance alone: a foreign key never inserts."""

_HARMLESS: Final = frozenset(
    {
        "AlterDefaultPrivilegesStmt",
        "AlterEnumStmt",
        "AlterOwnerStmt",
        "AlterRoleSetStmt",
        "AlterRoleStmt",
        "AlterSeqStmt",
        "CommentStmt",
        "CreateRoleStmt",
        "CreateSeqStmt",
        "DropRoleStmt",
        "DropStmt",
        "GrantRoleStmt",
        "GrantStmt",
    }
)
"""DDL after which no statement sets off more than before. What is dropped sets off nothing."""

_ABOUT: Final = frozenset(
    {"AlterPolicyStmt", "AlterTableStmt", "CreatePolicyStmt", "CreateTrigStmt", "RuleStmt"}
)
"""DDL about the relations that it names."""

_PLAIN_METHODS: Final = frozenset({"btree", "hash", "gin", "gist", "brin", "spgist"})
"""Indexes of Postgres's own."""
_CHANGES: Final = frozenset({"c", "n", "d"})
"""CASCADE, SET NULL, SET DEFAULT, as the parser tells them."""

_WITHOUT_CALLS: Final = frozenset(
    {"AT_DropConstraint", "AT_SetNotNull", "AT_DropNotNull", "AT_ChangeOwner", "AT_SetStatistics"}
)
_WITH_CALLS: Final = frozenset({"AT_AddColumn", "AT_AddConstraint", "AT_ColumnDefault"})
"""Parts of ALTER TABLE behind which writes call no more, and those that say what they call."""
_KEYS: Final = frozenset({"CONSTR_FOREIGN", "CONSTR_PRIMARY", "CONSTR_UNIQUE"})
"""Constraints that evaluate no expression."""

_QUIET: Final = frozenset(
    {
        "AlterEnumStmt",
        "AlterOwnerStmt",
        "AlterSeqStmt",
        "CheckPointStmt",
        "CommentStmt",
        "ConstraintsSetStmt",
        "CopyStmt",
        "CreateEnumStmt",
        "CreateSchemaStmt",
        "CreateSeqStmt",
        "CreateStmt",
        "CreateTableAsStmt",
        "CreatedbStmt",
        "DeleteStmt",
        "DropStmt",
        "DropdbStmt",
        "ExplainStmt",
        "GrantStmt",
        "InsertStmt",
        "LockStmt",
        "MergeStmt",
        "NotifyStmt",
        "SelectStmt",
        "TruncateStmt",
        "UpdateStmt",
        "VariableShowStmt",
        "ViewStmt",
    }
)
"""Statements that run, beside the functions that they name, only what their writes set off."""

_MAY_DEFINE: Final = re.compile(
    rb"(?i)(?:\A\s*|[;\r\n/(][^\S\r\n]*)"
    rb"(?:alter|call|create|do|drop|explain|import|reassign|security)\b"
)
"""A statement that may be DDL, in a text that is not read: at its beginning, or behind a semicolon,
a comment, the end of a line or a parenthesis. No byte is looked at twice, however many of them make
a gap."""


def may_define(text: bytes) -> Definitions | None:
    """Of a text that is not read."""
    return ANYTHING if _MAY_DEFINE.search(text) else None


def definitions(statements: Iterable[tuple[str, Node]]) -> Definitions:
    """Of the statements of one text, each the name of its node and the node itself."""
    found = [one for one in (_of(kind, body) for kind, body in statements) if one != NOTHING]
    if len(found) < 2:
        return found[0] if found else NOTHING
    return Definitions(
        tuple(born for one in found for born in one.born),
        tuple(changed for one in found for changed in one.changed),
        tuple(link for one in found for link in one.links),
        frozenset().union(*(one.relations for one in found)),
        frozenset().union(*(one.functions for one in found)),
        frozenset().union(*(one.types for one in found)),
        frozenset().union(*(one.enums for one in found)),
        any(one.anything for one in found),
    )


def runs_code(kind: str, body: Node) -> bool:
    """Whether a statement runs more than the functions that it names and what its writes set
    off."""
    if kind == "IndexStmt":
        return not _is_plain_index(body)
    if kind == "AlterTableStmt":
        return not all(map(_is_quiet_change, _commands(body)))
    return kind not in _QUIET or body.get("objtype") == "OBJECT_MATVIEW"


def _is_quiet_change(command: Node) -> bool:
    """Whether a part of ALTER TABLE evaluates no expression while it runs."""
    constraint = command.get("def", {}).get("Constraint", {})
    quiet = command.get("subtype") in _WITHOUT_CALLS | {"AT_ColumnDefault", "AT_DropColumn"}
    return quiet or constraint.get("contype") in _KEYS


def _is_plain_index(body: Node) -> bool:
    """Whether an index has columns alone, compared as their types are."""
    elements = [*body.get("indexParams", []), *body.get("indexIncludingParams", [])]
    return (
        "whereClause" not in body
        and body.get("accessMethod", "btree") in _PLAIN_METHODS
        and all("expr" not in element.get("IndexElem", {}) for element in elements)
    )


def _of(kind: str, body: Node) -> Definitions:
    if kind == "ExplainStmt":
        kind, body = next(iter(body.get("query", {}).items()), ("", {}))
    if kind == "CreateStmt":
        return _table(body)
    if kind in {"CreateTableAsStmt", "SelectStmt"}:
        return _from_query(body)
    if not effects_of(kind, body) & DDL or kind in _HARMLESS:
        return NOTHING
    if kind == "CreateSchemaStmt":
        return definitions(next(iter(one.items())) for one in body.get("schemaElts", []))
    if kind == "IndexStmt":
        return NOTHING if _is_plain_index(body) else _changed(body, [body])
    if kind == "AlterTableStmt" and body.get("objtype") == "OBJECT_TABLE":
        return _altered(body)
    if kind in {"CreateFunctionStmt", "AlterFunctionStmt"}:
        return _routine(body)
    if kind == "CreateDomainStmt":
        return Definitions(types=frozenset(_words(body.get("domainname", []))[-1:]))
    if kind == "CompositeTypeStmt":
        return Definitions(types=frozenset({body.get("typevar", {}).get("relname", "")}))
    if kind == "CreateEnumStmt":
        return Definitions(enums=frozenset(_words(body.get("typeName", []))[-1:]))
    if kind == "ViewStmt":
        return _view(body)
    moved = kind in {"RenameStmt", "AlterObjectSchemaStmt"} and "relation" in body
    if kind in _ABOUT or moved:
        return _doubted(body)
    return ANYTHING


def _doubted(body: Node) -> Definitions:
    """Whatever relations it names, and what it calls them from now on."""
    return Definitions(relations=frozenset({*_relations(body), body.get("newname", "")} - {""}))


def _table(body: Node) -> Definitions:
    """CREATE TABLE."""
    elements, relation = body.get("tableElts", []), body.get("relation", {})
    told = not body.get("if_not_exists") and "ofTypename" not in body
    if not told or _has_expressions(body) or not all(_is_told(one) for one in elements):
        return _doubted(body)
    inherited = [one.get("RangeVar", {}) for one in body.get("inhRelations", [])]
    named = relation.get("relname", "")
    above = [Link(one.get("relname", ""), named, INHERITS) for one in inherited]
    liked = [one["TableLikeClause"]["relation"] for one in elements if "TableLikeClause" in one]
    calls = _calls(elements)._replace(models=tuple(map(_named, (*inherited, *liked))))
    born = Born(_named(relation), is_temporary(relation), calls)
    return Definitions((born,), links=(*above, *_links(born.name.name, elements)))


def _view(body: Node) -> Definitions:
    """CREATE VIEW. One that is replaced is another one for those who have begun to read it."""
    view = body.get("view", {})
    seen = survey("query", {"query": body.get("query", {})})
    if body.get("replace") or seen.writes:
        return Definitions(relations=frozenset({view.get("relname", "")}))
    calls = Calls(
        tuple(seen.functions),
        tuple(seen.operators),
        tuple(seen.attributes),
        tuple(seen.types),
        reads=tuple(seen.relations),
    )
    return Definitions((Born(_named(view), is_temporary(view), calls, shows=True),))


def _from_query(body: Node) -> Definitions:
    """CREATE TABLE AS and SELECT INTO: no defaults, no checks, and the types of a query."""
    into = body.get("into") or body.get("intoClause")
    if into is None:
        return NOTHING
    relation = into.get("rel", {})
    if body.get("if_not_exists"):
        return Definitions(relations=frozenset({relation.get("relname", "")}))
    return Definitions((Born(_named(relation), is_temporary(relation), Calls(drawn=True)),))


def _altered(body: Node) -> Definitions:
    """ALTER TABLE."""
    commands = _commands(body)
    defined = [command.get("def", {}) for command in commands]
    for command in commands:
        kind = command.get("subtype")
        told = kind in _WITH_CALLS and all(_is_told(one) for one in [command.get("def", {})])
        if kind not in _WITHOUT_CALLS and not told:
            return _doubted(body)
    return _changed(body, defined)


def _changed(body: Node, defined: list[Node]) -> Definitions:
    name = body.get("relation", {}).get("relname", "")
    return Definitions(
        changed=(Changed(name, _calls(defined)),), links=tuple(_links(name, defined))
    )


def _routine(body: Node) -> Definitions:
    """CREATE or ALTER FUNCTION or PROCEDURE."""
    names = body.get("funcname") or body.get("func", {}).get("objname", [])
    words = _words(names)
    if not words or TEMPORARY_SCHEMA in words:
        return ANYTHING
    return Definitions(functions=frozenset(words[-1:]))


def _commands(body: Node) -> list[Node]:
    return [one.get("AlterTableCmd", {}) for one in body.get("cmds", [])]


def _is_told(element: Node) -> bool:
    """Whether a column or constraint says all that it calls."""
    return all(one.get("contype") != "CONSTR_EXCLUSION" for one in _constraints([element]))


def _has_expressions(body: Node) -> bool:
    """Whether a table is partitioned by more than columns."""
    parts = body.get("partspec", {}).get("partParams", [])
    return any("expr" in one.get("PartitionElem", {}) for one in parts)


def _calls(elements: list[Node]) -> Calls:
    seen = survey("elements", {"elements": elements})
    return Calls(
        tuple(seen.functions), tuple(seen.operators), tuple(seen.attributes), tuple(seen.types)
    )


def _links(child: str, elements: list[Node]) -> Iterator[Link]:
    for constraint in _constraints(elements):
        if constraint.get("contype") == "CONSTR_FOREIGN":
            deleted = constraint.get("fk_del_action", "a") in _CHANGES
            updated = constraint.get("fk_upd_action", "a") in _CHANGES
            actions = "d" * deleted + "u" * updated
            if actions:
                yield Link(constraint.get("pktable", {}).get("relname", ""), child, actions)


def _constraints(elements: list[Node]) -> Iterator[Node]:
    for element in elements:
        if "Constraint" in element:
            yield element["Constraint"]
        for constraint in element.get("ColumnDef", {}).get("constraints", []):
            yield constraint.get("Constraint", {})


def _named(relation: Node) -> Name:
    return Name(relation.get("schemaname", ""), relation.get("relname", ""))


def _relations(body: Node) -> Iterator[str]:
    """The names of all relations, wherever they stand."""
    stack: list[Any] = [body]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            if isinstance(node.get("relname"), str):
                yield node["relname"]
            stack.extend(node.values())


def _words(names: list[Node]) -> list[str]:
    return [one["String"].get("sval", "") for one in names if "String" in one]


TEMPORARY_SCHEMA: Final = "pg_temp"
