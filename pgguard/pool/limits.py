"""How many servers a client may hold and how long its sessions may wait: plain frozen values.

Laws: `app` makes these from the user's settings, nothing here reads any; a client's limits are the
defaults with every override applied whose glob matches its name, in the order of the list, so the
last one that names a value decides that value; what a client says about itself only ever lowers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal


@dataclass(slots=True, frozen=True)
class ClientLimits:
    """The limits of one client."""

    connection_limit: int = 10
    """Servers that it may hold at once, at least 1: its cap."""
    pool_timeout: float = 20.0
    """Seconds that one of its sessions waits because of the cap."""
    max_waiting: int | None = None
    max_sessions: int | None = None

    def lowered(self, connection_limit: int | None, pool_timeout: float | None) -> ClientLimits:
        """The same with a smaller cap and timeout where smaller, sensible ones are given."""
        cap, timeout = self.connection_limit, self.pool_timeout
        if connection_limit is not None and 1 <= connection_limit < cap:
            cap = connection_limit
        if pool_timeout is not None and 0 < pool_timeout < timeout:
            timeout = pool_timeout
        return replace(self, connection_limit=cap, pool_timeout=timeout)


@dataclass(slots=True, frozen=True)
class Override:
    """Limits for the clients whose name matches the glob `client`; None leaves a limit alone."""

    client: str
    connection_limit: int | None = None
    pool_timeout: float | None = None
    max_waiting: int | None = None
    max_sessions: int | None = None

    def applied(self, limits: ClientLimits) -> ClientLimits:
        return ClientLimits(
            *(
                getattr(limits, name) if getattr(self, name) is None else getattr(self, name)
                for name in ("connection_limit", "pool_timeout", "max_waiting", "max_sessions")
            )
        )


@dataclass(slots=True, frozen=True)
class AdmissionSettings:
    """What `Admission` is told (surface.md, `limits.*`). Times are seconds."""

    defaults: ClientLimits = field(default_factory=ClientLimits)
    overrides: tuple[Override, ...] = ()
    total_timeout: float = 60.0
    """How long a session waits because of other clients."""
    notice_after: float | None = 2.0
    """First NOTICE to a waiting session; None = none at all."""
    self_starvation_after: float = 2.0
    on_self_starvation: Literal["refuse", "wait"] = "refuse"
    serial: bool = False
    """Only one client at a time holds servers."""

    def limits_for(self, client: str) -> ClientLimits:
        """The limits of the client of that name."""
        limits = self.defaults
        for override in self.overrides:
            if fnmatchcase(client, override.client):
                limits = override.applied(limits)
        return limits
