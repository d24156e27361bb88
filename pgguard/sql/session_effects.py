"""What a statement leaves behind in its session: settings, locks, names, and what may hide some.

Laws: effects of a text stand in the order of its statements; what cannot be read has one effect,
UNREAD, which stands for all. Only what the text says is told: whether a statement succeeded, and
what functions and triggers did, is not known here (transparency T20 to T23). Values are never kept,
since texts of one shape share their facts: a setting is replayed by the text that made it.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pgguard.sql import sources
from pgguard.sql.definitions import runs_code
from pgguard.sql.effects import is_temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgguard.sql.statement import Name, Part

Node = dict[str, Any]


class Kind(Enum):
    """Kinds of effects; `name` is said where an effect has one."""

    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    COMMIT_AND_CHAIN = "commit and chain"
    ROLLBACK_AND_CHAIN = "rollback and chain"
    SAVEPOINT = "savepoint"
    """`name` = the savepoint, as in the two that follow."""
    RELEASE = "release"
    ROLLBACK_TO = "rollback to"

    SET = "set"
    """`name` = the setting, in lower case; the text says the whole value, and does nothing else."""
    SET_LOCAL = "set local"
    MAY_SET = "may set"
    """The same, of code that may not come to it."""
    SET_UNKNOWN = "set unknown"
    """A setting, perhaps `name`, becomes what the text does not say."""
    RESET = "reset"
    RESET_ALL = "reset all"
    ROLE = "role"
    """`name` = `role` or `session_authorization`."""
    RESET_ROLE = "reset role"

    TEMPORARY = "temporary"
    DISCARD_TEMPORARY = "discard temporary"
    DISCARD_ALL = "discard all"
    LISTEN = "listen"
    NOTIFY = "notify"
    UNLISTEN = "unlisten"
    UNLISTEN_ALL = "unlisten all"
    PREPARE = "prepare"
    EXECUTE = "execute"
    DECLARE = "declare"
    FETCH = "fetch"
    """The cursor that it reads from; MOVE, too."""
    DEALLOCATE = "deallocate"
    DEALLOCATE_ALL = "deallocate all"
    SIGNAL = "signal"
    """Ends or cancels what another backend does, or asks whom it waits for, by its pid."""
    NAMES_PREPARED = "names prepared"
    """Reads pg_prepared_statements."""
    HOLD = "hold"
    """A cursor WITH HOLD."""
    CLOSE = "close"
    CLOSE_ALL = "close all"
    LOCK = "lock"
    """An advisory lock of the session."""
    UNLOCK = "unlock"
    UNLOCK_ALL = "unlock all"
    SEQUENCE_READ = "sequence read"
    """currval or lastval."""
    SEED = "seed"
    LOAD = "load"
    PID = "pid"
    LARGE_OBJECT = "large object"
    SNAPSHOT = "snapshot"
    """Something that lives as long as the session, and that nobody can look for or carry."""

    CALL = "call"
    """`name` = a function that is not Postgres's own: it may have any effect."""
    UNKNOWN = "unknown"
    """`name` = a relation that the catalogue does not know: it may have any effect."""
    CODE = "code"
    """DO, CALL, or what runs code in its course: triggers, expressions of indexes, extensions."""
    ROLES = "roles"
    """Changes roles, or settings of roles and databases (T26)."""
    UNREAD = "unread"


class Effect(NamedTuple):
    """One effect."""

    kind: Kind
    name: str = ""


UNREAD: Final = (Effect(Kind.UNREAD),)

NAMING: Final = frozenset({Kind.DECLARE, Kind.FETCH})
"""Kinds that leave nothing behind by themselves: what they name ends with its transaction."""

ENDS: Final = frozenset({Kind.BEGIN, Kind.COMMIT, Kind.ROLLBACK})
"""Kinds about a whole transaction."""

