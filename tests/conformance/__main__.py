"""`python -m tests.conformance NAME|all [--short]`: pgguard against the world outside of it."""

from __future__ import annotations

import sys

from tests.conformance import harness

RUNS = {
    "drivers": "tests.conformance.drivers.matrix",
    "suites": "tests.conformance.suites.matrix",
    "fuzz": "tests.conformance.fuzz.fuzzer",
    "caps": "tests.conformance.caps",
    "guards": "tests.conformance.guards",
    "matrix": "tests.conformance.matrix",
    "pythons": "tests.conformance.pythons",
    "memory": "tests.conformance.memory",
    "flood": "tests.conformance.flood.deluge",
    "findings": "tests.conformance.findings",
    "pglite": "tests.conformance.pglite",
    "transparent": "tests.conformance.transparent",
    "sharing": "tests.conformance.sharing",
    "batches": "tests.conformance.batches.batches",
    "features": "tests.conformance.features.probe",
    "stress": "tests.conformance.stress.storm",
    "regress": "tests.conformance.regress.suites",
    "shutdown": "tests.conformance.shutdown",
    "logins": "tests.conformance.logins.table",
    "tenancy": "tests.conformance.tenancy.measure",
    "evasion": "tests.conformance.tenancy.evasion",
    "orm": "tests.conformance.tenancy.orm",
    "readme": "tests.conformance.readme",
}

if __name__ == "__main__":
    sys.exit(harness.main("tests.conformance", RUNS, sys.argv[1:]))
