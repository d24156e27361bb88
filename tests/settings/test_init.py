"""The package's own names, which are imported when they are asked for."""

from __future__ import annotations

import pytest

from pgguard import settings


def test_every_name_that_is_promised_is_there() -> None:
    for name in settings.__all__:
        assert getattr(settings, name).__name__ == name


def test_a_name_that_is_not_is_an_error_that_says_so() -> None:
    with pytest.raises(AttributeError, match="no attribute 'zebra'"):
        settings.__getattr__("zebra")
