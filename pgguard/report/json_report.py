"""`findings.json`: one run for programs.

    {
      "version": 1,
      "run": {...},          what the caller knows: command, exit code, versions, upstream
      "summary": {"outcome", "started", "ended", "sessions", "statements", "unknown",
                  "unknown_statements", "dropped", "bypassed", "neighbours", "one_client",
                  "reason", "gaps", "errors", "advice"},
      "clients": [{"client", "sessions", "peak", "cap", "waits", "waited_max", "refused",
                   "findings"}],
      "pins": [{"client", "reason", "number", "statement"}],
      "findings": [the objects of /api/v1/findings, worst first]
    }

`outcome` is held, held_as_far_as_seen, not_held or nothing_came; times are seconds since 1970, UTC,
waits are seconds; `bypassed` is null if it could not be looked at. Laws: keys are only ever added
within a version; the file is replaced whole or not at all.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pgguard.report.summary import RunSummary

VERSION = 1


def build(summary: RunSummary, run: Mapping[str, Any]) -> dict[str, Any]:
    """The whole report as one object."""
    return {
        "version": VERSION,
        "run": dict(run),
        "summary": {
            "outcome": summary.outcome.value,
            "started": summary.started,
            "ended": summary.ended,
            "sessions": summary.sessions,
            "statements": summary.statements,
            "unknown": summary.unknown,
            "unknown_statements": summary.unknown_statements,
            "dropped": summary.dropped,
            "bypassed": summary.bypassed,
            "neighbours": summary.neighbours,
            "one_client": summary.one_client,
            "reason": summary.reason,
            "gaps": summary.gaps(),
            "errors": summary.errors,
            "advice": summary.advice,
        },
        "clients": [asdict(row) for row in summary.clients],
        "pins": [asdict(row) for row in summary.pins],
        "findings": [finding.to_dict() for finding in summary.findings],
    }


def write(summary: RunSummary, run: Mapping[str, Any], path: Path) -> None:
    """Write the report to `path`. Raises OSError."""
    text = json.dumps(build(summary, run), ensure_ascii=False, indent=2) + "\n"
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(text.encode("utf-8", "replace"))
    unfinished.replace(path)
