"""Whose row a key is: bounded, newest word, forgotten at once."""

from __future__ import annotations

from pgguard.tenancy import ownership
from pgguard.tenancy.ownership import Owners

ITEMS = ("public", "items")


def test_rows_are_somebodys_only_if_all_are_known() -> None:
    owners = Owners()
    owners.learn(ITEMS, ("id",), "1", "a")
    owners.learn(ITEMS, ("id",), "2", "b")
    assert owners.of(ITEMS, ("id",), ["1"]) == {"a"}
    assert owners.of(ITEMS, ("id",), ["1", "2"]) == {"a", "b"}
    assert owners.of(ITEMS, ("id",), ["1", "3"]) is None
    assert owners.of(ITEMS, ("id",), []) is None
    assert owners.of(("public", "other"), ("id",), ["1"]) is None


def test_the_newest_word_counts_and_all_can_be_forgotten() -> None:
    owners = Owners()
    owners.learn(ITEMS, ("id",), "1", "a")
    owners.learn(ITEMS, ("id",), "1", "b")
    assert owners.of(ITEMS, ("id",), ["1"]) == {"b"}
    owners.forget()
    assert len(owners) == 0


def test_the_oldest_goes_when_there_are_too_many() -> None:
    owners = Owners()
    for number in range(ownership.MOST + 1):
        owners.learn(ITEMS, ("id",), str(number), "a")
    assert len(owners) == ownership.MOST
    assert owners.of(ITEMS, ("id",), ["0"]) is None
