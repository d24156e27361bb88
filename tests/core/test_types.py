"""The small types that the modules of the core share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_fakes import FakeNet, FakeOut, hub_settings

from pgguard.core.types import Client, Nowhere, Out, Recent
from pgguard.pool.admission import ClientLimits, Share

if TYPE_CHECKING:
    import pytest


def test_what_is_not_connected_swallows_everything() -> None:
    nowhere: Out = Nowhere()
    nowhere.write(b"x")
    nowhere.forward(b"x")
    nowhere.pause_reading()
    nowhere.resume_reading()
    nowhere.write_eof()
    nowhere.close()
    nowhere.abort()
    assert not nowhere.gone()


def test_the_limits_of_a_client_are_those_of_its_share() -> None:
    share = Share("a", ClientLimits(5))
    client = Client("a", "address", share)
    share.limits = ClientLimits(3)
    assert client.limits.connection_limit == 3


def test_clients_are_equal_only_to_themselves() -> None:
    share = Share("a", ClientLimits())
    assert Client("a", "address", share) != Client("a", "address", share)
    assert len({Client("a", "address", share), Client("a", "address", share)}) == 2


def test_the_fakes_have_all_that_the_protocols_ask_for() -> None:
    out: Out = FakeOut()
    asked = [name for name in vars(Out) if not name.startswith("_")]
    assert all(callable(getattr(out, name)) for name in asked)
    assert all(hasattr(FakeNet(), name) for name in ("dial", "probe", "cancel", "analyse"))


def test_who_does_not_say_how_to_name_clients_gets_the_rules_that_need_no_procfs() -> None:
    rules = ("startup_setting", "user_suffix", "application_name", "address")
    assert hub_settings().identify == rules


def test_recent_numbers_are_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recent, "LIMIT", 2)
    recent = Recent()
    for number in (1, 2, 1, 3):
        recent.add(number)
    assert list(recent) == [1, 3]
