"""Every dialogue of tests/transcripts, as written, cut at every byte, and joined."""

from __future__ import annotations

from pathlib import Path

import pytest
from transcript import Transcript

FILES = sorted((Path(__file__).parents[1] / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_dialogue_is_the_same_whole_cut_and_joined(path: Path) -> None:
    Transcript.read(path).check_all()


def test_there_are_dialogues() -> None:
    assert len(FILES) >= 40
