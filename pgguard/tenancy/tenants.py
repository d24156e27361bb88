"""The tenants of one execution: what its parameters, literals and settings are as values.

A value's canonical text makes it comparable: `5` and binary int8 5 are `5`, every spelling of a
uuid is the one with hyphens in lower case. Laws: pure; a parameter is read by its own type, if that
is known, and then as a value of the column it goes with; what cannot be decoded is compared by its
bytes, and only with others of its kind, and says so (`sure`); NULL names nobody.
"""

from __future__ import annotations

import json
import re
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from pgguard.sql.literals import literal_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pgguard.sql.statement import Constant, TenantValue

INTEGERS: Final = frozenset({"int2", "int4", "int8"})
TEXTS: Final = frozenset({"text", "varchar", "bpchar", "name", "citext", "unknown", ""})
_TYPES: Final = {
    2950: "uuid",
    21: "int2",
    23: "int4",
    20: "int8",
    25: "text",
    1043: "varchar",
    1042: "bpchar",
    19: "name",
    705: "unknown",
}
_ARRAYS: Final = {
    2951: "uuid",
    1005: "int2",
    1007: "int4",
    1016: "int8",
    1009: "text",
    1015: "varchar",
    1014: "bpchar",
    1003: "name",
}
"""OIDs of pg_type: of an array its elements' type."""
_WIDTHS: Final = {2: Struct(">h"), 4: Struct(">i"), 8: Struct(">q")}
_array_head = Struct(">iiI").unpack_from
_length = Struct(">i").unpack_from
_HEX: Final = re.compile(r"[0-9a-fA-F]{32}\Z")
_ELEMENT: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|[^,{}"\s][^,{}"]*')
MOST_ELEMENTS: Final = 1000
"""Of an array that are looked at."""


class Tenant(NamedTuple):
    """One value."""

    key: str
    """Its canonical text; of what cannot be decoded its bytes."""
    sure: bool = True


class Parameter(NamedTuple):
    """A value as Bind brings it; `raw` None = NULL, `oid` 0 = its type is not known."""

    raw: bytes | None
    binary: bool = False
    oid: int = 0


class Given(NamedTuple):
    """What one execution knows beside its statement."""

    text: bytes | None = None
    """The very text, for its literals; None if only a text of its shape is known."""
    parameters: Sequence[Parameter | None] = ()
    """By number from $1, as many as are known; None = not known."""
    setting: Callable[[str], str | None] = lambda _: None
    """The value of a tenant setting; None = not known or not set."""


def canonical(text: str, type_name: str) -> str:
    """The text of a value of that type as all spellings of it share it."""
    if type_name == "uuid":
        digits = text.strip().strip("{}").replace("-", "")
        return str(UUID(hex=digits)) if _HEX.match(digits) else text.strip().lower()
    if type_name in INTEGERS or type_name == "numeric":
        try:
            return str(int(text))
        except ValueError:
            return text.strip()
    if type_name == "citext":
        return text.lower()
    return text.rstrip(" ") if type_name == "bpchar" else text


def read(value: Parameter, type_name: str) -> Tenant | None:
    """A parameter as a value of a column's type; None for NULL."""
    raw = value.raw
    if raw is None:
        return None
    own = _TYPES.get(value.oid, type_name if value.oid == 0 else "")
    if not value.binary:
        return Tenant(canonical(raw.decode("utf-8", "replace"), type_name))
    return _binary(raw, own, type_name, known=value.oid == 0 or value.oid in _TYPES)


def _binary(raw: bytes, own: str, type_name: str, *, known: bool) -> Tenant:
    if own == "uuid" and len(raw) == 16:
        return Tenant(canonical(str(UUID(bytes=raw)), type_name))
    if own in INTEGERS and len(raw) in _WIDTHS:
        return Tenant(canonical(str(_WIDTHS[len(raw)].unpack(raw)[0]), type_name))
    if known and own in TEXTS and 0 not in raw:
        try:
            return Tenant(canonical(raw.decode(), type_name))
        except UnicodeDecodeError:
            pass
    return Tenant(f"\\x{raw.hex()}", sure=False)


def read_array(value: Parameter, type_name: str) -> list[Tenant]:
    """The elements of an array parameter, NULLs left out."""
    raw = value.raw
    if raw is None:
        return []
    if not value.binary:
        text = raw.decode("utf-8", "replace")
        return [Tenant(canonical(word, type_name)) for word in _elements(text)]
    try:
        dimensions, _, oid = _array_head(raw)
        own = _TYPES.get(oid, "")
        if not 0 <= dimensions <= 6:
            raise ValueError
        at = 12 + 8 * dimensions
        found: list[Tenant] = []
        while at < len(raw) and len(found) < MOST_ELEMENTS:
            size = _length(raw, at)[0]
            at += 4
            if size >= 0:
                piece = raw[at : at + size]
                found.append(_binary(piece, own, type_name, known=oid in _TYPES))
                at += size
    except (ValueError, StructError):
        return [Tenant(f"\\x{raw.hex()}", sure=False)]
    return found


def _elements(text: str) -> Iterator[str]:
    for number, match in enumerate(_ELEMENT.finditer(text)):
        if number >= MOST_ELEMENTS:
            return
        word = match.group()
        if word.startswith('"'):
            yield re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL)
        elif word.upper() != "NULL":
            yield word.strip()


def tenants(value: TenantValue, given: Given) -> list[Tenant]:
    """What the constants of one occurrence are in this execution, as far as known."""
    found: list[Tenant] = []
    for constant in value.constants:
        found += _values(constant, value.type, given)
    return found


