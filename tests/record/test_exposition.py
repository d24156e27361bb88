"""The text formats, against the parsers of prometheus_client."""

from __future__ import annotations

import math

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pgguard.counters import Histogram
from pgguard.record.exposition import LABEL_LENGTH, STEP, Family, clean, page

HOSTILE = [
    'quote " and backslash \\',
    "two\nlines",
    '"} 1\npgguard_fake{x="',
    "nul \0 escape \x1b[31m",
    "lone surrogate \udce9",
    "ünïcode ✓",
    "right-to-left \u202e override",
    "",
    "\\",
    '\\"',
    "\\n",
]


def write(*families: Family, openmetrics: bool = False) -> str:
    return b"".join(page(families, openmetrics=openmetrics)).decode()


def test_counters_gauges_and_info_are_written_in_the_text_format():
    text = write(
        Family("errors", "counter", "Errors.", ("sqlstate",), [(("53300",), 2)]),
        Family("lag_seconds", "gauge", "Lag.", (), [((), 0.25)]),
        Family("build", "info", "Build.", ("version",), [(("1",), 1)]),
    )
    assert text == (
        "# HELP pgguard_errors_total Errors.\n"
        "# TYPE pgguard_errors_total counter\n"
        'pgguard_errors_total{sqlstate="53300"} 2\n'
        "# HELP pgguard_lag_seconds Lag.\n"
        "# TYPE pgguard_lag_seconds gauge\n"
        "pgguard_lag_seconds 0.25\n"
        "# HELP pgguard_build_info Build.\n"
        "# TYPE pgguard_build_info gauge\n"
        'pgguard_build_info{version="1"} 1\n'
    )

    text = write(
        Family("errors", "counter", "Errors.", (), [((), 2)]),
        Family("build", "info", "Build.", ("version",), [(("1",), 1)]),
        openmetrics=True,
    )
    assert text == (
        "# HELP pgguard_errors Errors.\n"
        "# TYPE pgguard_errors counter\n"
        "pgguard_errors_total 2\n"
        "# HELP pgguard_build Build.\n"
        "# TYPE pgguard_build info\n"
        'pgguard_build_info{version="1"} 1\n'
        "# EOF\n"
    )


def test_a_histogram_is_cumulative_and_its_count_is_that_of_the_last_bucket():
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value)
    text = write(Family("wait_seconds", "histogram", "Wait.", ("part",), [(("x",), histogram)]))
    assert text.splitlines()[2:] == [
        'pgguard_wait_seconds_bucket{part="x",le="0.1"} 2',
        'pgguard_wait_seconds_bucket{part="x",le="1.0"} 3',
        'pgguard_wait_seconds_bucket{part="x",le="+Inf"} 4',
        'pgguard_wait_seconds_sum{part="x"} 7.65',
        'pgguard_wait_seconds_count{part="x"} 4',
    ]


@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize("value", HOSTILE)
def test_no_label_value_breaks_out_of_its_quotes(value, openmetrics):
    text = write(
        Family("up", "gauge", "Up.", ("client", "state"), [((value, "idle"), 1)]),
        openmetrics=openmetrics,
    )
    parse = parse_openmetrics if openmetrics else parse_text
    [family] = parse(text)
    [sample] = family.samples
    assert sample.labels == {"client": value.replace("\udce9", "?"), "state": "idle"}


def test_a_label_value_is_bounded_and_free_of_control_characters():
    assert len(clean("x" * 1000)) == LABEL_LENGTH
    assert clean("a\nb\x1b\udce9") == r"a\nb\x1b\udce9"
    assert clean("ünïcode ✓") == "ünïcode ✓"


def test_infinity_and_booleans_are_numbers():
    text = write(Family("x", "gauge", "X.", ("n",), [(("a",), math.inf), (("b",), True)]))
    assert 'n="a"} +Inf' in text
    assert 'n="b"} 1' in text


def test_a_step_draws_a_bounded_number_of_samples():
    drawn = 0

    def samples():
        nonlocal drawn
        for number in range(10 * STEP):
            drawn += 1
            yield (str(number),), number

    most = before = 0
    for _ in page([Family("x", "gauge", "X.", ("n",), samples())], openmetrics=False):
        most, before = max(most, drawn - before), drawn
    assert drawn == 10 * STEP
    assert most <= STEP


def test_histograms_count_by_their_lines():
    rows = [((str(number),), Histogram()) for number in range(STEP)]
    pieces = list(page([Family("x", "histogram", "X.", ("n",), rows)], openmetrics=False))
    lines = [piece.count(b"\n") for piece in pieces]
    assert max(lines) <= STEP + 20
    assert sum(lines) == 2 + STEP * 18
