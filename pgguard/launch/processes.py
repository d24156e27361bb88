"""Who a process is, beyond its number, which the system gives away again.

Laws: pid and start time together name a process; a zombie is dead; a process of another pid
namespace is never judged by its number here.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple, Self


class Process(NamedTuple):
    pid: int
    start: str
    """As the system tells it (clock ticks since boot on Linux, a date elsewhere); "" = gone."""
    namespace: str

    @classmethod
    def of(cls, pid: int) -> Self:
        return cls(pid, start_time(pid), pid_namespace())


def this_process() -> Process:
    return Process.of(os.getpid())


def alive(process: Process) -> bool:
    """Whether that very process still runs."""
    return process.start != "" and start_time(process.pid) == process.start


def start_time(pid: int) -> str:
    """When the process with this number started; empty when there is none or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except FileNotFoundError:
        return "" if Path("/proc/self/stat").exists() else _start_by_ps(pid)
    except OSError:
        return ""
    # proc(5): the command, in brackets, may itself hold brackets and spaces; state comes after it
    # and starttime is field 22.
    fields = text[text.rindex(")") + 2 :].split()
    return "" if fields[0] in "ZX" else fields[19]


def pid_namespace() -> str:
    """Identity of the space in which pids mean something; the host's name where unknown."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return os.uname().nodename


def _start_by_ps(pid: int) -> str:
    done = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = done.stdout.strip().partition(" ")
    return "" if done.returncode or state.startswith("Z") else started.strip()
