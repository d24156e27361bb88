"""Cancel keys: whose server a CancelRequest means."""

from __future__ import annotations

import pytest

from pgguard.core.cancel import SECRET_3_0, SECRET_3_2, CancelKeys


@pytest.fixture
def keys() -> CancelKeys[str]:
    keys: CancelKeys[str] = CancelKeys()
    keys.add(7, b"aaaa", "first")
    keys.add(7, b"bbbb", "second")
    keys.add(8, b"cccc", "third")
    return keys


@pytest.mark.parametrize(
    ("pid", "secret", "meant"),
    [
        (7, b"aaaa", "first"),
        (7, b"bbbb", "second"),
        (8, b"cccc", "third"),
        (8, b"aaaa", None),
        (9, b"aaaa", None),
        (7, b"aaaab", None),
        (7, b"", None),
    ],
)
def test_pid_and_secret_name_one_session(
    keys: CancelKeys[str], pid: int, secret: bytes, meant: str | None
) -> None:
    assert keys.find(pid, secret) == meant


def test_a_key_that_was_removed_names_nobody_and_leaves_the_others(keys: CancelKeys[str]) -> None:
    keys.remove(7, "first")
    assert keys.find(7, b"aaaa") is None
    assert keys.find(7, b"bbbb") == "second"
    assert len(keys) == 2


def test_removing_what_is_not_there_changes_nothing(keys: CancelKeys[str]) -> None:
    keys.remove(7, "third")
    keys.remove(99, "first")
    assert len(keys) == 3


def test_nothing_is_kept_of_a_pid_without_sessions(keys: CancelKeys[str]) -> None:
    for pid, session in ((7, "first"), (7, "second"), (8, "third")):
        keys.remove(pid, session)
    assert len(keys) == 0
    assert not keys._keys


def test_secrets_have_the_lengths_of_the_protocol() -> None:
    assert (SECRET_3_0, SECRET_3_2) == (4, 32)
