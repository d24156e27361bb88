"""What could not be decided: what a reader is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SNAPSHOTS = {
    "function": (
        "SELECT * FROM bookings_of($1)",
        """\
PGG106 warning: scope of the statement is not known
Not checked: what function bookings_of reads cannot be seen.""",
    ),
    "copy_from": (
        "COPY bookings FROM STDIN",
        """\
PGG106 warning: scope of the statement is not known
Not checked: which tenants' rows COPY FROM brings is not read.
bookings (unknown): which tenants' rows COPY FROM brings is not read""",
    ),
    "cursor": (
        "DELETE FROM bookings WHERE CURRENT OF c",
        """\
PGG106 warning: scope of the statement is not known
Not checked: it names a row by a cursor.
bookings (unknown): it names a row by a cursor""",
    ),
    "optional": (
        "SELECT * FROM bookings WHERE tenant_id = $1 OR $1 IS NULL",
        """\
PGG106 warning: scope of the statement is not known
Not checked: only if its parameters are not null and its conditions hold: tenant_id is $1.
bookings (unknown): only if its parameters are not null and its conditions hold: tenant_id is $1
  put the condition in parentheses and add AND tenant_id = $2""",
    ),
}


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_finding_reads_as_it_should(name: str, rendered: Callable[..., str]) -> None:
    sql, text = SNAPSHOTS[name]
    assert rendered(sql, "booking") == text