BY_VALUE: Final = frozenset({Kind.SET, Kind.SET_LOCAL, Kind.SET_UNKNOWN, Kind.ROLE, Kind.CODE})
"""Kinds whose presence or meaning lies in literals: such texts share nothing by their shape."""

_TRANSACTIONS: Final = {
    "TRANS_STMT_BEGIN": Kind.BEGIN,
    "TRANS_STMT_START": Kind.BEGIN,
    "TRANS_STMT_COMMIT": Kind.COMMIT,
    "TRANS_STMT_ROLLBACK": Kind.ROLLBACK,
    # What the transaction has SET stays with the session.
    "TRANS_STMT_PREPARE": Kind.COMMIT,
    "TRANS_STMT_SAVEPOINT": Kind.SAVEPOINT,
    "TRANS_STMT_RELEASE": Kind.RELEASE,
    "TRANS_STMT_ROLLBACK_TO": Kind.ROLLBACK_TO,
}

_DISCARDS: Final = {
    "DISCARD_ALL": Kind.DISCARD_ALL,
    "DISCARD_TEMP": Kind.DISCARD_TEMPORARY,
}

_ROLES: Final = frozenset({"role", "session_authorization"})

OF_TRANSACTION: Final = frozenset(
    {"transaction_isolation", "transaction_read_only", "transaction_deferrable"}
)
"""Settings that are no longer there when the transaction is over."""

TEMPORARY: Final = "pg_temp"

_FUNCTIONS: Final[dict[str, Kind]] = {
    **dict.fromkeys(
        (
            "pg_advisory_lock",
            "pg_advisory_lock_shared",
            "pg_try_advisory_lock",
            "pg_try_advisory_lock_shared",
        ),
        Kind.LOCK,
    ),
    **dict.fromkeys(("pg_advisory_unlock", "pg_advisory_unlock_shared"), Kind.UNLOCK),
    "pg_advisory_unlock_all": Kind.UNLOCK_ALL,
    "pg_notify": Kind.NOTIFY,
    "currval": Kind.SEQUENCE_READ,
    "lastval": Kind.SEQUENCE_READ,
    "setseed": Kind.SEED,
    "pg_backend_pid": Kind.PID,
    **dict.fromkeys(
        (
            "pg_terminate_backend",
            "pg_cancel_backend",
            "pg_blocking_pids",
            "pg_safe_snapshot_blocking_pids",
            "pg_isolation_test_session_is_blocked",
            "pg_log_backend_memory_contexts",
            "pg_stat_get_activity",
            "pg_stat_get_backend_io",
            "pg_stat_get_backend_wal",
            "pg_stat_reset_backend_stats",
        ),
        Kind.SIGNAL,
    ),
    **dict.fromkeys(("lo_open", "lo_creat", "lo_create"), Kind.LARGE_OBJECT),
    **dict.fromkeys(
        (
            "pg_backup_start",
            "pg_start_backup",
            "pg_create_logical_replication_slot",
            "pg_create_physical_replication_slot",
            "pg_copy_logical_replication_slot",
            "pg_copy_physical_replication_slot",
            "pg_replication_origin_session_setup",
        ),
        Kind.SNAPSHOT,
    ),
}
"""Of pg_catalog. Its other functions leave nothing behind, but for set_config."""

_BY_PID: Final = frozenset({"pg_locks", "pg_stat_activity", "pg_stat_gssapi", "pg_stat_ssl"})
"""What clients look for by the pid that they know of a session."""

_ADVANCE: Final = frozenset({"nextval", "setval"})

_OPENING_HOLD: Final = 0x20
"""CURSOR_OPT_HOLD of Postgres's parsenodes.h."""


