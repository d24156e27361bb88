"""Tenant constants compared by type, and shown without their content."""

from __future__ import annotations

import pytest

from pgguard.sql.statement import DEFAULT, MORE, NULL, OPAQUE, Constant
from pgguard.tenancy.values import differ, show

UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


@pytest.mark.parametrize(
    ("literals", "type_name", "expected"),
    [
        (["a", "a"], "text", False),
        (["a", "A"], "text", True),
        (["a", "A"], "citext", False),
        (["a ", "a"], "bpchar", False),
        (["a ", "a"], "text", True),
        ([UUID, UUID.upper(), "{" + UUID + "}", UUID.replace("-", "")], "uuid", False),
        ([UUID, UUID.replace("a", "b")], "uuid", True),
        (["1", " 01", "+1"], "int8", False),
        (["1", "2"], "int4", True),
        (["1", "x"], "int4", True),
        ([], "text", False),
    ],
)
def test_literals_differ_as_values_of_their_type(
    literals: list[str], type_name: str, expected: bool
) -> None:
    assert differ(literals, type_name) is expected


def test_constants_are_shown_in_words_without_literals() -> None:
    assert show([Constant("parameter", "2")]) == "$2"
    assert show([Constant("literal", "secret")]) == "a literal"
    assert show([Constant("literal", "secret"), NULL]) == "NULL or a literal"
    assert show([Constant("setting", "app.tenant_id")]) == "current_setting('app.tenant_id')"
    others = [Constant("expression"), Constant("array"), MORE, DEFAULT, OPAQUE]
    assert show(others) == (
        "a constant expression, a value of the row, an element of an array, "
        "one of further constants or the default"
    )
