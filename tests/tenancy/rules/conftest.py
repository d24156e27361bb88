"""Findings as text, for snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgguard.findings import CODES

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgguard.tenancy.judge import Judge


@pytest.fixture
def rendered(judge_of: Callable[[str], Judge]) -> Callable[..., str]:
    """What a reader is told of a statement."""

    def render(sql: str, schema: str = "booking") -> str:
        judge = judge_of(schema)
        statement = judge.statement(sql.encode())
        judge.judge(statement)
        code = CODES[statement.code]
        lines = [f"{code.code} {code.severity}: {code.title}", statement.remedy]
        for relation in statement.relations:
            name = f"{relation.name} {relation.alias}".strip()
            lines.append(f"{name} ({relation.level}): {relation.why}")
            if relation.fix:
                lines.append(f"  {relation.fix}")
        return "\n".join(lines)

    return render