def of_statement(kind: str, body: Node, part: Part) -> Iterator[Effect]:
    """Effects of one statement: its node's name, the node itself and what was read of it.

    What writes set off is not among them; the part names the writes.
    """
    reader = _READERS.get(kind)
    if reader is not None:
        yield from reader(body)
    elif kind.startswith(("AlterRole", "CreateRole", "DropRole", "AlterDatabaseSet", "GrantRole")):
        yield Effect(Kind.ROLES)
    elif kind == "GrantStmt" and body.get("objtype") == "OBJECT_DATABASE":
        # Of CONNECT.
        yield Effect(Kind.ROLES)
    elif kind == "DoStmt":
        yield from _do(body)
    elif runs_code(kind, body):
        yield Effect(Kind.CODE)
        if TEMPORARY in str(body):
            yield Effect(Kind.TEMPORARY)
    elif kind == "CreateEnumStmt" and TEMPORARY in str(body.get("typeName")):
        yield Effect(Kind.TEMPORARY)
    elif kind in {"ExplainStmt", "CreateTableAsStmt"}:
        yield from _of_query(body)
    if kind in _DEFINING and any(word in str(body).lower() for word in ("currval", "lastval")):
        # Whoever defines something that asks for it will use it.
        yield Effect(Kind.SEQUENCE_READ)
    for relation in _created(kind, body):
        if is_temporary(relation):
            yield Effect(Kind.TEMPORARY, relation.get("relname", ""))
    for name in part.functions:
        if name.name != _PID or not _only_left_out(body):
            yield from _call(name)
    if any(name.name == "set_config" for name in part.functions):
        yield from _assigned(body)
    if any(name.name == "pg_prepared_statements" for name in part.relations):
        yield Effect(Kind.NAMES_PREPARED)
    if any(name.name in _BY_PID for name in part.relations):
        yield Effect(Kind.SIGNAL)


def _of_query(body: Node) -> Iterator[Effect]:
    """EXPLAIN and CREATE TABLE AS of a statement that is named."""
    query = body.get("query", {})
    if "ExecuteStmt" in query:
        yield Effect(Kind.EXECUTE, query["ExecuteStmt"].get("name", ""))
    elif "CreateTableAsStmt" in query:
        yield from _of_query(query["CreateTableAsStmt"])


def may_advance(part: Part) -> bool:
    """Whether a sequence may be advanced: by name, by a default, or by a function of the user."""
    if any("i" in write.actions for write in part.writes):
        return True
    return any(name.schema != "pg_catalog" and name.name in _ADVANCE for name in part.functions)


def _call(name: Name) -> Iterator[Effect]:
    if name.schema not in {"", "pg_catalog"}:
        yield Effect(Kind.CALL, str(name))
    elif name.name in _FUNCTIONS:
        yield Effect(_FUNCTIONS[name.name])
    elif name.name != "set_config":
        # One that is not Postgres's own, for all that the text says; the catalogue knows.
        yield Effect(Kind.CALL, str(name))


_PID: Final = "pg_backend_pid"


def _only_left_out(body: Node) -> bool:
    """Whether the own pid is only compared by `<>`, as by who looks at all other backends: it does
    not become known by that."""
    stack: list[Any] = [body]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            compared = node.get("A_Expr", {})
            if _name(compared.get("name", [])) == "<>":
                sides = (compared.get("lexpr", {}), compared.get("rexpr", {}))
                stack.extend(side for side in sides if not _is_pid(side))
            elif _is_pid(node):
                return False
            else:
                stack.extend(node.values())
    return True


def _is_pid(node: Node) -> bool:
    return _name(node.get("FuncCall", {}).get("funcname", [])) == _PID


def _assigned(body: Node) -> Iterator[Effect]:
    """Every set_config, wherever it stands. One that is the whole of a SELECT is sure to run."""
    stack: list[Any] = [body]
    sure = _is_one_call(body)
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(reversed(node))
        elif isinstance(node, dict):
            call = node.get("FuncCall")
            if call and _name(call.get("funcname", [])) == "set_config":
                yield _set_config(call.get("args", []), sure=sure)
            stack.extend(value for value in node.values() if isinstance(value, (dict, list)))


