"""What SET and set_config give to a setting, with its value.

Laws: in the order of the text; a value is a text, a parameter's number, or not known; RESET gives
the empty text, which names no tenant. Such texts share nothing by their shape.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pgguard.sql.parse import Unparsed, parse
from pgguard.sql.scopes import name_of

Node = dict[str, Any]


class Assignment(NamedTuple):
    """`value` is what it becomes: a text, the number of a parameter, None = not known."""

    name: str
    value: str | int | None
    local: bool


def assignments(text: bytes) -> tuple[Assignment, ...]:
    """Of all statements of a text."""
    try:
        tree = parse(text.decode())
    except UnicodeDecodeError:
        return ()
    if isinstance(tree, Unparsed):
        return ()
    found: list[Assignment] = []
    stack: list[Any] = [entry["stmt"] for entry in reversed(tree)]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(reversed(node))
            continue
        if not isinstance(node, dict):
            continue
        if "VariableSetStmt" in node:
            found += _set(node["VariableSetStmt"])
        elif "FuncCall" in node:
            found += _set_config(node["FuncCall"])
        stack.extend(value for value in node.values() if isinstance(value, (dict, list)))
    return tuple(found)


def _set(body: Node) -> list[Assignment]:
    name, kind = body.get("name", "").lower(), body.get("kind")
    local = body.get("is_local", False)
    if kind in {"VAR_RESET", "VAR_SET_DEFAULT"} and name:
        return [Assignment(name, "", local)]
    args = body.get("args", [])
    if kind != "VAR_SET_VALUE" or not name:
        return []
    return [Assignment(name, _value(args[0]) if len(args) == 1 else None, local)]


def _set_config(body: Node) -> list[Assignment]:
    args = body.get("args", [])
    if name_of(body.get("funcname", [])).name != "set_config" or len(args) != 3:
        return []
    name = _value(args[0])
    if not isinstance(name, str):
        return []
    local = args[2].get("TypeCast", {}).get("arg", args[2]).get("A_Const", {}).get("boolval")
    return [Assignment(name.lower(), _value(args[1]), bool(local and local.get("boolval")))]


def _value(node: Node) -> str | int | None:
    while "TypeCast" in node:
        node = node["TypeCast"]["arg"]
    if "ParamRef" in node:
        return int(node["ParamRef"].get("number", 0))
    constant = node.get("A_Const")
    if constant is None:
        return None
    if constant.get("isnull"):
        return ""
    for kind in ("sval", "ival", "fval"):
        if kind in constant:
            return str(constant[kind].get(kind, 0 if kind == "ival" else ""))
    return None
