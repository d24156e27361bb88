"""The metrics page, read from the core's integers when somebody asks for it.

A scrape first sweeps over the clients (`ledger`), then writes the page from the sums (`families`,
`exposition`). Both happen in small steps.

Laws: nothing is counted here; only this module imports prometheus_client, and only where a registry
of its asks for our metrics.
"""

from __future__ import annotations

import platform
from importlib import metadata
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from pgguard.counters import Histogram
from pgguard.record.exposition import STEP, Family, page
from pgguard.record.families import (
    build_family,
    client_families,
    finding_family,
    process_families,
)
from pgguard.record.ledger import Ledger, Sums

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client import Metric

    from pgguard.record.findings import Recorder
    from pgguard.record.subject import Hub


class Collector:
    """Reads `hub` and `recorder`. One per process, so that counters stay monotonic."""

    __slots__ = ("_build", "_hub", "_ledger", "_recorder")

    def __init__(self, hub: Hub, recorder: Recorder) -> None:
        self._hub = hub
        self._recorder = recorder
        self._ledger = Ledger(recorder.decide)
        self._build = build_family(metadata.version("pgguard"), platform.python_version())

    def steps(self, *, openmetrics: bool = False) -> Iterator[bytes]:
        """The page in pieces, some of them empty: let the event loop run between two of them."""
        sums: dict[str, Sums] = {}
        for done, _ in enumerate(self._sweep(sums), 1):
            if done % STEP == 0:
                yield b""
        yield from page(self._families(sums), openmetrics=openmetrics)

    def collect(self) -> Iterator[Metric]:
        """The same in one go, for a registry of prometheus_client (its Collector protocol)."""
        from prometheus_client import core

        kinds: dict[str, Any] = {
            "counter": core.CounterMetricFamily,
            "gauge": core.GaugeMetricFamily,
            "histogram": core.HistogramMetricFamily,
            "info": core.InfoMetricFamily,
        }
        sums: dict[str, Sums] = {}
        for _ in self._sweep(sums):
            pass
        for family in self._families(sums):
            labels = () if family.kind == "info" else family.labels
            metric = kinds[family.kind]("pgguard_" + family.name, family.help, labels=labels)
            _fill(metric, family)
            yield metric

    def _sweep(self, sums: dict[str, Sums]) -> Iterator[None]:
        return self._ledger.sweep(
            self._hub.clients.values(), self._recorder.connection_findings(), sums
        )

    def _families(self, sums: Mapping[str, Sums]) -> Iterator[Family]:
        yield from client_families(sums)
        yield finding_family(self._ledger.findings)
        executed = sum(sum(entry.statements) for entry in sums.values())
        yield from process_families(self._hub, executed)
        yield self._build


def _fill(metric: Any, family: Family) -> None:
    for values, value in family.samples:
        if family.kind == "info":
            metric.add_metric((), dict(zip(family.labels, values, strict=True)))
        elif isinstance(value, Histogram):
            bounds = (*(str(bound) for bound in value.bounds), "+Inf")
            buckets = list(zip(bounds, accumulate(value.counts), strict=True))
            metric.add_metric(values, buckets, value.sum)
        else:
            metric.add_metric(values, value)
