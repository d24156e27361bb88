"""What SET and set_config give to a setting."""

from __future__ import annotations

import pytest

from pgguard.sql.assignments import Assignment, assignments


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SET app.t = 'a'", [("app.t", "a", False)]),
        ("SET LOCAL App.T TO 5", [("app.t", "5", True)]),
        ("SET SESSION app.t = DEFAULT", [("app.t", "", False)]),
        ("RESET app.t", [("app.t", "", False)]),
        ("SELECT set_config('app.t', $2, true)", [("app.t", 2, True)]),
        ("SELECT set_config('app.t', 'a', false), 1", [("app.t", "a", False)]),
        ("SELECT set_config('app.t', upper('a'), true)", [("app.t", None, True)]),
        ("SET app.t = 'a'; SET app.t = 'b'", [("app.t", "a", False), ("app.t", "b", False)]),
        ("SELECT 1", []),
        ("not sql", []),
    ],
)
def test_assignments_of_a_text(text: str, expected: list[tuple[str, object, bool]]) -> None:
    assert list(assignments(text.encode())) == [Assignment(*one) for one in expected]  # type: ignore[arg-type]
