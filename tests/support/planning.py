"""Plans of statements, for tests."""

from __future__ import annotations

from typing import Any

from pgguard.sql.facts.reading import read


def planned(sql: str) -> Any:
    """The plan of the only statement of a text."""
    (part,) = read(sql.encode(), columns=True).parts
    assert not part.obstacle, part.obstacle
    return part.plan
