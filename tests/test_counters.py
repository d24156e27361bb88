"""Histograms count every value once, in the first bucket that is large enough."""

from __future__ import annotations

import pytest

from pgguard.counters import SECONDS, Histogram, ProcessCounters
from pgguard.findings import Verdict


@pytest.mark.parametrize(
    ("value", "bucket"),
    [
        (0.0, 0),
        (SECONDS[0], 0),
        (SECONDS[0] * 1.01, 1),
        (SECONDS[-1], len(SECONDS) - 1),
        (SECONDS[-1] + 1, len(SECONDS)),
    ],
)
def test_a_value_falls_into_the_first_bucket_that_holds_it(value: float, bucket: int) -> None:
    histogram = Histogram()
    histogram.observe(value)
    assert histogram.counts[bucket] == 1
    assert histogram.count == 1
    assert histogram.sum == value


def test_two_histograms_together_have_the_values_of_both() -> None:
    first, second = Histogram(), Histogram()
    for value in (0.0001, 7.0):
        first.observe(value)
    second.observe(100.0)
    both = first + second
    assert both.count == 3
    assert both.sum == pytest.approx(107.0001)
    assert (first.count, second.count) == (2, 1)


def test_histograms_of_other_bounds_do_not_add_up() -> None:
    with pytest.raises(ValueError, match=r"longer|shorter"):
        Histogram() + Histogram((1.0,))


def test_the_buckets_rise() -> None:
    assert list(SECONDS) == sorted(set(SECONDS))


def test_there_is_a_place_for_each_verdict() -> None:
    from pgguard.counters import ClientCounters

    assert len(ClientCounters().statements) == len(Verdict)


def test_nothing_is_counted_at_first() -> None:
    counters = ProcessCounters()
    assert counters.transactions == {"commit": 0, "rollback": 0}
    assert not counters.upstream_up
