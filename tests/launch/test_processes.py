"""Pid and start time: the same number is not the same process."""

from __future__ import annotations

import os
import subprocess
import sys

from pgguard.launch import processes
from pgguard.launch.processes import Process, alive, start_time, this_process


def test_this_process_is_alive() -> None:
    assert alive(this_process())


def test_the_same_number_with_another_start_is_another_process() -> None:
    assert not alive(this_process()._replace(start="1"))


def test_a_zombie_is_dead_before_and_after_it_is_waited_for() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    known = Process.of(child.pid)
    assert alive(known)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not alive(known)
    child.communicate()
    assert not alive(known)


def test_a_process_that_never_was_has_no_start() -> None:
    assert start_time(2**22 + 1) == ""


def test_ps_tells_a_start_where_there_is_no_procfs() -> None:
    own = processes._start_by_ps(os.getpid())
    assert own
    assert processes._start_by_ps(os.getpid()) == own
    assert processes._start_by_ps(2**22 + 1) == ""
