"""Tenants as values: decoded from text and binary, compared by type, undecodable ones by bytes."""

from __future__ import annotations

import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgguard.sql.statement import Constant, TenantValue
from pgguard.tenancy.tenants import (
    Given,
    Parameter,
    canonical,
    named,
    nobody,
    nulls,
    read,
    read_array,
    single,
    unread,
    varies,
)

ID = UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
OIDS = {"uuid": 2950, "int2": 21, "int4": 23, "int8": 20, "text": 25, "varchar": 1043}


def tenant(*constants: Constant, kind: str = "text", use: str = "read", at: int = 0) -> TenantValue:
    return TenantValue(frozenset(constants), kind, at, use)


def parameter(number: int) -> Constant:
    return Constant("parameter", str(number))


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        (str(ID).upper(), "uuid", str(ID)),
        ("{" + ID.hex + "}", "uuid", str(ID)),
        ("a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11", "uuid", str(ID)),
        (" +007 ", "int4", "7"),
        ("-0", "int8", "0"),
        ("a ", "bpchar", "a"),
        ("a ", "text", "a "),
        ("A", "citext", "a"),
    ],
)
def test_spellings_of_one_value_have_one_text(text: str, kind: str, expected: str) -> None:
    assert canonical(text, kind) == expected


@given(st.integers(-(2**63), 2**63 - 1))
def test_an_integer_is_the_same_in_every_width_and_in_text(number: int) -> None:
    forms = [Parameter(str(number).encode()), Parameter(struct.pack(">q", number), True, 20)]
    if -(2**31) <= number < 2**31:
        forms.append(Parameter(struct.pack(">i", number), True, 23))
    assert {read(form, "int8") for form in forms} == {read(forms[0], "int8")}


@given(st.uuids())
def test_a_uuid_is_the_same_in_binary_and_in_text(value: UUID) -> None:
    forms = [
        Parameter(value.bytes, True, 2950),
        Parameter(value.bytes, True),
        Parameter(value.hex.encode()),
        Parameter(str(value).upper().encode(), True, 25),
    ]
    assert len({read(form, "uuid") for form in forms}) == 1


@given(st.binary(), st.booleans(), st.sampled_from([0, *OIDS.values(), 600]), st.booleans())
def test_no_bytes_make_it_fail(raw: bytes, binary: bool, oid: int, array: bool) -> None:
    value = Parameter(raw, binary, oid)
    for kind in ("uuid", "int8", "text", "point"):
        read_array(value, kind) if array else read(value, kind)


def test_a_binary_array_is_read_by_the_type_of_its_elements() -> None:
    elements = b"".join(struct.pack(">ii", 4, n) for n in (1, 2)) + struct.pack(">i", -1)
    raw = struct.pack(">iiIii", 1, 1, 23, 3, 1) + elements
    assert [one.key for one in read_array(Parameter(raw, True), "int8")] == ["1", "2"]


def test_a_text_array_is_read_with_quotes_and_nulls() -> None:
    raw = b'{a,"b,\\"c",NULL}'
    assert [one.key for one in read_array(Parameter(raw), "text")] == ["a", 'b,"c']


def test_what_cannot_be_decoded_is_compared_by_its_bytes_and_says_so() -> None:
    values = (tenant(parameter(1), parameter(2), kind="point"),)
    same = named(values, Given(parameters=[Parameter(b"\0\1", True, 600)] * 2))
    other = [Parameter(b"\0\1", True, 600), Parameter(b"\0\2", True, 600)]
    different = named(values, Given(parameters=other))
    assert (same.crosses, same.sure) == (False, False)
    assert (different.crosses, different.sure) == (True, False)


def test_a_decoded_value_and_bytes_are_not_compared() -> None:
    values = (tenant(parameter(1), parameter(2), kind="point"),)
    mixed = [Parameter(b"(0,1)"), Parameter(b"\0\1", True, 600)]
    assert not named(values, Given(parameters=mixed)).crosses


def test_null_names_nobody() -> None:
    values = (tenant(parameter(1), parameter(2)),)
    assert not named(values, Given(parameters=[Parameter(None), Parameter(b"a")])).crosses


def test_literals_are_those_of_the_very_text() -> None:
    values = (tenant(Constant("literal", "a", (), 1)), tenant(parameter(1)))
    given_ = Given(b"SELECT 1 FROM t WHERE x = 'b'", [Parameter(b"b")])
    assert not named(values, given_).crosses
    assert named(values, given_._replace(parameters=[Parameter(b"a")])).crosses


