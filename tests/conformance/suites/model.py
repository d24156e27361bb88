"""What a suite is to the run: how it is brought, what it needs, and what became of its tests."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tests.conformance.harness import Metrics, Missing, fetch

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tests.conformance.harness import Address


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one test: `passed`, `failed`, `skipped` or `xfailed`."""

    outcome: str
    why: str = ""
    bytes: int = 0
    """What the guard received from anybody while it ran; 0 without a guard."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a suite is pointed: a superuser's address, and the guard's metrics page or nothing."""

    address: Address
    metrics: str = ""

    def received(self) -> int:
        """Bytes that the guard received from sessions so far; 0 without a guard."""
        if not self.metrics:
            return 0
        return int(Metrics(fetch(self.metrics)).total("received_bytes_total"))


class Prepared(Protocol):
    """A suite that is ready to run."""

    def run(
        self, target: Target, scratch: Path, *, short: bool, only: Collection[str] | None = None
    ) -> dict[str, Outcome]:
        """Outcomes by the suite's own test ids. Raises Missing when it cannot run at all."""


class Bring(Protocol):
    """Fetches a suite and what it runs with, once; raises Missing."""

    def __call__(self) -> Prepared: ...


@dataclass(frozen=True, slots=True)
class Suite:
    """One driver's own tests."""

    name: str
    version: str
    bring: Bring
    sql: tuple[str, ...] = ()
    """What is done to a new server before each run, in its database `postgres`."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of the Postgres that it needs."""
    small_cap: int = 0
    """The fewest connections at once with which it can pass; 0 where nobody can tell."""
    stand_in: str = ""
    """What covers the driver where no registry that this machine asks holds the suite."""


def cache() -> Path:
    """Our directory below the system's temporary one, ours alone. Raises Missing."""
    directory = Path(tempfile.gettempdir()) / f"pgguard-suites-{os.geteuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
        raise Missing(f"{directory} belongs to somebody else: remove it")
    return directory
