"""What is read of Bind and Parse to know the values of an execution."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgguard.core.weighing import parameters, parse_of
from pgguard.tenancy.tenants import Parameter
from pgguard.wire import frontend

BIND = frontend.bind_message(b"", b"s", [b"a", None, b"\0\1"], [0, 0, 1])


def test_parameters_have_their_formats_and_types() -> None:
    assert parameters(BIND[5:], [25]) == [
        Parameter(b"a", False, 25),
        Parameter(None),
        Parameter(b"\0\1", True),
    ]
    everywhere = frontend.bind_message(b"", b"", [b"a", b"b"], [1])
    assert [one.binary for one in parameters(everywhere[5:], ())] == [True, True]


def test_of_a_bind_that_is_not_whole_what_has_come_is_known() -> None:
    found = [len(parameters(BIND[5:at], ())) for at in range(5, len(BIND) + 1)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, 3)


@given(st.binary(max_size=60))
def test_no_bytes_make_it_fail(body: bytes) -> None:
    parameters(body, ())
    parse_of(body, len(body))


def test_the_parse_of_a_bind_is_the_newest_of_its_name_before_it() -> None:
    chunk = (
        frontend.parse_message(b"s", b"select 1", [23])
        + frontend.parse_message(b"t", b"select 2")
        + frontend.parse_message(b"s", b"select $1", [25, 20])
    )
    assert parse_of(chunk + BIND, len(chunk)) == (b"select $1", (25, 20))
    assert parse_of(BIND, 0) == (b"", ())
