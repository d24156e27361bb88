"""How Postgres receives each user: what is remembered, and for how long."""

from __future__ import annotations

from core_fakes import Clock, World

from pgguard.core.login import Method
from pgguard.core.methods import METHOD_LIFETIME, METHODS_LIMIT, Methods


def test_what_was_learned_is_known_for_a_while() -> None:
    clock = Clock()
    methods = Methods(clock)
    assert methods.known("app", "shop") is None
    methods.learned("app", "shop", Method.TRUST)
    clock.now += METHOD_LIFETIME
    assert methods.known("app", "shop") is Method.TRUST
    assert methods.known("app", "other") is None
    clock.now += 0.1
    assert methods.known("app", "shop") is None


def test_what_was_of_no_use_is_forgotten() -> None:
    methods = Methods(Clock())
    methods.learned("app", "shop", Method.SCRAM)
    assert methods.ever(Method.SCRAM)
    assert not methods.ever(Method.TRUST)
    methods.forget("app", "shop")
    assert methods.known("app", "shop") is None


def test_methods_of_names_that_nobody_has_are_bounded() -> None:
    methods = Methods(Clock())
    for number in range(3 * METHODS_LIMIT):
        methods.learned(f"user{number}", "shop", Method.SCRAM)
    assert len(methods) <= METHODS_LIMIT


def test_all_who_want_to_know_the_same_wait_for_one_probe() -> None:
    world = World(method=None)
    methods = Methods(world.clock)
    sessions = [world.open() for _ in range(3)]
    assert [methods.wait(session) for session in sessions] == [True, False, False]
    assert methods.is_awaited("", "")
    assert methods.take("", "") == sessions
    assert not methods.probing
    world.end()


def test_a_probe_for_which_nobody_waits_any_more_is_over() -> None:
    world = World(method=None)
    methods = Methods(world.clock)
    session = world.open()
    methods.wait(session)
    world.reset(session)
    assert not methods.is_awaited("", "")
    assert not methods.probing
    world.end()