def test_a_setting_is_a_value_of_the_columns_type() -> None:
    values = (tenant(parameter(1), kind="uuid"),)
    given_ = Given(parameters=[Parameter(ID.bytes, True, 2950)])
    assert not named(values, given_, {"app.tenant_id": ID.hex.upper()}).crosses
    assert named(values, given_, {"app.tenant_id": "b"}).crosses
    assert not named(values, given_, {"app.tenant_id": ""}).crosses


def test_creating_tenants_names_none() -> None:
    values = (tenant(parameter(1), parameter(2), use="create"),)
    assert not named(values, Given(parameters=[Parameter(b"a"), Parameter(b"b")])).crosses
    assert not varies(values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((tenant(parameter(1)),), False),
        ((tenant(parameter(1)), tenant(parameter(1))), False),
        ((tenant(parameter(1)), tenant(parameter(2))), True),
        ((tenant(parameter(1)), tenant(Constant("literal", "a"))), True),
        ((tenant(Constant("array", "1")),), True),
        ((tenant(Constant("literal", "a")), tenant(Constant("literal", "b", (), 9))), False),
    ],
)
def test_only_where_values_decide_a_bind_is_looked_at(
    values: tuple[TenantValue, ...], expected: bool
) -> None:
    assert varies(values) is expected


def test_a_new_row_whose_tenant_is_a_null_parameter_is_nobodys() -> None:
    new, old = tenant(parameter(1), use="insert"), tenant(parameter(1))
    assert nobody([new], Given(parameters=[Parameter(None)]))
    assert not nobody([new], Given(parameters=[Parameter(b"k")]))
    assert not nobody([new], Given())
    assert not nobody([old], Given(parameters=[Parameter(None)]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((tenant(parameter(2)), tenant(parameter(2))), 2),
        ((tenant(parameter(1)), tenant(parameter(2))), 0),
        ((tenant(parameter(1), Constant("literal", "a")),), 0),
        ((tenant(parameter(1), use="insert"),), 0),
        ((tenant(parameter(1)), tenant(parameter(1), kind="uuid")), 0),
        ((), 0),
    ],
)
def test_one_parameter_may_name_the_tenant_alone(
    values: tuple[TenantValue, ...], expected: int
) -> None:
    assert single(values) == expected


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([Parameter(None), Parameter(b"k")], {1}),
        ([Parameter(b""), Parameter(b"k")], set()),
        ([Parameter(None), None], None),
        ([Parameter(None)], None),
        ([], None),
    ],
)
def test_which_parameters_are_null_is_known_of_all_or_not_at_all(
    values: list[Parameter | None], found: set[int] | None
) -> None:
    assert nulls((1, 2), Given(parameters=values)) == found


@pytest.mark.parametrize(
    "row",
    [
        Parameter(b"(,)"),
        Parameter(b" (1,)", oid=99999),
        Parameter(struct.pack(">iiii", 2, 23, -1, 25) + struct.pack(">i", -1), True),
        Parameter(struct.pack(">iiii", 1, 23, 4, 7), True),
    ],
)
def test_what_may_be_a_row_is_not_known_to_be_null_or_not(row: Parameter) -> None:
    assert nulls((1,), Given(parameters=[row])) is None
    assert nulls((1,), Given(parameters=[row._replace(oid=25)])) == frozenset()
    cut = Parameter((row.raw or b"")[1:], row.binary)
    assert nulls((1,), Given(parameters=[cut])) == frozenset() or not row.binary


@given(st.binary(max_size=40), st.booleans())
def test_any_bytes_are_a_row_or_none(raw: bytes, binary: bool) -> None:
    assert nulls((1,), Given(parameters=[Parameter(raw, binary)])) in {None, frozenset()}


def test_a_value_that_is_not_known_names_nobody_and_is_told() -> None:
    both = [tenant(parameter(1), parameter(2))]
    given = Given(parameters=[Parameter(b"k"), None])
    assert named(both, given).statement == {"k": "read"}
    assert unread(both, given)
    assert not unread([tenant(parameter(1))], given)
    assert not unread([tenant(parameter(2), use="create")], given)
    assert not nobody([tenant(parameter(2), use="insert")], given)