def _set_config(args: list[Node], *, sure: bool) -> Effect:
    name = _text(args[0]) if len(args) == 3 else None
    local = _boolean(args[2]) if len(args) == 3 else None
    if name is None or local is None:
        return Effect(Kind.SET_UNKNOWN)
    name = name.lower()
    if name in _ROLES:
        return Effect(Kind.ROLE, name)
    if local:
        return Effect(Kind.SET_LOCAL, name)
    if sure and args[1].get("TypeCast", {}).get("arg", args[1]).get("A_Const", {}).get("isnull"):
        return Effect(Kind.RESET, name)
    known = sure and ("A_Const" in args[1] or "ParamRef" in args[1] or _cast_of(args[1]))
    return Effect(Kind.SET if known else Kind.SET_UNKNOWN, name)


def _is_one_call(body: Node) -> bool:
    """SELECT f(…) with nothing that would be done again with it; asyncpg asks current_setting."""
    if set(body) - {"targetList", "limitOption", "op"}:
        return False
    values = [target.get("ResTarget", {}).get("val", {}) for target in body.get("targetList", [])]
    names = [_name(value.get("FuncCall", {}).get("funcname", [])) for value in values]
    return all(names) and len(names) - names.count("current_setting") == 1


def _set(body: Node) -> Iterator[Effect]:
    kind, name = body.get("kind"), body.get("name", "").lower()
    local = body.get("is_local", False)
    if kind == "VAR_RESET_ALL":
        yield Effect(Kind.RESET_ALL)
    elif kind == "VAR_SET_MULTI":
        # SET TRANSACTION ends with the transaction; SNAPSHOT, too.
        if name == "session characteristics":
            for option in body.get("args", []):
                setting = option["DefElem"]["defname"]
                yield Effect(Kind.SET, f"default_{setting}")
    elif name in _ROLES:
        resets = kind in {"VAR_RESET", "VAR_SET_DEFAULT"} or _is_none(name, body)
        if not local:
            yield Effect(Kind.RESET_ROLE if resets else Kind.ROLE, name)
    elif name in OF_TRANSACTION:
        return
    elif name == "seed":
        yield Effect(Kind.SEED)
    elif local:
        yield Effect(Kind.SET_LOCAL, name)
    elif kind in {"VAR_RESET", "VAR_SET_DEFAULT"}:
        yield Effect(Kind.RESET, name)
    elif kind == "VAR_SET_CURRENT":
        yield Effect(Kind.SET_UNKNOWN, name)
    else:
        yield Effect(Kind.SET, name)


def _is_none(name: str, body: Node) -> bool:
    args = body.get("args", [])
    return name == "role" and len(args) == 1 and _text(args[0]) == "none"


def _transaction(body: Node) -> Iterator[Effect]:
    kind = _TRANSACTIONS.get(body.get("kind", ""))
    if kind is None:
        # COMMIT PREPARED and ROLLBACK PREPARED are about another transaction.
        return
    if body.get("chain"):
        kind = Kind.COMMIT_AND_CHAIN if kind is Kind.COMMIT else Kind.ROLLBACK_AND_CHAIN
    yield Effect(kind, body.get("savepoint_name", ""))


def _discard(body: Node) -> Iterator[Effect]:
    kind = _DISCARDS.get(body.get("target", ""))
    if kind is not None:
        yield Effect(kind)


def _one(kind: Kind, key: str) -> Callable[[Node], Iterator[Effect]]:
    """Reads a statement with one effect, whose name stands below `key`."""

    def read(body: Node) -> Iterator[Effect]:
        yield Effect(kind, body.get(key, ""))

    return read


def _unlisten(body: Node) -> Iterator[Effect]:
    name = body.get("conditionname", "")
    yield Effect(Kind.UNLISTEN if name else Kind.UNLISTEN_ALL, name)


def _deallocate(body: Node) -> Iterator[Effect]:
    name = body.get("name", "")
    yield Effect(Kind.DEALLOCATE if name else Kind.DEALLOCATE_ALL, name)


