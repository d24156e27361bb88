"""The page is valid, complete, equal to what prometheus_client would write, and made in steps."""

from __future__ import annotations

import pytest
from hubs import FakeHub, FakeStatement, FakeTally, State
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pgguard.counters import VERDICTS
from pgguard.record.exposition import STEP
from pgguard.record.findings import Recorder
from pgguard.record.metrics import Collector


def busy_hub(clients: int = 3) -> FakeHub:
    hub = FakeHub()
    for number in range(clients):
        client = hub.client(f'tests/"test_{number}".py', sessions=4, statements=100)
        client.counters.refusals["cap"] = number
        client.share.held = number
        hub.session(client, State.LINKED)
        hub.session(client, State.WAITING)
        client.flagged[FakeStatement()] = FakeTally(number + 1)
    hub.counters.errors = {"23505": 3}
    for value in (0.0001, 0.02, 7.0, 100.0):
        hub.counters.statement_seconds.observe(value)
        hub.counters.added_wait.observe(value)
    return hub


def page(collector: Collector, *, openmetrics: bool = False) -> str:
    return b"".join(collector.steps(openmetrics=openmetrics)).decode()


def samples(families):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_page_says_what_prometheus_client_would_say(openmetrics):
    collector = Collector(busy_hub(), Recorder())
    registry = CollectorRegistry()
    registry.register(collector)
    parse = parse_openmetrics if openmetrics else parse_text
    generate = generate_openmetrics if openmetrics else generate_latest
    ours = samples(parse(page(collector, openmetrics=openmetrics)))
    theirs = samples(parse(generate(registry).decode()))
    assert len(ours) > 100
    assert ours == theirs


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_page_has_no_created_series_and_every_family_has_help(openmetrics):
    text = page(Collector(busy_hub(), Recorder()), openmetrics=openmetrics)
    assert "_created" not in text
    lines = text.splitlines()
    helps = [line.split(" ", 3)[2] for line in lines if line.startswith("# HELP")]
    types = [line.split(" ", 3)[2] for line in lines if line.startswith("# TYPE")]
    assert helps == types
    assert len(set(helps)) == len(helps)


def test_counters_end_with_total_and_nothing_else_does():
    for family in parse_text(page(Collector(busy_hub(), Recorder()))):
        ends = [sample.name.endswith("_total") for sample in family.samples]
        assert all(ends) if family.type == "counter" else not any(ends)


def test_no_counter_goes_back_from_page_to_page():
    hub = busy_hub(4)
    collector = Collector(hub, Recorder())
    before: dict = {}
    for number in range(4):
        now = samples(parse_text(page(collector)))
        counters = {key: value for key, value in now.items() if key[0].endswith("_total")}
        assert all(counters.get(key, -1) >= value for key, value in before.items())
        before = counters
        del hub.clients[f'tests/"test_{number}".py']
    assert sum(v for k, v in before.items() if k[0] == "pgguard_statements_total") == 400


def test_300_clients_are_written_in_steps_of_bounded_work():
    hub = busy_hub(300)
    reads = 0

    class Counted(list):
        def __iter__(self):
            nonlocal reads
            reads += 1
            return super().__iter__()

    for client in hub.clients.values():
        client.counters.statements = Counted([0] * VERDICTS)
    most, lines, before = 0, 0, 0
    for piece in Collector(hub, Recorder()).steps():
        most, before = max(most, reads - before), reads
        lines = max(lines, piece.count(b"\n"))
    assert reads == 300
    assert most <= STEP
    assert lines <= STEP + 20


def test_an_empty_page_is_valid():
    names = {family.name for family in parse_text(page(Collector(FakeHub(), Recorder())))}
    assert "pgguard_upstream_up" in names
    assert "pgguard_build_info" in names
