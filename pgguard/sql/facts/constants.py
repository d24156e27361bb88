"""Expressions that do not depend on a row, and the columns that others are compared with.

Laws: nothing here knows a database, so an expression with functions is a constant with the names
whose volatility decides; casts keep identity only where they are injective (F3 of tenancy.md);
walks are iterative.
"""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import Any, Final

from pgguard.sql.scopes import Node, name_of
from pgguard.sql.statement import NULL, Constant, Name

_ROW_DEPENDENT: Final = frozenset(
    {
        "A_Star",
        "ColumnRef",
        "CurrentOfExpr",
        "GroupingFunc",
        "MultiAssignRef",
        "SetToDefault",
        "SubLink",
        "agg_star",
        "over",
    }
)
_TEXT: Final = frozenset({"text", "varchar"})
_FAMILIES: Final = {
    "uuid": "uuid",
    "int2": "integer",
    "int4": "integer",
    "int8": "integer",
    "numeric": "integer",
}
_DETERMINISTIC: Final = frozenset({"C", "POSIX", "default", "ucs_basic"})
_LONGEST: Final = 256
_MOST_ELEMENTS: Final = 64
_ELEMENT: Final = re.compile(r'"((?:[^"\\]|\\.)*)(?:"|\\?\Z)|[^,{}"\s][^,{}"]*', re.DOTALL)
"""An element of an array literal, nested ones too; one that is open ends with the text, or every
quote would be tried to the end."""
_BOUNDS: Final = re.compile(r"\A\s*(?:\[[^\]]*\])+\s*=")


def constant(node: Node) -> Constant | None:
    """The constant that an expression is, or None if it depends on a row."""
    kind, body = _single(node)
    if kind == "ParamRef":
        return Constant("parameter", str(body.get("number", 0)))
    if kind == "A_Const":
        return _literal(body)
    if kind == "TypeCast":
        inner = constant_of_cast(body)
        if inner is not None:
            return inner
    if kind == "FuncCall" and body["funcname"]:
        setting = _setting(body)
        if setting is not None:
            return setting
    return _expression(node)


def constant_of_cast(body: Node) -> Constant | None:
    """A cast value that is still the value itself: its cast is to an identity's type."""
    depth = 0
    while depth < 8:
        kind, inner = _single(body.get("arg", {}))
        if kind == "A_Const" and inner.get("isnull"):
            return NULL
        if family(body.get("typeName", {})) is None:
            return None
        if kind == "TypeCast":
            body = inner
            depth += 1
            continue
        if kind in {"ParamRef", "A_Const", "FuncCall"}:
            return constant({kind: inner})
        return None
    return None


def family(type_name: Node) -> str | None:
    """`` for text, a family's name, or None if a cast to the type may merge values."""
    if type_name.get("typmods") or type_name.get("arrayBounds") or type_name.get("setof"):
        return None
    name = name_of(type_name.get("names", []))
    if name.schema not in {"", "pg_catalog"}:
        return None
    return "" if name.name in _TEXT else _FAMILIES.get(name.name)


def is_deterministic(collation: str) -> bool:
    """Whether values that the collation holds to be equal are the same."""
    return collation in _DETERMINISTIC


def array_of(node: Node) -> Constant | None:
    """The constant that stands for all elements of a constant array.

    Of a literal (`'{a,b}'`) the value is a JSON list of its different elements, bounded.
    """
    text = node.get("A_Const", {}).get("sval")
    if text is None:
        value = constant(node)
        return value if value is None or value == NULL else value._replace(kind="array")
    elements: dict[str, None] = {}
    for match in _ELEMENT.finditer(_BOUNDS.sub("", text.get("sval", ""))):
        word = match.group()
        if word.startswith('"'):
            elements[re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL)] = None
        elif word.upper() != "NULL":
            elements[word.strip()] = None
        if len(elements) >= _MOST_ELEMENTS:
            break
    place = node["A_Const"].get("location", 0)
    return Constant("array", json.dumps(list(elements)), (), place)


def _single(node: Node) -> tuple[str, Any]:
    for kind, body in node.items():
        return kind, body
    return "", {}


def _literal(body: Node) -> Constant:
    if body.get("isnull"):
        return NULL
    for kind in ("sval", "ival", "fval", "boolval", "bsval"):
        if kind in body:
            inner = body[kind]
            raw = inner.get(kind, {"ival": 0, "boolval": False}.get(kind, ""))
            text = ("t" if raw else "f") if kind == "boolval" else str(raw)
            value = text if len(text) <= _LONGEST else _digest([text])
            return Constant("literal", value, (), body.get("location", 0))
    return Constant("expression", "")


def _setting(body: Node) -> Constant | None:
    """`current_setting('name' [, missing_ok])`."""
    name = name_of(body["funcname"])
    arguments = body.get("args", [])
    if name.name != "current_setting" or name.schema not in {"", "pg_catalog"} or not arguments:
        return None
    first = arguments[0].get("A_Const", {}).get("sval")
    if first is None:
        return None
    return Constant("setting", first.get("sval", "").lower(), (), body.get("location", 0))


def _expression(node: Node) -> Constant | None:
    """A compound expression: None as soon as something in it depends on a row."""
    functions: list[Name] = []
    signature: list[str] = []
    place = 0
    stack: list[Any] = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            for key, value in item.items():
                if key in _ROW_DEPENDENT:
                    return None
                if key == "location":
                    place = max(place, value)
                    continue
                if key == "funcname":
                    functions.append(name_of(value))
                signature.append(key)
                stack.append(value)
        else:
            signature.append(str(item))
    return Constant("expression", _digest(signature), tuple(dict.fromkeys(functions)), place)


def _digest(words: list[str]) -> str:
    return blake2b("\0".join(words).encode("utf-8", "replace"), digest_size=12).hexdigest()
