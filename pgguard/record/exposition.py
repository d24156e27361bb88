"""Prometheus's two text formats, written in small steps.

`prometheus_client.generate_latest` writes a page in one go, which stops every query for as long as
that takes. Here a page is a generator: each step looks at no more than `STEP` samples, and the
event loop runs between two steps.

Laws: a sample is written as it is drawn; names, help and label names are ours and need no escaping,
label values come from clients and always get it; no timestamps, no exemplars, no _created series.

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ (0.0.4) and OpenMetrics 1.0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pgguard.counters import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STEP = 100
"""Samples or units of other work in one step."""

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

LABEL_LENGTH = 200
"""Characters of a label value."""

Value = int | float | Histogram


class Family(NamedTuple):
    """One metric. `name` has no prefix, and no suffix (`_total`, `_info`) either."""

    name: str
    kind: str
    """counter, gauge, histogram or info."""
    help: str
    labels: tuple[str, ...]
    samples: Iterable[tuple[tuple[str, ...], Value]]
    """Label values and value; drawn once, lazily."""


def clean(value: str) -> str:
    """A label value without control characters and lone surrogates, bounded in length."""
    if len(value) > LABEL_LENGTH:
        value = value[:LABEL_LENGTH]
    if value.isprintable():
        return value
    return "".join(
        character if character.isprintable() else _visible(character) for character in value
    )


def page(families: Iterable[Family], *, openmetrics: bool) -> Iterator[bytes]:
    """The page in pieces; the work between two pieces is bounded."""
    lines: list[str] = []
    room = STEP
    for family in families:
        lines.append(_head(family, openmetrics))
        room -= 2
        for values, value in family.samples:
            room -= _write(lines, family, values, value)
            if room <= 0:
                yield _encode(lines)
                lines.clear()
                room = STEP
    if openmetrics:
        lines.append("# EOF\n")
    yield _encode(lines)


def _encode(lines: list[str]) -> bytes:
    return "".join(lines).encode("utf-8", "replace")


def _head(family: Family, openmetrics: bool) -> str:
    name, kind = "pgguard_" + family.name, family.kind
    if not openmetrics:
        name += _SUFFIX.get(kind, "")
        kind = "gauge" if kind == "info" else kind
    return f"# HELP {name} {family.help}\n# TYPE {name} {kind}\n"


def _write(lines: list[str], family: Family, values: tuple[str, ...], value: Value) -> int:
    """Append the lines of one series and return how many there were."""
    pairs = [
        f'{label}="{_escape(text)}"' for label, text in zip(family.labels, values, strict=True)
    ]
    name = "pgguard_" + family.name
    if isinstance(value, Histogram):
        return _write_histogram(lines, name, pairs, value)
    braces = "{" + ",".join(pairs) + "}" if pairs else ""
    lines.append(f"{name}{_SUFFIX.get(family.kind, '')}{braces} {_number(value)}\n")
    return 1


def _write_histogram(lines: list[str], name: str, pairs: list[str], value: Histogram) -> int:
    head = ",".join(pairs)
    prefix = head + "," if head else ""
    total = 0
    counts = list(value.counts)
    for bound, count in zip((*value.bounds, math.inf), counts, strict=True):
        total += count
        lines.append(f'{name}_bucket{{{prefix}le="{_number(float(bound))}"}} {total}\n')
    braces = "{" + head + "}" if head else ""
    lines.append(f"{name}_sum{braces} {_number(value.sum)}\n{name}_count{braces} {total}\n")
    return len(counts) + 2


_SUFFIX = {"counter": "_total", "info": "_info"}


def _number(value: float) -> str:
    if value == math.inf:
        return "+Inf"
    return repr(value) if isinstance(value, float) else str(int(value))


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _visible(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
