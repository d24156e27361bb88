"""How values are written and read back."""

from __future__ import annotations

import pytest

from pgguard.settings.values import (
    Address,
    read_address,
    read_auto,
    read_duration,
    read_off,
    read_size,
    show_duration,
    show_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20s", 20.0), ("500ms", 0.5), ("1m", 60.0), ("1.5m", 90.0), ("1h", 3600.0), ("0s", 0.0)],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize("value", ["", "s", "20 parsecs", "-1s", None, [], "1s 2s", True])
def test_what_is_no_duration_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match="20s"):
        read_duration(value)


@pytest.mark.parametrize("value", [20, "20", 1.5])
def test_a_bare_number_is_seconds_only_where_it_is_asked_for(value: object) -> None:
    with pytest.raises(ValueError, match="should have a unit"):
        read_duration(value)
    assert read_duration(value, bare=True) == float(str(value))


@pytest.mark.parametrize("text", ["20s", "500ms", "1m", "90s", "1.5s", "0s", "60m", "0.5ms"])
def test_a_duration_that_is_shown_reads_back(text: str) -> None:
    seconds = read_duration(text)
    assert read_duration(show_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("16MiB", 16 * 1024**2), ("64kB", 64_000), ("1GiB", 1024**3), ("7B", 7)]
)
def test_a_size_is_bytes_and_reads_back(text: str, size: int) -> None:
    assert read_size(text) == size
    assert read_size(show_size(size)) == size


@pytest.mark.parametrize("value", ["16", 16, "MiB", "1.5MiB", "16 mib", None])
def test_what_is_no_size_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match="16MiB"):
        read_size(value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:6433", Address("127.0.0.1", 6433)),
        ("[::1]:0", Address("::1", 0)),
        ("localhost:65535", Address("localhost", 65535)),
    ],
)
def test_an_address_is_host_and_port_and_reads_back(text: str, address: Address) -> None:
    assert read_address(text) == address
    assert read_address(str(address)) == address


@pytest.mark.parametrize(
    "value", ["6433", ":6433", "host:", "host:x", "::1:6433", "host:65536", None, 6433]
)
def test_what_is_no_address_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|brackets|port from 0 to 65535"):
        read_address(value)


def test_off_and_auto_are_none_and_nothing_else_is() -> None:
    assert [read_off(value) for value in ("off", False, 0, "auto")] == [None, None, 0, "auto"]
    assert [read_auto(value) for value in ("auto", "off", 3)] == [None, "off", 3]