def _declare(body: Node) -> Iterator[Effect]:
    yield Effect(Kind.DECLARE, body.get("portalname", ""))
    if body.get("options", 0) & _OPENING_HOLD:
        yield Effect(Kind.HOLD, body.get("portalname", ""))


def _close(body: Node) -> Iterator[Effect]:
    name = body.get("portalname", "")
    yield Effect(Kind.CLOSE if name else Kind.CLOSE_ALL, name)


def _do(body: Node) -> Iterator[Effect]:
    yield Effect(Kind.CODE)
    for option in body.get("args", []):
        argument = option.get("DefElem", {}).get("arg", {})
        yield from of_source(sources.read(argument.get("String", {}).get("sval", "")))


def of_source(source: sources.Source) -> Iterator[Effect]:
    """What code may do that is not found when it is looked for."""
    if source.seeds:
        yield Effect(Kind.SEED)
    if source.hides:
        yield Effect(Kind.SNAPSHOT)
    for name in sorted(source.dotted):
        yield Effect(Kind.MAY_SET, name)


def _load(_body: Node) -> Iterator[Effect]:
    yield Effect(Kind.LOAD)


_READERS: Final = {
    "VariableSetStmt": _set,
    "TransactionStmt": _transaction,
    "DiscardStmt": _discard,
    "ListenStmt": _one(Kind.LISTEN, "conditionname"),
    "NotifyStmt": _one(Kind.NOTIFY, "conditionname"),
    "UnlistenStmt": _unlisten,
    "PrepareStmt": _one(Kind.PREPARE, "name"),
    "ExecuteStmt": _one(Kind.EXECUTE, "name"),
    "DeallocateStmt": _deallocate,
    "DeclareCursorStmt": _declare,
    "FetchStmt": _one(Kind.FETCH, "portalname"),
    "ClosePortalStmt": _close,
    "LoadStmt": _load,
}


def _created(kind: str, body: Node) -> list[Node]:
    """RangeVars that come into being."""
    if kind == "ExplainStmt":
        kind, body = next(iter(body.get("query", {}).items()), ("", {}))
    if kind in {"CreateTableAsStmt", "SelectStmt"}:
        into = body.get("into") or body.get("intoClause") or {}
        return [into.get("rel", {})]
    if kind not in _CREATES:
        return []
    return [body[key] for key in ("relation", "view", "sequence") if key in body]


_DEFINING: Final = frozenset(
    {"CreateStmt", "AlterTableStmt", "ViewStmt", "CreateFunctionStmt", "DoStmt", "CreateTrigStmt"}
)

_CREATES: Final = frozenset({"CreateStmt", "ViewStmt", "CreateSeqStmt", "CreateForeignTableStmt"})


def _name(parts: list[Node]) -> str:
    """The last word of a name that is not qualified, or by pg_catalog."""
    words = [part["String"].get("sval", "") for part in parts if "String" in part]
    return words[-1] if words and words[:-1] in ([], ["pg_catalog"]) else ""


def _cast_of(node: Node) -> bool:
    inner = node.get("TypeCast", {}).get("arg", {})
    return "A_Const" in inner or "ParamRef" in inner


def _text(node: Node) -> str | None:
    """A literal's text, also behind a cast."""
    node = node.get("TypeCast", {}).get("arg", node)
    value = node.get("A_Const", {}).get("sval")
    return None if value is None else str(value.get("sval", ""))


def _boolean(node: Node) -> bool | None:
    """A literal's truth; pg_query leaves out what is false."""
    node = node.get("TypeCast", {}).get("arg", node)
    constant = node.get("A_Const")
    if constant is None:
        return None
    if "boolval" in constant:
        return bool(constant["boolval"].get("boolval", False))
    word = str(constant.get("sval", {}).get("sval", "")).strip().lower()
    if word and any(full.startswith(word) for full in ("true", "yes", "on", "1")) and word != "o":
        return True
    if word and any(full.startswith(word) for full in ("false", "no", "off", "0")) and word != "o":
        return False
    return None
