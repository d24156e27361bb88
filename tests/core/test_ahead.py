"""What waits for a server: has its client said Terminate already?"""

from __future__ import annotations

import pytest
from notation import FRONTEND, encode

from pgguard.core.ahead import has_left


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        ([], False),
        (["Terminate"], True),
        (['Query "begin"'], False),
        (['Query "begin"', "Terminate"], True),
        (['Parse "" "x"', "Sync", "Terminate", 'Query "y"'], True),
    ],
)
def test_a_terminate_is_seen_between_messages(lines: list[str], left: bool) -> None:
    assert has_left(b"".join(encode(line, FRONTEND) for line in lines)) is left


def test_the_same_bytes_inside_of_a_message_are_no_terminate() -> None:
    data = encode('Query "x"', FRONTEND)[:-2] + b"X\0\0\0\4\0"
    inside = data[:1] + (len(data) - 1).to_bytes(4, "big") + data[5:]
    assert b"X\0\0\0\4" in inside
    assert not has_left(inside)
    assert has_left(inside + b"X\0\0\0\4")


@pytest.mark.parametrize("cut", range(5))
def test_a_terminate_that_is_not_whole_is_none_yet(cut: int) -> None:
    assert not has_left(encode("Sync", FRONTEND) + b"X\0\0\0\4"[:cut])
