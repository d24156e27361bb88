"""Tenant constants as values: compared by type, and shown without their content.

Laws: two literals count as different only if they are different values of the column's type; no
literal is ever shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgguard.sql.statement import Constant

_INTEGERS: Final = frozenset({"int2", "int4", "int8", "numeric"})


def differ(literals: Iterable[str], type_name: str) -> bool:
    """Whether the literals are more than one value of the type (a name in pg_type)."""
    return len({_normal(literal, type_name) for literal in literals}) > 1


def show(values: Iterable[Constant]) -> str:
    """Constants in words: `$1`, `current_setting('app.tenant_id')`, `a literal`."""
    words = sorted({_word(value) for value in values})
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]


def _word(value: Constant) -> str:
    if value.kind == "parameter":
        return f"${value.value}"
    if value.kind == "setting":
        return f"current_setting('{value.value}')"
    if value.kind == "resolved":
        return f"the tenant that {value.value.partition(chr(0))[0]} names"
    if value.kind == "null":
        return "NULL"
    return {
        "array": "an element of an array",
        "default": "the default",
        "expression": "a constant expression",
        "more": "one of further constants",
        "opaque": "a value of the row",
    }.get(value.kind, "a literal")


def _normal(literal: str, type_name: str) -> str:
    if type_name == "uuid":
        return literal.strip("{}").replace("-", "").lower()
    if type_name in _INTEGERS:
        try:
            return str(int(literal))
        except ValueError:
            return literal.strip()
    if type_name == "citext":
        return literal.lower()
    if type_name == "bpchar":
        return literal.rstrip(" ")
    return literal
