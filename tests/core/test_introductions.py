"""What startup packets say is worked out once, and said of nobody who has not said it."""

from __future__ import annotations

import pytest
from core_fakes import World

from pgguard.core import introductions
from pgguard.core.introductions import Introductions
from pgguard.errors import LoginRefused, ProtocolViolation
from pgguard.pool.identity import ProcessInfo
from pgguard.wire.codes import PROTOCOL_3_0, PROTOCOL_3_2, SSL_REQUEST
from pgguard.wire.startup import build_request, build_startup


def packet(protocol: int = PROTOCOL_3_0, **parameters: str) -> bytes:
    return build_startup(protocol, {"user": "app", **parameters})


def test_the_same_bytes_are_read_once_and_any_others_anew() -> None:
    known = Introductions()
    first = known.of(packet(database="shop"), "%")
    assert known.of(packet(database="shop"), "%") is first
    assert known.of(packet(database="shop", application_name="a"), "%") is not first
    assert known.of(packet(PROTOCOL_3_2, database="shop"), "%").secret_length == 32
    assert (first.secret_length, first.user, first.database) == (4, "app", "shop")


def test_another_separator_makes_another_user_of_it() -> None:
    known = Introductions()
    assert known.of(packet(user="app%w1"), "%").user == "app"
    assert known.of(packet(user="app%w1"), "").user == "app%w1"


def test_what_is_refused_is_refused_each_time() -> None:
    known = Introductions()
    for _ in range(2):
        with pytest.raises(LoginRefused, match="unsupported frontend protocol"):
            known.of(build_request(SSL_REQUEST), "%")
        with pytest.raises(ProtocolViolation, match="layout"):
            known.of(b"\0\0\0\x0a\0\3\0\0xx", "%")


def test_few_packets_are_kept_and_no_long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introductions, "MOST", 3)
    known = Introductions()
    for number in range(10):
        known.of(packet(application_name=f"name {number}"), "%")
        assert len(known._known) <= 3
    long = packet(options="-c a.b=" + "x" * introductions.LONGEST)
    assert known.of(long, "%") is not known.of(long, "%")


def test_the_same_words_from_another_process_are_another_client() -> None:
    world = World(identify=("application_name", "process", "address"))
    keys = []
    for process in (ProcessInfo(1, "python a.py"), ProcessInfo(2, "python b.py"), None):
        world.net.at_once = process
        for _ in range(2):
            session = world.enter(application_name="psql")
            world.hub.identified(session)
            keys.append(session.client.key)
    assert keys == ["python a.py"] * 2 + ["python b.py"] * 2 + ["127.0.0.1"] * 2
    world.end()


def test_sessions_that_say_the_same_share_what_they_said() -> None:
    world = World(sharing=True)
    first, second = (world.enter(database="shop") for _ in range(2))
    assert first.parameters is second.parameters
    world.end()
