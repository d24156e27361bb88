"""`python -m tests.bench NAME|all [--short]`: what pgguard costs, beside others, in one run.

Every figure is a ratio between programs that were measured turn by turn on this machine.
"""

from __future__ import annotations

import sys

from tests.conformance import harness

RUNS = {
    "cpu": "tests.bench.cpu",
    "connects": "tests.bench.connects",
    "guard": "tests.bench.guard",
    "results": "tests.bench.results",
    "sharing": "tests.bench.sharing",
    "startup": "tests.bench.startup",
}

if __name__ == "__main__":
    sys.exit(harness.main("tests.bench", RUNS, sys.argv[1:]))
