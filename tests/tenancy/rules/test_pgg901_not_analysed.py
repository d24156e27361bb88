"""What was not read: what a reader is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SNAPSHOTS = {
    "syntax": (
        "SELECT FROM FROM",
        """\
PGG901 warning: statement was not analysed
Not analysed: syntax error.""",
    ),
}


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_finding_reads_as_it_should(name: str, rendered: Callable[..., str]) -> None:
    sql, text = SNAPSHOTS[name]
    assert rendered(sql, "booking") == text