def values(constants: frozenset[Constant], type_name: str, given: Given) -> list[Tenant]:
    """The same for the constants of a key."""
    return [one for constant in constants for one in _values(constant, type_name, given)]


def _values(constant: Constant, type_name: str, given: Given) -> list[Tenant]:
    kind, word = constant.kind, constant.value
    if kind == "parameter" or (kind == "array" and word.isdigit() and len(word) < 6):
        parameter = _parameter(int(word), given)
        if parameter is None:
            return []
        if kind == "array" or parameter.oid in _ARRAYS:
            return read_array(parameter, type_name)
        one = read(parameter, type_name)
        return [one] if one is not None else []
    if kind == "literal":
        text = word if given.text is None else literal_at(given.text, constant.place)
        return [Tenant(canonical(text, type_name))] if text is not None else []
    if kind == "array" and word.startswith("["):
        return [Tenant(canonical(one, type_name)) for one in json.loads(word)]
    if kind == "setting":
        told = given.setting(word)
        return [Tenant(canonical(told, type_name))] if told else []
    return []


class Named(NamedTuple):
    """All tenants that one execution names."""

    statement: dict[str, str]
    """Key → how it is named, of the statement that decided."""
    others: dict[str, str]
    """The same of further statements in its text."""
    sure: bool
    """Whether every value could be decoded."""

    @property
    def crosses(self) -> bool:
        """Whether one statement names two."""
        return len(self.statement) > 1


def named(
    listed: Sequence[TenantValue], given: Given, settings: Mapping[str, str] | None = None
) -> Named:
    """The tenants of an execution, and of the tenant settings that its session has made.

    A statement that creates tenants names none by that. Values that cannot be decoded are compared
    only with one another.
    """
    statement: dict[str, str] = {}
    others: dict[str, str] = {}
    sure = True
    known: dict[str, str] = {}
    doubtful: dict[str, str] = {}
    for value in listed:
        if value.use == "create":
            continue
        for one in tenants(value, given):
            side = known if one.sure else doubtful
            side.setdefault(one.key, value.use)
            (statement if value.relation >= 0 else others).setdefault(one.key, value.use)
            sure = sure and one.sure
    if known and doubtful:
        # Nobody can say whether they are the same.
        statement = {key: use for key, use in statement.items() if key in known}
        others = {key: use for key, use in others.items() if key in known}
    used = next((one.type for one in listed if one.use != "create"), "")
    if statement and not doubtful:
        for name, text in (settings or {}).items():
            if text:
                statement.setdefault(canonical(text, used), f"setting {name}")
    return Named(statement, others, sure)


def nobody(listed: Sequence[TenantValue], given: Given) -> bool:
    """Whether the tenant of a new row is a parameter that is NULL."""
    return any(
        constant.kind == "parameter"
        and (parameter := _parameter(int(constant.value), given)) is not None
        and parameter.raw is None
        for value in listed
        if value.use == "insert"
        for constant in value.constants
    )


def nulls(numbers: Sequence[int], given: Given) -> frozenset[int] | None:
    """Which of these parameters are NULL; None if that is not known of all.

    Of a row IS NULL and IS NOT NULL ask its fields: what may be one, by its bytes, is not known.
    """
    found = [(number, _parameter(number, given)) for number in numbers]
    if any(parameter is None or _may_be_row(parameter) for _, parameter in found):
        return None
    return frozenset(number for number, one in found if one is not None and one.raw is None)


def unread(listed: Sequence[TenantValue], given: Given) -> bool:
    """Whether a parameter that names a tenant is not known."""
    return any(
        _parameter(int(constant.value), given) is None
        for value in listed
        if value.use != "create"
        for constant in value.constants
        if constant.kind in {"parameter", "array"} and constant.value.isdigit()
    )


def _parameter(number: int, given: Given) -> Parameter | None:
    return given.parameters[number - 1] if 0 < number <= len(given.parameters) else None


def _may_be_row(value: Parameter) -> bool:
    raw = value.raw
    if raw is None or value.oid in _TYPES or value.oid in _ARRAYS:
        return False
    if not value.binary:
        return raw.strip()[:1] == b"("
    try:
        at = 4
        for _ in range(_length(raw, 0)[0]):
            at += 8 + max(0, _length(raw, at + 4)[0])
            if at > len(raw):
                return False
    except StructError:
        return False
    return at == len(raw)


def single(listed: Sequence[TenantValue]) -> int:
    """The parameter that alone names the tenant, in every place; 0 = it is not as simple."""
    numbers = {
        constant.value if constant.kind == "parameter" else ""
        for value in listed
        for constant in value.constants
    }
    types = {value.type for value in listed}
    word = numbers.pop() if len(numbers) == len(types) == 1 else ""
    creates = any(value.use in {"create", "insert"} for value in listed)
    return int(word) if word.isdigit() and not creates else 0


def varies(listed: Sequence[TenantValue]) -> bool:
    """Whether the values of an execution decide if one tenant is named: they must be looked at."""
    different: set[tuple[str, str]] = set()
    by_value = False
    for value in listed:
        if value.use == "create":
            continue
        for constant in value.constants:
            if constant.kind == "array" and not constant.value.startswith("["):
                return True
            if constant.kind in {"parameter", "setting", "literal"}:
                place = str(constant.place) if constant.kind == "literal" else constant.value
                different.add((constant.kind, place))
                by_value = by_value or constant.kind != "literal"
    return by_value and len(different) > 1


def same(text: str, key: str) -> bool:
    """Whether a setting's text may be the tenant with that key."""
    return key in {text, canonical(text, "uuid"), canonical(text, "int8")}
