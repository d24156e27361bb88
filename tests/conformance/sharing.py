"""`sharing`: many sessions on few server connections, in transparent mode.

pgbench with four times as many clients as servers, and ten files that keep a hundred connections
open each, in front of a Postgres of thirty. Postgres is the witness: its log shows a 53300 of its
own.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from dataclasses import dataclass

from tests.conformance import fetching, harness
from tests.conformance.rawsession import RawSession

MAX_CONNECTIONS = 30
SHARED = {"pool.mode": "transparent"}

CLIENTS, SERVERS = 32, 8
LIMIT_MS = 3000
"""Milliseconds within which one thread with more connections than servers is answered."""

FILES, KEPT, CAP, ROUNDS = 10, 100, 2, 5


@dataclass(frozen=True, slots=True)
class Load:
    """One way of pgbench."""

    protocol: str
    script: str

    @property
    def name(self) -> str:
        return f"pgbench {self.protocol}, {'SELECT' if self.script == '-S' else 'TPC-B'}"

    def arguments(self) -> list[str]:
        return ["-n", "-M", self.protocol, *([self.script] if self.script else [])]


LOADS = [
    Load(protocol, script)
    for script in ("-S", "")
    for protocol in ("simple", "extended", "prepared")
]


def run(checks: harness.Checks, short: bool) -> None:
    """All parts; the short form has fewer transactions and files."""
    program = fetching.program("pgbench", "postgresql-contrib", first=fetching.wheel_programs())
    with harness.postgres(max_connections=MAX_CONNECTIONS) as server:
        _pgbench(str(program), server.address, ["-i", "-q", "-s", "2"])
        _programs(checks, str(program), server, 50 if short else 400)
        _one_thread(checks, str(program), server, 20 if short else 100)
        _files(checks, server, 3 if short else FILES)
        log = server.log.read_text(errors="replace")
        refused = len(re.findall("too many clients|remaining connection slots", log))
        checks.claim(refused == 0, "53300 from Postgres, in its own log", refused, "0")


def _pgbench(program: str, address: harness.Address, arguments: list[str]) -> str:
    """What pgbench prints; its complaints, too."""
    done = subprocess.run(
        [program, *arguments],
        env=harness.clean_environment() | address.environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    said = done.stdout + done.stderr
    return said if done.returncode == 0 else f"{said}\nexit code {done.returncode}"


def _problems(said: str) -> str:
    found = re.findall(r".*(?:error|abort|exit code|failed: [1-9]).*", said)
    return found[0] if found else ""


def _programs(checks: harness.Checks, program: str, server: harness.Postgres, each: int) -> None:
    """32 clients on 8 servers, in every protocol."""
    for load in LOADS:
        with harness.Guard(
            server.address, SHARED | {"limits.connection_limit": str(SERVERS)}
        ) as guard:
            arguments = [*load.arguments(), "-c", str(CLIENTS), "-j", "2", "-t", str(each)]
            said = _pgbench(program, guard.address, arguments)
            done = re.search(r"actually processed: (\d+)/(\d+)", said)
            whole = done is not None and done[1] == done[2]
            figure = _problems(said) or (done[0] if done else said[-200:])
            checks.claim(
                whole and not _problems(said),
                f"{load.name}, {CLIENTS} clients on {SERVERS} servers",
                figure,
                f"{each * CLIENTS} transactions, no error",
            )
            peak = max(guard.metrics().by("client_server_connections_peak", "client").values())
            checks.claim(peak <= SERVERS, "its server connections at once", int(peak), f"{SERVERS}")


def _one_thread(checks: harness.Checks, program: str, server: harness.Postgres, each: int) -> None:
    """One thread with 8 connections on a cap of 4."""
    with harness.Guard(server.address, SHARED | {"limits.connection_limit": "4"}) as guard:
        arguments = ["-n", "-c", "8", "-j", "1", "-t", str(each), "-L", str(LIMIT_MS)]
        said = _pgbench(program, guard.address, arguments)
        late = re.search(r"latency limit: (\d+)/(\d+)", said)
        in_time = late is not None and late[1] == "0" and int(late[2]) == 8 * each
        checks.claim(
            in_time and not _problems(said),
            "one thread with 8 connections on a cap of 4",
            _problems(said) or (f"{late[1]} of {late[2]} over the limit" if late else said[-200:]),
            f"all {8 * each} answered within {LIMIT_MS / 1000:g} s",
        )


def _files(checks: harness.Checks, server: harness.Postgres, files: int) -> None:
    """Each file keeps a hundred connections open, and uses all of them in turn."""
    wanted = SHARED | {"limits.connection_limit": str(CAP)}
    with harness.Guard(server.address, wanted) as guard:
        served = asyncio.run(asyncio.wait_for(_keep(guard, files), 180))
        asked = files * KEPT * ROUNDS
        checks.claim(
            served == asked,
            f"{files} files with {KEPT} connections kept open each, max_connections "
            f"{MAX_CONNECTIONS}: queries answered",
            served,
            f"{asked}",
        )
        refused = sum(guard.metrics().by("refusals_total", "reason").values())
        checks.claim(refused == 0, "refusals", int(refused), "0")


async def _keep(guard: harness.Guard, files: int) -> int:
    async def file(number: int) -> int:
        name, right = f"test_{number}.py", 0
        kept = [await RawSession.open(guard.address, application_name=name) for _ in range(KEPT)]
        for turn in range(ROUNDS):
            tokens = [f"{name} {at} {turn}" for at in range(KEPT)]
            answers = await asyncio.gather(
                *(
                    session.query(f"SELECT '{token}'")
                    for session, token in zip(kept, tokens, strict=True)
                )
            )
            for token, messages in zip(tokens, answers, strict=True):
                right += any(kind == b"D" and token.encode() in body for kind, body in messages)
        for session in kept:
            session.vanish("fin")
        return right

    return sum(await asyncio.gather(*map(file, range(files))))
