"""Directories of runs: what is kept, what is removed, what is never touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pgguard.errors import LaunchError
from pgguard.launch.runs import create_run, run_name, write_file


def test_a_name_tells_the_time_and_sorts_by_it() -> None:
    assert run_name(0.0, 7) == "19700101T000000Z-7"
    assert run_name(1_000_000_000.0, 8) < run_name(1_000_000_001.5, 7)


def test_a_run_gets_a_directory_that_git_ignores_and_last_points_at(tmp_path: Path) -> None:
    first = create_run(tmp_path, run_name(0.0, 7), keep=20)
    second = create_run(tmp_path, run_name(1.0, 7), keep=20)
    folder = tmp_path / ".pgguard"
    assert first.parent == second.parent == folder
    assert (folder / ".gitignore").read_text() == "*\n"
    assert (folder / "last").resolve() == second
    assert first.is_dir()


def test_two_runs_of_the_same_second_and_process_do_not_share(tmp_path: Path) -> None:
    paths = {create_run(tmp_path, run_name(0.0, 7), keep=20) for _ in range(3)}
    assert len(paths) == 3


def test_only_the_newest_are_kept_and_only_runs_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / ".pgguard"
    folder.mkdir()
    (folder / "19700101T000000Z-mine").mkdir()
    (folder / "notes").write_text("precious")
    paths = [create_run(tmp_path, run_name(float(at), 7), keep=3) for at in range(6)]
    assert [path.exists() for path in paths] == [False] * 3 + [True] * 3
    assert (folder / "notes").exists()
    assert (folder / "19700101T000000Z-mine").exists()


def test_a_symbolic_link_named_as_a_run_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / ".pgguard").mkdir()
    (tmp_path / ".pgguard" / "19600101T000000Z-1").symlink_to(elsewhere)
    create_run(tmp_path, run_name(0.0, 7), keep=1)
    assert elsewhere.is_dir()


def test_a_directory_named_last_stays(tmp_path: Path) -> None:
    (tmp_path / ".pgguard" / "last").mkdir(parents=True)
    assert create_run(tmp_path, run_name(0.0, 7), keep=1).is_dir()
    assert not (tmp_path / ".pgguard" / "last").is_symlink()


def test_where_nothing_can_be_written_the_place_is_named(tmp_path: Path) -> None:
    (tmp_path / ".pgguard").write_text("a file in the way")
    with pytest.raises(LaunchError, match=r"no report: .*\.pgguard"):
        create_run(tmp_path, run_name(0.0, 7), keep=1)
    with pytest.raises(LaunchError, match="no report"):
        write_file(tmp_path / ".pgguard" / "x" / "y.json", "{}")


def test_a_report_is_written_as_a_whole_with_its_directories(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.txt"
    write_file(path, "first\n")
    write_file(path, "odd \udce9\n")
    assert path.read_text() == "odd \\udce9\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["report.txt"]


def test_a_device_or_a_link_is_written_through_and_never_replaced(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(file)
    write_file(link, "text\n")
    assert link.is_symlink()
    assert file.read_text() == "text\n"
    write_file(Path(os.devnull), "gone")
    assert not Path(os.devnull).is_file()
