"""What a text does to its session, with the values that it says: for rehearsing, not for relaying.

`session_effects` tells what a proxy has to carry, and keeps no values; here a text is taken as
executed by somebody who wants to know what the next one will see. Laws: pure; what a value is that
the text does not say is None, "not known".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pgguard.sql.facts.constants import constant, family
from pgguard.sql.parse import Unparsed, parse
from pgguard.sql.shape import parameters
from pgguard.sql.statement import NULL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Node = dict[str, Any]


class Command(NamedTuple):
    """One thing that a text does.

    `kind`: `set` (name, value, local), `reset` (name; empty = all), `prepare`, `execute` (with
    `arguments`), `deallocate`, `declare`, `fetch`, `close` (name), `begin`, `commit`, `rollback`,
    `other`.
    """

    kind: str
    name: str = ""
    value: str | None = None
    local: bool = False
    arguments: tuple[str | None, ...] | None = ()
    """None = not all are known."""


class Argument(NamedTuple):
    """What EXECUTE gives a parameter, if the text says it: `value` None = NULL."""

    known: bool
    value: str | None = None


OTHER: Final = Command("other")
_TRANSACTIONS: Final = {
    "TRANS_STMT_BEGIN": "begin",
    "TRANS_STMT_START": "begin",
    "TRANS_STMT_COMMIT": "commit",
    "TRANS_STMT_PREPARE": "commit",
    "TRANS_STMT_ROLLBACK": "rollback",
}
_NAMED: Final = {
    "PrepareStmt": ("prepare", "name"),
    "DeallocateStmt": ("deallocate", "name"),
    "DeclareCursorStmt": ("declare", "portalname"),
    "FetchStmt": ("fetch", "portalname"),
    "ClosePortalStmt": ("close", "portalname"),
}


def commands(text: str) -> list[Command]:
    """What a text does, in order; one entry for a statement that does nothing to its session."""
    tree = parse(text)
    if isinstance(tree, Unparsed):
        return []
    return [command for entry in tree for command in _of(*next(iter(entry["stmt"].items())))]


def arguments(text: str, prepared: str) -> list[Argument]:
    """What a text that is one EXECUTE gives the parameters of what a PREPARE (or Parse) prepared.

    A value is known only if it stays what it is: a declared type such as `"char"` cuts it off.
    """
    given = [_argument(node) for node in _only(text, "ExecuteStmt").get("params", [])]
    types = [node["TypeName"] for node in _only(prepared, "PrepareStmt").get("argtypes", [])]
    for number, type_name in enumerate(types[: len(given)]):
        if family({**type_name, "typmods": []}) is None and given[number].value is not None:
            given[number] = Argument(False)
    return given


def _only(text: str, kind: str) -> Node:
    """The only statement of a text, if it is of that kind; else nothing."""
    tree = parse(text)
    if isinstance(tree, Unparsed) or len(tree) != 1:
        return {}
    body: Node = tree[0]["stmt"].get(kind, {})
    return body


def bound(text: str, values: Sequence[str | None]) -> str:
    """The text with its parameters written out as literals; those without a value stay."""
    written = ["NULL" if v is None else "'" + v.replace("'", "''") + "'" for v in values]
    out: list[str] = []
    at = 0
    data = text.encode("utf-8", "surrogatepass")
    for start, end, number in parameters(data):
        if number <= len(written):
            out += [data[at:start].decode("utf-8", "surrogatepass"), f" {written[number - 1]} "]
            at = end
    out.append(data[at:].decode("utf-8", "surrogatepass"))
    return "".join(out)


def _of(kind: str, body: Node) -> Iterator[Command]:
    if kind in _NAMED:
        what, key = _NAMED[kind]
        yield Command(what, body.get(key, ""))
    elif kind == "ExecuteStmt":
        yield _execute(body)
    elif kind == "ExplainStmt":
        inner_kind, inner = next(iter(body.get("query", {}).items()), ("", {}))
        yield _execute(inner) if inner_kind == "ExecuteStmt" else OTHER
    elif kind == "TransactionStmt":
        yield Command(_TRANSACTIONS.get(body.get("kind", ""), "other"))
    elif kind == "VariableSetStmt":
        yield _set(body)
    elif kind == "DiscardStmt":
        yield Command("reset") if body.get("target") == "DISCARD_ALL" else OTHER
    else:
        calls = list(_configured(body)) if kind == "SelectStmt" else []
        yield from calls or [OTHER]


def _execute(body: Node) -> Command:
    values = [_value(node) for node in body.get("params", [])]
    known = all(is_known for is_known, _ in values)
    arguments = tuple(value for _, value in values) if known else None
    return Command("execute", body.get("name", ""), arguments=arguments)


def _argument(node: Node) -> Argument:
    """A literal, or one behind a cast that leaves it what it is."""
    value = constant(node)
    if value == NULL:
        return Argument(True)
    if value is None or value.kind != "literal":
        return Argument(False)
    while "TypeCast" in node:
        node = node["TypeCast"]["arg"]
    fraction = node["A_Const"].get("fval", {}).get("fval", "")
    if fraction and not fraction.lstrip("-").isdigit():
        # It may be rounded.
        return Argument(False)
    return Argument(*_value(node))


def _set(body: Node) -> Command:
    name, kind = body.get("name", "").lower(), body.get("kind", "")
    if kind in {"VAR_RESET", "VAR_RESET_ALL", "VAR_SET_DEFAULT"}:
        return Command("reset", name, local=body.get("is_local", False))
    if kind != "VAR_SET_VALUE":
        return OTHER
    values = [_value(node) for node in body.get("args", [])]
    known = all(is_known for is_known, _ in values)
    value = ", ".join(value or "" for _, value in values) if known else None
    return Command("set", name, value, body.get("is_local", False))


def _configured(body: Node) -> Iterator[Command]:
    """set_config('name', value, local), wherever it stands."""
    stack: list[Any] = [body]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(reversed(node))
        elif isinstance(node, dict):
            call = node.get("FuncCall", {})
            words = [part.get("String", {}).get("sval") for part in call.get("funcname", [])]
            arguments = call.get("args", [])
            if words[-1:] == ["set_config"] and len(arguments) == 3:
                (_, name), (_, value), (_, local) = map(_value, arguments)
                yield Command("set", (name or "").lower(), value, local == "true")
            stack.extend(value for value in node.values() if isinstance(value, (dict, list)))


_TRUE: Final = re.compile(r"t(r(u(e)?)?)?|y(e(s)?)?|on|1", re.IGNORECASE)


def _value(node: Node) -> tuple[bool, str | None]:
    """Whether an expression says its value, and the value as text; NULL is None."""
    if "TypeCast" in node:
        cast = node["TypeCast"]
        known, value = _value(cast.get("arg", {}))
        names = [n["String"].get("sval") for n in cast.get("typeName", {}).get("names", [])]
        if names[-1:] == ["bool"] and value is not None:
            value = "true" if _TRUE.fullmatch(value.strip()) else "false"
        return known, value
    constant = node.get("A_Const")
    if constant is None:
        return False, None
    for key in ("sval", "fval", "bsval"):
        if key in constant:
            return True, str(constant[key].get(key, ""))
    if "ival" in constant:
        return True, str(constant["ival"].get("ival", 0))
    if "boolval" in constant:
        return True, "true" if constant["boolval"].get("boolval") else "false"
    return True, None
