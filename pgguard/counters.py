"""Plain integers that the core increments and `record/metrics` reads when it is scraped.

Laws: no locks, no I/O, no prometheus_client; names are those of the metrics in surface.md without
prefix and suffix; times are seconds, sizes are bytes.
"""

from __future__ import annotations

from bisect import bisect_left

SECONDS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""Upper bounds of the buckets of every histogram of times, in seconds."""

VERDICTS = 7
"""How many verdicts there are (`findings.Verdict`)."""


class Histogram:
    """Counts per bucket (one more than `bounds`: the last is +Inf), and the sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self.counts)

    def __add__(self, other: Histogram) -> Histogram:
        """Both together; their bounds must be the same."""
        both = Histogram(self.bounds)
        both.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        both.sum = self.sum + other.sum
        return both


class PinTally:
    """How often a client's sessions were pinned for one reason, and by which statement first."""

    __slots__ = ("number", "statement")

    def __init__(self, statement: str) -> None:
        self.number = 0
        self.statement = statement
        """Its literals masked."""


class ClientCounters:
    """What is counted per client."""

    __slots__ = (
        "peak_sessions",
        "pins",
        "refusals",
        "sessions",
        "statements",
        "waited",
        "waited_max",
        "waits",
    )

    def __init__(self) -> None:
        self.sessions = 0
        """Sessions ever opened."""
        self.peak_sessions = 0
        self.statements = [0] * VERDICTS
        """Executions by `findings.Verdict`."""
        self.refusals: dict[str, int] = {}
        """By reason: cap, total, max_waiting, max_sessions, self_starvation, draining, upstream."""
        self.pins: dict[str, PinTally] = {}
        """By reason."""
        self.waits = 0
        """Tickets that had to wait and were granted or refused."""
        self.waited = 0.0
        self.waited_max = 0.0


class ProcessCounters:
    """What is counted once per process."""

    __slots__ = (
        "added_analysis",
        "added_loop",
        "added_wait",
        "analysis_seconds",
        "autocommit_seconds",
        "cache_hits",
        "cache_misses",
        "cancels",
        "errors",
        "events_dropped",
        "idle_in_transaction_seconds",
        "internal_errors",
        "logins_ended",
        "loop_lag_seconds",
        "pinned_transactions",
        "pool_wait_seconds",
        "received_bytes",
        "sent_bytes",
        "settled",
        "statement_seconds",
        "transaction_seconds",
        "transactions",
        "unknown_messages",
        "upstream_up",
    )

    def __init__(self) -> None:
        self.received_bytes = 0
        """From sessions."""
        self.sent_bytes = 0
        """To sessions."""
        self.cache_hits = 0
        """Texts found by shape or digits, or found by someone who counts."""
        self.cache_misses = 0
        self.settled = 0
        """Executions that were counted outside of the hot loop."""
        self.pinned_transactions: dict[str, int] = {}
        """By reason."""
        """Of those that have ended, those whose session kept its server for a reason then."""
        self.cancels = 0
        self.unknown_messages = 0
        self.internal_errors = 0
        self.logins_ended = 0
        """Sessions that said who they are and never got in: refused, or gone."""
        self.events_dropped = 0
        self.errors: dict[str, int] = {}
        """ErrorResponses of the servers by SQLSTATE."""
        self.transactions = {"commit": 0, "rollback": 0}
        self.upstream_up = False
        self.loop_lag_seconds = 0.0
        self.autocommit_seconds = Histogram()
        """Statements that were a committed transaction of their own: the common case, counted here
        alone and left out of `statement_seconds`, `transaction_seconds` and `transactions`."""
        self.statement_seconds = Histogram()
        self.transaction_seconds = Histogram()
        self.idle_in_transaction_seconds = Histogram()
        self.pool_wait_seconds = Histogram()
        self.analysis_seconds = Histogram()
        self.added_wait = Histogram()
        self.added_analysis = Histogram()
        self.added_loop = Histogram()
