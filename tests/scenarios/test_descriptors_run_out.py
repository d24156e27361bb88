"""Bug class: no descriptor is left, and the process spins, dies or drops somebody (R41)."""

from __future__ import annotations

import json
import os
import resource
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from commands import environment, start_pgguard
from guard import WITHIN

pytestmark = pytest.mark.slow

FREE = ("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ready-json")


def test_accepting_span_when_descriptors_had_run_out(tmp_path: Path, database: Any) -> None:
    """pg_doorman 3.10.5, 3.10.6: pgguard rests, says so once, and takes who has waited after all.

    Who is there already is served meanwhile.
    """
    command = ("serve", *FREE, "--upstream", database.url)
    process = start_pgguard(*command, cwd=tmp_path, env=environment())
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        told = json.loads(process.stdout.readline())
        with psycopg.connect(told["url"], autocommit=True) as there, ExitStack() as crowd:
            used = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used, hard))
            for _ in range(8):
                address = (told["host"], told["port"])
                crowd.enter_context(socket.create_connection(address, WITHIN))
            assert any("no descriptors left" in line for line in iter(process.stderr.readline, ""))
            began = ticks(process.pid)
            for number in range(50):
                assert there.execute("SELECT %s::int", [number]).fetchone() == (number,)
            there.execute("SELECT pg_sleep(0.6)")
            # So long a spinning is 60 of these; the statements are a few.
            assert ticks(process.pid) - began < 35
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (hard, hard))
            with psycopg.connect(told["url"]) as later:
                assert later.execute("SELECT 1").fetchone() == (1,)
        process.terminate()
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "no descriptors left" not in said
        assert "Traceback" not in said
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def ticks(pid: int) -> int:
    """Hundredths of a second that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 100 // os.sysconf("SC_CLK_TCK")
