"""psql as a probe: scripts on its standard input, all that it prints as the outcome.

The program is `PROBE_PSQL`. What an older psql lacks (\\bind from 16 on, \\parse and pipelines
from 18 on) is not offered by it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conformance.drivers import probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance.harness import Address

PSQL = os.environ.get("PROBE_PSQL", "psql")
VERBOSE = "\\set VERBOSITY verbose\n"


def psql(address: Address, script: str, *arguments: str, **variables: str) -> list[Any]:
    """Exit code, output and errors of one run."""
    done = subprocess.run(
        [PSQL, "-X", "-A", *arguments],
        input=script.encode(),
        env=os.environ | address.environment() | variables,
        capture_output=True,
        timeout=50,
    )
    told = done.stderr.decode().replace(PSQL, "psql").splitlines()
    return [done.returncode, done.stdout.decode().splitlines(), told]


def version() -> int:
    said = subprocess.run([PSQL, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"\d+", said)
    return int(found.group()) if found else 0


def since(needed: int, script: str) -> Callable[[Address], list[Any]]:
    def run(address: Address) -> list[Any]:
        if version() < needed:
            raise probe.Absent(f"from psql {needed} on, this is {version()}")
        return psql(address, VERBOSE + script)

    return run


def login(address: Address) -> list[Any]:
    script = (
        "SHOW application_name;\nSHOW work_mem;\n\\encoding\n"
        "\\echo :SERVER_VERSION_NUM :USER :DBNAME\n"
    )
    seen = [psql(address, script, PGOPTIONS="-c work_mem=1MB")]
    seen.append(psql(address, "", PGPASSWORD="wrong"))
    seen.append(psql(address, "", PGUSER="nobody"))
    seen.append(psql(address, "", PGDATABASE="nowhere"))
    seen.append(psql(address, "", PGOPTIONS="-c nonsense=1"))
    return seen


def simple(address: Address) -> list[Any]:
    texts = (probe.VALUES, "SELECT 1\\; SELECT 2", probe.NOTICES, "SELEC 1", "\\d", "\\l", "\\du")
    script = VERBOSE + "".join(f"{text};\n" if text[0] != "\\" else f"{text}\n" for text in texts)
    seen = [psql(address, script)]
    seen.append(psql(address, "", "-c", "SELECT 1; SELECT 2/0; SELECT 3"))
    seen.append(psql(address, "SELECT 1;\nSELECT 2/0;\nSELECT 3;\n", "-1", "-v", "ON_ERROR_STOP=1"))
    return seen


EXTENDED = (
    "SELECT $1::int + $2 AS sum \\bind 40 2 \\g\n"
    "SELECT $1::text \\bind 'a b' \\g\n"
    "SELECT $1::int \\bind 'no number' \\g\n"
    "SELECT $1, $2 \\bind 1 \\g\n"
    "SELECT 1/0 \\bind \\g\nSELECT 'after' \\bind \\g\nSELECT 1 AS described \\gdesc\n"
)
PREPARED = (
    "SELECT $1::int * 2 AS twice \\parse twice\n"
    "\\bind_named twice 1 \\g\n\\bind_named twice 2 \\g\n\\bind_named unknown \\g\n"
    "SELECT name, statement, parameter_types FROM pg_prepared_statements;\n"
    "SELECT 1 \\parse twice\n\\close_prepared twice\n\\bind_named twice 3 \\g\n"
)
PIPELINE = (
    "\\startpipeline\n"
    "SELECT $1::int \\bind 1 \\sendpipeline\nSELECT $1::int \\bind 2 \\sendpipeline\n"
    "\\syncpipeline\nSELECT 1/0 \\bind \\sendpipeline\nSELECT 3 \\bind \\sendpipeline\n"
    "\\syncpipeline\nSELECT 4 \\bind \\sendpipeline\n\\flushrequest\n\\getresults\n"
    "\\endpipeline\nSELECT 'after';\n"
)


def copy(address: Address) -> list[Any]:
    lines = "".join(f"{n}\tname {n}\n" for n in range(100_000))
    script = (
        f"{VERBOSE}{probe.TABLE};\nCOPY item FROM STDIN;\n{lines}\\.\n"
        "SELECT count(*) FROM item;\nCOPY item FROM STDIN;\nx\tno number\n\\.\n"
        "COPY item FROM STDIN;\n5\ttwice\n\\.\n\\copy item (id, name) from stdin csv\n"
        "200000,a\n\\.\n"
    )
    seen = [psql(address, script)]
    numbers = "COPY (SELECT n, md5(n::text) FROM generate_series(1, 100000) n) TO STDOUT"
    out = psql(address, f"{numbers};\n\\copy (select 1, 2) to stdout csv\n")
    seen.append([out[0], probe.digest("\n".join(out[1])), out[2]])
    seen.append(psql(address, "COPY (SELECT 1/(50-n) FROM generate_series(1,99) n) TO STDOUT;\n"))
    return seen


def cancel(address: Address) -> list[Any]:
    script = f"\\warn started\n{probe.SLEEP};\nSELECT 'after';\n"
    process = subprocess.Popen(
        [PSQL, "-X", "-A", "-v", "VERBOSITY=verbose", "-f", "-"],
        env=os.environ | address.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stderr
    process.stdin.write(script)
    process.stdin.flush()
    seen: list[Any] = [process.stderr.readline()]
    time.sleep(probe.CANCEL_AFTER)
    process.send_signal(signal.SIGINT)
    out, told = process.communicate(timeout=40)
    return [*seen, process.returncode, out, told]


def notify(address: Address) -> list[Any]:
    seen = psql(
        address,
        "LISTEN conformance_psql;\nNOTIFY conformance_psql, 'one';\n"
        "SELECT pg_notify('conformance_psql', 'two');\nUNLISTEN *;\n"
        "NOTIFY conformance_psql, 'unheard';\n",
    )
    return [re.sub(r"PID \d+", "PID N", line) for line in seen[1]] + [seen[0], seen[2]]


def cursors(address: Address) -> list[Any]:
    script = (
        "\\set FETCH_COUNT 100\nSELECT sum(n) OVER () FROM generate_series(1, 1000) n;\n"
        "\\unset FETCH_COUNT\nBEGIN;\n"
        "DECLARE moving SCROLL CURSOR FOR SELECT n FROM generate_series(1, 1000) n;\n"
        "FETCH 3 FROM moving;\nMOVE 500 FROM moving;\nFETCH BACKWARD 2 FROM moving;\n"
        "DECLARE held CURSOR WITH HOLD FOR SELECT 1;\nCOMMIT;\nFETCH ALL FROM held;\n"
        "FETCH 1 FROM moving;\n"
    )
    return psql(address, VERBOSE + script)


def mistakes(address: Address) -> list[Any]:
    steps = [probe.TABLE]
    for text in probe.MISTAKES:
        steps += [text, "BEGIN", text, "SELECT 1", "COMMIT"]
    steps += ["BEGIN", "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a", "SELECT 'kept'", "COMMIT"]
    body = "".join(f"{step};\n" for step in steps)
    seen = [psql(address, f"{VERBOSE}{body}\\errverbose\n")]
    seen.append(psql(address, f"\\set ON_ERROR_ROLLBACK on\nBEGIN;\n{body}"))
    seen.append(psql(address, "SELECT pg_terminate_backend(pg_backend_pid());\nSELECT 1;\n"))
    return seen


def large(address: Address) -> list[Any]:
    value = probe.BLOCK * probe.MEGABYTES
    up = psql(address, f"SELECT md5('{value}');\n")
    down = psql(address, f"SELECT {probe.BLOCK_SQL};\n", "-t")
    return [up, probe.digest(down[1][0])]


PROBES = {
    "login": login,
    "simple": simple,
    "extended": since(16, EXTENDED),
    "prepared reuse": since(18, PREPARED),
    "pipelining": since(18, PIPELINE),
    "COPY": copy,
    "cancel": cancel,
    "LISTEN/NOTIFY": notify,
    "cursors": cursors,
    "errors": mistakes,
    "100 MB values": large,
}

if __name__ == "__main__":
    assert Path(PSQL).name == "psql"
    probe.serve(PROBES)
