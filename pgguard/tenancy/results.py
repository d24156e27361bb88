"""Tenant columns of results: rows of two tenants, or of another one than was asked for.

RowDescription names the table and the number of each column; of views and expressions it names
none, and they are not looked at. Laws: pure; bounded in rows; values that are not what the column's
type looks like end the look, so that nothing is proved by mistake.
"""

from __future__ import annotations

import re
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import TYPE_CHECKING, Final, NamedTuple

from pgguard.tenancy.tenants import INTEGERS, TEXTS, Parameter, canonical, read

if TYPE_CHECKING:
    from pgguard.tenancy.catalogue import TableName
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.ownership import Owners

ROWS: Final = 1_000
"""Rows of one result that are looked at."""

_header = Struct(">BI").unpack_from
_column = Struct(">IHI").unpack_from
_int16 = Struct(">H").unpack_from
_int32 = Struct(">i").unpack_from
_UUID: Final = re.compile(rb"\{?[0-9a-fA-F-]{32,36}\}?\Z")
_NUMBER: Final = re.compile(rb"-?[0-9]+\Z")
_DESCRIPTION, _ROW, _READY = 0x54, 0x44, 0x5A
_LONGEST: Final = 1 << 20
_AFTER_NAME: Final = 18


class Column(NamedTuple):
    """A column that the model names: of a tenant, or of a table's key."""

    table: TableName
    name: str
    shown: str
    type: str
    tenant: bool


def columns_of(model: Model) -> dict[tuple[int, int], Column]:
    """By table's OID and column's number: tenant columns, and keys of one column."""
    found: dict[tuple[int, int], Column] = {}
    for role in model.roles.values():
        table = role.table
        if not table.oid or role.kind not in {"direct", "root"} or len(role.columns) != 1:
            continue
        keys = {key.columns[0] for key in table.keys if len(key.columns) == 1}
        for column in table.columns:
            tenant = column.name == role.columns[0]
            if tenant or column.name in keys:
                shown = f"{table.shown}.{column.name}"
                found[table.oid, column.number] = Column(
                    table.key, column.name, shown, column.type, tenant
                )
    return found


class Look:
    """At the answer to one statement; `expected` is the tenant that it named, if it is known to be
    one, and `settings` the tenant settings of its session."""

    __slots__ = (
        "_columns",
        "_owners",
        "_rest",
        "_rows",
        "_settings",
        "_skip",
        "expected",
        "found",
        "seen",
    )

    def __init__(
        self,
        columns: dict[tuple[int, int], Column],
        owners: Owners,
        expected: frozenset[str],
        settings: tuple[str, ...] = (),
    ) -> None:
        self._columns, self._owners, self.expected = columns, owners, expected
        self._settings = settings
        self.found: list[Column | None] = []
        """The columns of the result that is coming, by its RowDescription or, where none comes, an
        earlier one of the same statement; empty = nothing in it is looked at."""
        self._rest, self._skip, self._rows = b"", 0, 0
        self.seen: dict[str, set[str]] = {}
        """Tenants by the column they were seen in."""

    def feed(self, data: bytes) -> bool:
        """What Postgres has said, from the boundary of a message on. Returns whether it is over."""
        if self._skip >= len(data):
            self._skip -= len(data)
            return False
        chunk = self._rest + data[self._skip :]
        self._skip, pos, end = 0, 0, 0
        end = len(chunk)
        while end - pos >= 5:
            kind, length = _header(chunk, pos)
            after = pos + 1 + length
            if kind == _READY or length < 4 or self._rows >= ROWS:
                return True
            if after > end:
                if kind not in (_DESCRIPTION, _ROW) or not self._wanted(kind, length):
                    self._skip, self._rest = after - end, b""
                    return False
                break
            try:
                if kind == _DESCRIPTION:
                    self.describe(chunk[pos + 5 : after])
                elif kind == _ROW and self.found and not self._row(chunk[pos + 5 : after]):
                    return True
            except (ValueError, IndexError, StructError):
                return True
            pos = after
        self._rest = chunk[pos:]
        return False

    def _wanted(self, kind: int, length: int) -> bool:
        return length <= _LONGEST and (kind == _DESCRIPTION or bool(self.found))

    def proof(self) -> str:
        """What is proved, in words; empty if nothing is."""
        names = ", ".join(self.seen)
        met = set().union(*self.seen.values())
        if len(met) > 1:
            return f"rows of {len(met)} tenants came back in {names}"
        if len(self.expected) == 1 and met - self.expected:
            return f"a row of another tenant than the statement's came back in {names}"
        return ""

    def describe(self, body: bytes, *, formats: bool = True) -> None:
        """Body of a RowDescription, perhaps without its formats; raises IndexError, ValueError or
        struct.error."""
        found: list[Column | None] = []
        at = 2
        for _ in range(_int16(body, 0)[0]):
            at = body.index(0, at) + 1
            oid, number, _ = _column(body, at)
            found.append(self._columns.get((oid, number)))
            at += _AFTER_NAME if formats else _AFTER_NAME - 2
        tenants = any(one is not None and one.tenant for one in found)
        self.found = found if tenants else []

    def _row(self, body: bytes) -> bool:
        self._rows += 1
        at = 2
        keys: list[tuple[Column, str]] = []
        tenants: dict[TableName, str] = {}
        for column in self.found:
            size = _int32(body, at)[0]
            at += 4
            if column is not None and size >= 0:
                value = sniffed(body[at : at + size], column.type)
                if value is None and column.tenant:
                    return False
                if value is not None and column.tenant:
                    if self._settings:
                        named = {canonical(text, column.type) for text in self._settings}
                        self.expected, self._settings = self.expected | named, ()
                    self.seen.setdefault(column.shown, set()).add(value)
                    tenants[column.table] = value
                elif value is not None:
                    keys.append((column, value))
            at += max(size, 0)
        for column, value in keys:
            if column.table in tenants:
                self._owners.learn(column.table, (column.name,), value, tenants[column.table])
        return True


def sniffed(raw: bytes, type_name: str) -> str | None:
    """A value's canonical text, whichever format it came in; None if it looks like neither."""
    if type_name == "uuid":
        if _UUID.match(raw):
            return canonical(raw.decode(), type_name)
        return read(Parameter(raw, True), type_name).key if len(raw) == 16 else None  # type: ignore[union-attr]
    if type_name in INTEGERS:
        if _NUMBER.match(raw):
            return canonical(raw.decode(), type_name)
        one = read(Parameter(raw, True), type_name)
        return one.key if one is not None and one.sure else None
    if type_name in TEXTS:
        try:
            return canonical(raw.decode(), type_name)
        except UnicodeDecodeError:
            return None
    return None
