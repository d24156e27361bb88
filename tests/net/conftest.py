"""What tests of sockets share: certificates, and each loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from loops import LOOPS, run_on
from tls import files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tls import Files


@pytest.fixture
def pem(tmp_path: Path) -> Files:
    return files(tmp_path)


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run a coroutine to its end, on each loop."""

    def run(work: Any) -> Any:
        return run_on(request.param, work)

    return run
