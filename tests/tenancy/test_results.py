"""Rows of two tenants in a result, whole and in pieces, in both formats."""

from __future__ import annotations

import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgguard.tenancy.ownership import Owners
from pgguard.tenancy.results import Column, Look, sniffed
from pgguard.wire.scan import message

ITEMS = ("public", "items")
COLUMNS = {
    (900, 1): Column(ITEMS, "id", "items.id", "int4", tenant=False),
    (900, 3): Column(ITEMS, "tenant_id", "items.tenant_id", "uuid", tenant=True),
}
A, B = UUID(int=1), UUID(int=2)


def description(*columns: tuple[int, int]) -> bytes:
    fields = b"".join(b"x\0" + struct.pack(">IHIhih", *at, 25, -1, -1, 0) for at in columns)
    return message(0x54, struct.pack(">H", len(columns)) + fields)


def row(*values: bytes | None) -> bytes:
    fields = b"".join(
        struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value
        for value in values
    )
    return message(0x44, struct.pack(">H", len(values)) + fields)


def ready() -> bytes:
    return message(0x5A, b"I")


def look(*expected: UUID) -> Look:
    return Look(COLUMNS, Owners(), frozenset(map(str, expected)))


TWO = (
    description((900, 1), (900, 3))
    + row(b"1", str(A).encode())
    + row(b"2", str(B).encode())
    + ready()
)


def test_rows_of_two_tenants_are_proof_however_they_are_cut() -> None:
    for cut in range(len(TWO)):
        one = look()
        assert (cut > 0 and one.feed(TWO[:cut])) or one.feed(TWO[cut:])
        assert one.proof() == "rows of 2 tenants came back in items.tenant_id"


def test_a_row_of_another_tenant_than_was_asked_for_is_proof() -> None:
    one = look(B)
    one.feed(description((900, 3)) + row(A.bytes) + ready())
    assert one.proof().startswith("a row of another tenant")


@pytest.mark.parametrize(
    "answer",
    [
        description((900, 3)) + row(str(A).encode()) + row(A.bytes) + row(None) + ready(),
        description((0, 0), (901, 3)) + row(b"a", b"b") + row(b"c", b"d") + ready(),
        description((900, 1)) + row(b"1") + row(b"2") + ready(),
        description((900, 3)) + row(b"?") + row(b"!") + ready(),
        message(0x45, b"SERROR\0\0") + ready(),
    ],
)
def test_nothing_is_proved_by_one_tenant_other_columns_or_nonsense(answer: bytes) -> None:
    one = look()
    assert one.feed(answer)
    assert not one.proof()


def test_keys_are_learned_with_their_tenant() -> None:
    owners = Owners()
    Look(COLUMNS, owners, frozenset()).feed(TWO)
    assert owners.of(ITEMS, ("id",), ["2"]) == {str(B)}


@given(st.binary(max_size=400))
def test_no_bytes_make_it_fail(data: bytes) -> None:
    one = look()
    for at in range(0, len(data), 7):
        if one.feed(data[at : at + 7]):
            break


def test_an_integer_is_sniffed_in_both_formats() -> None:
    assert sniffed(b"5", "int8") == sniffed(struct.pack(">q", 5), "int8") == "5"
    assert sniffed(b"xyz", "int8") is None


def test_a_description_of_before_counts_until_another_one_comes() -> None:
    before = look()
    before.describe(description((900, 3))[5:])
    again = look(A)
    again.found = before.found
    again.feed(row(B.bytes) + ready())
    assert again.proof().startswith("a row of another tenant")
    other = look(A)
    other.found = before.found
    other.feed(description((900, 1)) + row(B.bytes) + ready())
    assert not other.proof()


def test_a_description_may_lack_its_formats() -> None:
    fields = b"x\0" + struct.pack(">IHIhi", 900, 1, 25, -1, -1)
    fields += b"y\0" + struct.pack(">IHIhi", 900, 3, 25, -1, -1)
    one = look()
    one.describe(struct.pack(">H", 2) + fields, formats=False)
    assert [column.name if column else "" for column in one.found] == ["id", "tenant_id"]


def test_a_setting_is_compared_as_the_column_is_typed() -> None:
    for text, proof in ((str(A).upper(), False), (str(B), True)):
        one = Look(COLUMNS, Owners(), frozenset(), (text,))
        one.feed(description((900, 3)) + row(str(A).encode()) + ready())
        assert bool(one.proof()) is proof
